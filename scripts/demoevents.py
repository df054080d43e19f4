"""The second half of `make demo`: a picture uploaded by boto3 becomes a thumbnail, and a rule of a bus tells of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from fuyun.client.platform import Platform
from fuyun.domain.deliveries import Delivery
from fuyun.domain.invocations import Invocation

KEY = "in/china.jpg"
FUNCTIONS = ("thumbnail", "announce")
#: Runs a command of the CLI.
Run = Callable[..., None]


@dataclass(frozen=True)
class Shown:
    """What there is to show."""

    thumbnail: bytes
    trail: str
    lines: list[str]


def prepare(fuyun: Run) -> None:
    """Buckets, a bus, the example and a rule."""
    fuyun("bucket", "create", "photos")
    fuyun("bucket", "create", "thumbnails")
    fuyun("bus", "create", "pictures")
    fuyun("deploy", "examples/thumbnail")
    fuyun("bus", "rule", "pictures", "announce", "--to", "function:announce", "--filter", '{"type": "thumbnail.made"}')


def upload(platform: Platform, photo: Path) -> Shown:
    """Upload it, wait for what follows, and tell what happened when. TimeoutError."""
    key_id = platform.profile.key.split("_")[1]
    access = platform.get_access_key(key_id, str(platform.get_info()["namespace"]))
    s3 = boto3.client(
        "s3", endpoint_url=access["endpoint"], aws_access_key_id=access["access_key"], region_name=access["region"],
        aws_secret_access_key=access["secret_key"], config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip
    try:
        s3.list_objects_v2(Bucket="photos")  # the client is ready, and connected
        began_s = time.time()
        s3.upload_file(str(photo), "photos", KEY)
        answered_s = time.time()
        deliveries, records = _wait(platform)
        thumbnail = s3.get_object(Bucket="thumbnails", Key=KEY)["Body"].read()
    finally:
        s3.close()
    happened = [(0.0, f"boto3 begins to upload {photo.stat().st_size:,} bytes to s3://photos/{KEY}"),
                (answered_s - began_s, "it is answered: the object is on disk, its event with it")]  # fmt: skip
    for name in FUNCTIONS:
        delivery, record = deliveries[name], records[name]
        ended_s = record.at_s + record.duration_ms / 1000
        happened += [
            (
                delivery.accepted_s - began_s,
                f"{delivery.origin} takes the event for {name}: on disk, hop {delivery.hops}",
            ),
            (record.at_s - began_s, f"{name} is called ({record.start_kind} start)"),
            (ended_s - began_s, f"{name} is done, its delivery {delivery.state}"),
        ]
    lines = [f"  {after_s * 1000:8.1f} ms  {text}" for after_s, text in sorted(happened, key=lambda one: one[0])]
    return Shown(thumbnail, deliveries["thumbnail"].trail, lines)


def _wait(platform: Platform) -> tuple[dict[str, Delivery], dict[str, Invocation]]:
    """Both deliveries and the records of their invocations, once all is done."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found: dict[str, Any] = {
            name: next(iter(platform.list_deliveries(target=f"function:{name}")), None) for name in FUNCTIONS
        }
        if all(one is not None and one.state in ("succeeded", "failed", "expired") for one in found.values()):
            records = {name: _record(platform, name, found[name].invocation) for name in FUNCTIONS}
            if all(records.values()):
                return found, {name: one for name, one in records.items() if one is not None}
        time.sleep(0.02)  # S3 has no way to wait for an object: a client of it asks again
    raise TimeoutError("the thumbnail was not made within 60 s: see the platform's log above")


def _record(platform: Platform, function: str, id_: str) -> Invocation | None:
    """Records are written a moment after the answer."""
    return next((one for one in platform.list_invocations(function) if one.id == id_), None)
