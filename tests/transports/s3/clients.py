"""A served S3 and clients of it."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests import launching

REPOSITORY = Path(__file__).resolve().parents[3]
_counter = itertools.count()


@dataclass
class Served:
    """A process that serves S3."""

    port: int
    keys: dict[str, tuple[str, str]]
    process: launching.Process
    root: Path
    _clients: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, key: str = "acme", **options: Any) -> Any:
        """A boto3 client with the key of that name; one per set of options, since making one takes long."""
        wanted = (key, *sorted(options.items()))
        if wanted not in self._clients:
            config = Config(signature_version="s3v4", retries={"total_max_attempts": 1}, **options)
            made = boto3.client(
                "s3", endpoint_url=self.url, aws_access_key_id=self.keys[key][0],
                aws_secret_access_key=self.keys[key][1], region_name="us-east-1", config=config,
            )  # fmt: skip
            made.meta.events.register("before-send.s3", _close)
            self._clients[wanted] = made
        return self._clients[wanted]


def _close(request: Any, **_: Any) -> None:
    """No kept connections: a test that leaves a descriptor open is told so."""
    request.headers["connection"] = "close"


@contextmanager
def serving(root: Path, **env: str) -> Iterator[Served]:
    """S3 over the folder, in a process of its own."""
    root.mkdir(parents=True, exist_ok=True)
    process = launching.begin("tests.transports.s3.serving", str(root), **env)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        ready = json.loads(process.stdout.readline())
        yield Served(port=ready["port"], keys=ready["keys"], process=process, root=root)
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


class _Signer(S3SigV4Auth):
    """botocore's, which can say of the body what a test wants said."""

    kind = ""

    def payload(self, request: AWSRequest) -> Any:
        return self.kind or super().payload(request)


def signed(
    served: Served, method: str, target: str, body: bytes = b"", key: str = "acme", **headers: str
) -> httpx.Request:
    """A request signed by botocore's own signer; `_` in names of headers stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = AWSRequest(method=method, url=served.url + target, data=body, headers=named)
    signer = _Signer(Credentials(*served.keys[key]), "s3", "us-east-1")
    signer.kind = named.get("x-amz-content-sha256", "")
    signer.add_auth(request)
    return httpx.Request(method, served.url + target, content=body, headers=dict(request.headers.items()))


def fresh(prefix: str = "bucket") -> str:
    """A bucket's name that no other test has."""
    return f"{prefix}-{os.getpid()}-{next(_counter)}"


def refused(work: Callable[[], Any], code: str, status: int = 0) -> ClientError:
    """The error of `work`, which is to be this one."""
    with pytest.raises(ClientError) as caught:
        work()
    found = caught.value.response
    assert found["Error"]["Code"] == code, found["Error"]
    assert not status or found["ResponseMetadata"]["HTTPStatusCode"] == status
    return caught.value
