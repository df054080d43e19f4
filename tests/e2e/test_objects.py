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
