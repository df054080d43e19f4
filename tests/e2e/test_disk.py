"""A disk that is full, and one that the kernel has made read-only: what was accepted is kept, new work of every kind is
refused with 507 or 503 and a hint, and once the disk is well again nothing is left to be done by hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.running import Platform, own_account, running
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        os.geteuid() != 0, reason="mounts file systems, which needs root: run the tests as root as well"
    ),
]

BASE = "/v1/namespaces/default"
#: Writes down what it is called with, and fails while the disk is no good: its own words are lost then.
TAKE = """
from fuyun.sdk.streams import new_record

def handler(events, context):
    events = events if isinstance(events, list) else [events]
    context.streams.append_all("seen", [new_record((event.get("data") or event)["n"]) for event in events])
"""
BIG = "x" * 200_000


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


@contextmanager
def tmpfs(place: Path) -> Iterator[None]:
    """A small disk at `place`."""
    mount("-t", "tmpfs", "-o", "size=160m", "fuyun-test", str(place))
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def furnish(platform: Platform) -> None:
    """A function that hears of every source."""
    for path, body in (
        ("streams/seen", {}), ("streams/stream", {}), ("queues/queue", {"visibility_s": 5}), ("topics/topic", {}),
        ("buses/bus", {}), ("buckets/bucket", {}), ("tables/table", {}),
    ):  # fmt: skip
        assert platform.http.put(f"{platform.api}{BASE}/{path}", json=body).is_success
    platform.deploy(
        "take", TAKE, permissions={"streams": ["seen"]},
        triggers=[{"queue": {"queue": "queue"}}, {"stream": {"stream": "stream"}, "policy": {"start": "start"}}],
    )  # fmt: skip
    for path in ("topics/topic/subscriptions/s", "buses/bus/rules/r"):
        assert platform.http.put(f"{platform.api}{BASE}/{path}", json={"target": "function:take"}).is_success


def offer(platform: Platform, n: int, filling: str = "") -> dict[str, httpx.Response]:
    """One piece of work for each source, named by its number; what was answered."""
    data = {"n": n, "filling": filling}
    event = {"specversion": "1.0", "id": str(n), "source": "here", "type": "made", "data": data}
    asked: dict[str, tuple[str, Any, dict[str, str]]] = {
        "async": ("functions/take/invoke", data, {"fuyun-invocation-type": "async"}),
        "queue": ("queues/queue/messages", {"messages": [{"data": data}]}, {}),
        "topic": ("topics/topic/publish", {"messages": [{"data": data}]}, {}),
        "stream": ("streams/stream/records", {"records": [{"data": data}]}, {}),
        "bus": ("buses/bus/events", event, {"content-type": "application/cloudevents+json"}),
        "table": ("tables/table/write", {"changes": [{"put": {"id": str(n), "filling": filling}}]}, {}),
    }
    found = {}
    for source, (path, body, headers) in asked.items():
        headers = {"content-type": "application/json", **headers}
        found[source] = platform.http.post(f"{platform.api}{BASE}/{path}", content=json.dumps(body), headers=headers)
    return found


def seen(platform: Platform) -> list[int]:
    answer = platform.http.get(f"{platform.api}{BASE}/streams/seen/records", params={"limit": 500})
    return sorted(one["event"]["data"] for one in answer.json()["records"])


def assert_refused(answers: dict[str, httpx.Response]) -> None:
    for source, answer in answers.items():
        assert answer.status_code in (503, 507), (source, answer.status_code, answer.text)
        assert answer.json()["hint"], source


#: Sources that `take` hears of: all but the table.
HEARD = 5


def test_a_full_disk() -> None:
    with running(own_account(), disk=tmpfs) as platform:
        furnish(platform)
        assert {answer.is_success for answer in offer(platform, 1).values()} == {True}
        wait_until(lambda: seen(platform) == [1] * HEARD, "all to be heard", 30)
        filler = platform.data / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(1 << 16)):
                    pass
            except OSError:
                pass
        refused: dict[str, httpx.Response] = {}
        taken = 1
        while len(refused) < HEARD + 1:  # what is left in the database's own file may still take a few
            taken += 1
            assert taken < 100
            answers = offer(platform, taken, BIG)
            refused |= {source: answer for source, answer in answers.items() if not answer.is_success}
        assert_refused(refused)
        assert platform.http.get(f"{platform.api}/healthz").status_code == 200
        filler.unlink()
        wait_until(
            lambda: all(answer.is_success for answer in offer(platform, 100).values()), "work to be taken again", 30
        )
        wait_until(lambda: seen(platform).count(100) >= HEARD, "it to be heard", 60)


@contextmanager
def breakable(place: Path) -> Iterator[None]:
    """An ext4 file system in a file beside `place`; an error makes it read-only."""
    image = place.parent / "disk.img"
    with image.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-E", "root_owner", str(image)], check=True)
    mount("-o", "loop,errors=remount-ro", str(image), str(place))
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def break_disk(place: Path) -> None:
    """Have the kernel find an error in the file system."""
    device = next(line.split()[0] for line in Path("/proc/mounts").read_text().splitlines() if f" {place} " in line)
    Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error").write_text("1")


def mend_disk(place: Path) -> None:
    """What an operator does: unmount, check, mount again; of a copy, because others may have it mounted yet."""
    image = place.parent / "mended.img"
    subprocess.run(["umount", str(place)], check=True)
    shutil.copyfile(place.parent / "disk.img", image)
    subprocess.run(["e2fsck", "-fy", str(image)], check=False, capture_output=True)
    mount("-o", "loop,errors=remount-ro", str(image), str(place))


def test_a_disk_that_became_read_only() -> None:
    with running(own_account(), disk=breakable) as platform:
        furnish(platform)
        assert {answer.is_success for answer in offer(platform, 1).values()} == {True}
        wait_until(lambda: seen(platform) == [1] * HEARD, "all to be heard", 30)
        break_disk(platform.data)
        assert_refused(offer(platform, 2))
        assert platform.http.get(f"{platform.api}/healthz").status_code == 200
        assert seen(platform) == [1] * HEARD, "what is there can be read"
        assert platform.stop() == 0, platform.log_tail()
        mend_disk(platform.data)
        platform.restart()
        assert {answer.is_success for answer in offer(platform, 3).values()} == {True}
        wait_until(lambda: seen(platform).count(3) >= HEARD, "it to be heard", 60)
        assert seen(platform).count(1) >= HEARD
        assert 2 not in seen(platform), "what was refused was not done"
