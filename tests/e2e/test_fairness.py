"""While one namespace floods the platform, functions of another keep their share (promise 9)."""

from __future__ import annotations

import http.client
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.running import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.slow_lane, pytest.mark.timeout(180)]

REPOSITORY = Path(__file__).resolve().parents[2]
CALLS = 60
CONNECTIONS = 64
FLOODS = {
    "quick": "def handler(event, context):\n    return {'hello': 'world'}\n",
    "burning": "import time\n\ndef handler(event, context):\n    until = time.thread_time() + 0.05\n"
    "    while time.thread_time() < until:\n        pass\n",
    "failing": "def handler(event, context):\n    raise ValueError('x' * 1000)\n",
}


@pytest.fixture(scope="module")
def shared(either_platform: Platform) -> Iterator[Platform]:
    """A platform with two tenants, one of which has a function that answers at once."""
    either_platform.deploy("quiet", FLOODS["quick"])
    url = f"{either_platform.api}/v1/namespaces"
    either_platform.http.post(url, json={"name": "noisy"}).raise_for_status()
    yield either_platform
    either_platform.http.delete(f"{url}/noisy").raise_for_status()
    either_platform.remove("quiet")


def rate(platform: Platform) -> float:
    """Calls of the quiet function per second, one after the other over one connection."""
    address = urlsplit(platform.url("quiet"))
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
    headers = {"authorization": f"Bearer {platform.key}"}
    try:
        began = time.perf_counter()
        for _ in range(CALLS):
            connection.request("POST", address.path, b"{}", headers)
            answer = connection.getresponse()
            assert (answer.status, json.loads(answer.read())) == (200, {"hello": "world"})
        return CALLS / (time.perf_counter() - began)
    finally:
        connection.close()


@contextmanager
def flood(platform: Platform, name: str) -> Iterator[dict[str, Any]]:
    """For the time of the block; afterwards what came of it: `answers` by status, `seconds`."""
    address = urlsplit(platform.url(name, "noisy"))
    command = [sys.executable, "-m", "tests.e2e.flooding", str(address.hostname), str(address.port), address.path]
    process = subprocess.Popen(
        [*command, platform.key, str(CONNECTIONS)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "flooding\n"
        found: dict[str, Any] = {}
        yield found
        said, _ = process.communicate(timeout=60)
        found.update(json.loads(said))
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_another_namespace(shared: Platform, kind: str) -> None:
    """One caller keeps the share of one among all callers at least, and is not worse off than the flood's own."""
    rate(shared)  # warm
    alone = rate(shared)
    shared.deploy(kind, FLOODS[kind], namespace="noisy")
    meanwhile, theirs = [], []
    for _ in range(3):
        with flood(shared, kind) as found:
            meanwhile.append(rate(shared))
        assert set(found["answers"]) == {"502" if kind == "failing" else "200"}
        theirs.append(sum(found["answers"].values()) / found["seconds"] / CONNECTIONS)
    shared.remove(kind, "noisy")
    # Half of it, because what else this machine does comes and goes between the measurements.
    assert statistics.median(meanwhile) > 0.5 * alone / (CONNECTIONS + 1)
    assert statistics.median(meanwhile) > 0.5 * statistics.median(theirs)
