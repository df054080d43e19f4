"""Points suites that were written for AWS, and for moto, at S3 of a platform that runs.

Loaded by pytest in the suites' own environment (`-p plugin`); `AWS_ENDPOINT_URL_S3` and the access key say where.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import Any

import pytest

_ACCESS = {name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}


def _client() -> Any:
    session = importlib.import_module("botocore.session").get_session()
    return session.create_client(
        "s3", "us-east-1", endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id=_ACCESS["AWS_ACCESS_KEY_ID"], aws_secret_access_key=_ACCESS["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip


_cleaner: list[Any] = []


def empty() -> None:
    """Delete every bucket with what it holds."""
    if not _cleaner:
        _cleaner.append(_client())
    client = _cleaner[0]
    for bucket in client.list_buckets()["Buckets"]:
        name = bucket["Name"]
        for upload in client.list_multipart_uploads(Bucket=name).get("Uploads", ()):
            client.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
        for page in client.get_paginator("list_object_versions").paginate(Bucket=name):
            found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            keys = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]
            spoken = [key for key in keys if key["Key"].isprintable()]
            if spoken:
                client.delete_objects(Bucket=name, Delete={"Objects": spoken, "Quiet": True})
            for key in keys:
                if not key["Key"].isprintable():  # XML cannot say it
                    client.delete_object(Bucket=name, **key)
        client.delete_bucket(Bucket=name)


def pytest_configure() -> None:
    """Before the suites are imported: moto's tests believe in its server, which is ours here."""
    with contextlib.suppress(ImportError):
        models = importlib.import_module("moto.core.models")

        models.ServerModeMockAWS.reset = lambda self: empty()
        models.MockAWS._mock_env_variables = models.MockAWS._unmock_env_variables = lambda self: None
        os.environ["TEST_SERVER_MODE"] = "true"
        os.environ["TEST_SERVER_MODE_ENDPOINT"] = os.environ["AWS_ENDPOINT_URL_S3"]


def pytest_sessionstart() -> None:
    """s3transfer's set-up asks for ownership by writers and for encryption, which are not supported: it is left out."""
    with contextlib.suppress(ImportError, AttributeError):
        suite = importlib.import_module("tests.integration")

        def set_up(cls: Any) -> None:
            cls.region = "us-west-2"
            cls.session = suite.botocore.session.get_session()
            cls.client = cls.session.create_client("s3", cls.region)
            cls.bucket_name = suite.random_bucket_name()
            where = {"LocationConstraint": cls.region}
            cls.client.create_bucket(Bucket=cls.bucket_name, CreateBucketConfiguration=where)

        suite.BaseTransferManagerIntegTest.setUpClass = classmethod(set_up)


@pytest.fixture(autouse=True)
def _own_key(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "test_s3/" in request.node.nodeid:  # moto's: each begins on a server that is empty
        empty()
    for name, value in _ACCESS.items():
        monkeypatch.setenv(name, value)
