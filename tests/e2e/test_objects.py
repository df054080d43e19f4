"""Objects on a real platform: made by the command line, reached by boto3, there after kill -9."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable

import boto3
import httpx
import pytest
from botocore.config import Config

from tests.running import Platform
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def said(platform: Platform, *words: str, stdin: bytes = b"") -> str:
    """What a command says."""
    done = platform.cli(*words, stdin=stdin)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def test_files_go_in_and_out_by_the_command_line(platform: Platform) -> None:
    body = os.urandom(100_000)
    (platform.root / "cat.png").write_bytes(body)
    assert said(platform, "bucket", "create", "cli-photos") == "cli-photos"
    assert said(platform, "object", "put", "cat.png", "cli-photos/in/") == "cli-photos/in/cat.png"
    assert said(platform, "object", "put", "-", "cli-photos/note", stdin=b"hello") == "cli-photos/note"
    listed = json.loads(said(platform, "object", "list", "cli-photos", "--json"))
    assert [(one["key"], one["prefix"]) for one in listed] == [("in/", True), ("note", False)]
    said(platform, "object", "get", "cli-photos/in/cat.png", "copy.png")
    assert (platform.root / "copy.png").read_bytes() == body
    assert said(platform, "object", "get", "cli-photos/note") == "hello"
    answer = httpx.get(said(platform, "object", "presign", "cli-photos/in/cat.png"), trust_env=False)
    assert (answer.content, answer.headers["content-type"]) == (body, "image/png")
    missing = platform.cli("object", "get", "cli-photos/none", "x")
    assert (missing.returncode, b"there is no object" in missing.stderr) == (4, True)
    shown = json.loads(said(platform, "bucket", "get", "cli-photos", "--json"))
    assert (shown["objects"], shown["size_bytes"]) == (2, 100_005)
    refused = platform.cli("bucket", "delete", "cli-photos", "--yes")
    assert b"still holds objects" in refused.stderr
    for key in ("in/cat.png", "note"):
        said(platform, "object", "delete", f"cli-photos/{key}", "--yes")
    said(platform, "bucket", "delete", "cli-photos", "--yes")


def test_a_key_of_the_command_line_signs_for_boto3(start_platform: Callable[..., Platform]) -> None:
    """What was put is there after the platform was killed, for the same key."""
    platform = start_platform()
    lines = dict(shlex.split(line)[1].split("=", 1) for line in said(platform, "key", "s3").splitlines())
    s3 = boto3.client(
        "s3", endpoint_url=lines["AWS_ENDPOINT_URL_S3"], aws_access_key_id=lines["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=lines["AWS_SECRET_ACCESS_KEY"], region_name=lines["AWS_DEFAULT_REGION"],
        config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip
    try:
        s3.create_bucket(Bucket="kept")
        bodies = {"small": b"small", "large": os.urandom(2_000_000)}
        for key, body in bodies.items():
            s3.put_object(Bucket="kept", Key=key, Body=body)
        platform.kill()
        platform.restart()
        for key, body in bodies.items():
            assert s3.get_object(Bucket="kept", Key=key)["Body"].read() == body
    finally:
        s3.close()
    metrics = platform.http.get(f"{platform.api}/metrics").text
    assert 'fuyun_s3_operations_total{operation="get"} 2.0' in metrics


WATCHER = """
def handler(event, context):
    print("took", event["type"], event["subject"], event["data"].get("size_bytes"))
"""


def test_objects_call_functions_and_tell_queues(platform: Platform) -> None:
    """By a trigger of the function and by the bucket's own notifications, each for the keys that it names."""
    said(platform, "bucket", "create", "watched")
    said(platform, "queue", "create", "told")
    watch = {"name": "in", "objects": {"bucket": "watched", "prefix": "in/", "events": ["created", "deleted"]}}
    platform.deploy("object-watcher", WATCHER, triggers=[watch])
    lines = dict(shlex.split(line)[1].split("=", 1) for line in said(platform, "key", "s3").splitlines())
    s3 = boto3.client(
        "s3", endpoint_url=lines["AWS_ENDPOINT_URL_S3"], aws_access_key_id=lines["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=lines["AWS_SECRET_ACCESS_KEY"], region_name=lines["AWS_DEFAULT_REGION"],
        config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip
    queue = {
        "QueueArn": "arn:fuyun:queue:::told", "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": [{"Name": "suffix", "Value": ".png"}]}},
    }  # fmt: skip
    try:
        s3.put_bucket_notification_configuration(
            Bucket="watched", NotificationConfiguration={"QueueConfigurations": [queue]}
        )
        for key in ("in/a.txt", "in/b.png", "out/c.png"):
            s3.put_object(Bucket="watched", Key=key, Body=b"1234")
        s3.delete_object(Bucket="watched", Key="in/a.txt")
    finally:
        s3.close()

    def taken() -> list[str]:
        logs = said(platform, "logs", "object-watcher").splitlines()
        return sorted(line.partition("took ")[2] for line in logs if "took " in line)

    wait_until(lambda: len(taken()) == 3, "the function to be told of three events", 30)
    assert taken() == [
        "fuyun.object.created in/a.txt 4", "fuyun.object.created in/b.png 4", "fuyun.object.deleted in/a.txt 4",
    ]  # fmt: skip
    shown: list[str] = []
    while len(shown) < 2:
        received = json.loads(said(platform, "queue", "receive", "told", "--wait", "10s", "--max", "10", "--json"))
        shown += [one["event"]["subject"] for one in received]
    assert sorted(shown) == ["in/b.png", "out/c.png"]
    platform.remove("object-watcher")
