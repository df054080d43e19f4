"""One served S3 for all tests; each takes a bucket of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.transports.s3.clients import Served, fresh, serving


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    """S3, with namespaces and keys."""
    root = Path(tempfile.mkdtemp(prefix="fuyun-s3-", dir="/tmp"))
    try:
        with serving(root) as running:
            yield running
    finally:
        shutil.rmtree(root)


@pytest.fixture
def s3(served: Served) -> Any:
    """boto3, as a developer of namespace acme."""
    return served.client()


@pytest.fixture
def bucket(s3: Any) -> str:
    """A bucket of the test's own."""
    name = fresh()
    s3.create_bucket(Bucket=name)
    return name
