"""Two hundred instances of one template, all alive at once: no source of randomness repeats itself [R 11.2]."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy
import pytest

from tests.running import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.slow_lane, pytest.mark.timeout(300)]

COPIES = 200

#: Everything is used once while loading, so that a copy that renewed nothing would go on where the template stood.
HANDLER = """
import asyncio, os, random, secrets, ssl, tempfile, uuid

import numpy

def draw():
    return {
        "random": random.random(),
        "random.SystemRandom": random.SystemRandom().random(),
        "random.shuffle": random.sample(range(10**6), 4),
        "secrets": secrets.token_hex(8),
        "os.urandom": os.urandom(8).hex(),
        "uuid1": str(uuid.uuid1()),
        "uuid4": str(uuid.uuid4()),
        "ssl": ssl.RAND_bytes(8).hex(),
        "tempfile": tempfile.mktemp(),
        "numpy.random": numpy.random.rand(),
        "numpy.random.randint": numpy.random.randint(0, 2**31, 4).tolist(),
        "numpy.random.default_rng": numpy.random.default_rng().random(),
    }

draw()

async def handler(event, context):
    yield {**draw(), "instance": context.instance}
    await asyncio.Event().wait()  # stays busy until the caller has gone
"""


def numpy_layer() -> bytes:
    """The tests' own numpy as an archive."""
    package = Path(numpy.__file__).parent
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for folder in (package, package.with_name("numpy.libs")):
            for path in sorted(folder.rglob("*")):
                name = path.relative_to(package.parent)
                if path.is_file() and not {"tests", "__pycache__"} & set(name.parts):
                    archive.write(path, f"python/{name}")
    return packed.getvalue()


def publish(platform: Platform, name: str, content: bytes) -> None:
    base, headers = f"{platform.api}/v1/namespaces/default", {"content-type": "application/zip"}
    stored = platform.http.post(f"{base}/archives", content=content, headers=headers)
    assert stored.is_success, stored.text
    made = platform.http.post(f"{base}/layers/{name}/versions", json={"content": stored.json()["digest"]})
    assert made.is_success, made.text


async def first_lines(url: str, key: str) -> list[dict[str, Any]]:
    """The first line of as many calls, none of which ends before all have answered."""
    answered = asyncio.Barrier(COPIES)
    limits = httpx.Limits(max_connections=COPIES)
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(headers=headers, trust_env=False, verify=False, limits=limits, timeout=200.0) as http:

        async def call() -> dict[str, Any]:
            async with http.stream("POST", url, content=b"{}") as answer:
                lines = answer.aiter_lines()  # kept: an iterator that goes away closes the connection
                line = await anext(lines)
                assert answer.status_code == 200, line
                await answered.wait()
                found: dict[str, Any] = json.loads(line)
                return found

        async with asyncio.TaskGroup() as calls:
            tasks = [calls.create_task(call()) for _ in range(COPIES)]
    return [task.result() for task in tasks]


def test_no_two_copies_of_a_template_draw_the_same(either_platform: Platform) -> None:
    platform = either_platform
    publish(platform, "numpy", numpy_layer())
    platform.deploy(
        "unique", HANDLER, layers=["numpy"], start="template", max_instances=COPIES, timeout_s=250,
        memory_bytes=128 * 2**20,
    )  # fmt: skip
    try:
        found = asyncio.run(first_lines(platform.url("unique"), platform.key))
        templates = [one for one in platform.host()["templates"] if one["version"].startswith("default/unique@")]
        assert len(templates) == 1
        starts = {one["id"]: one["start"] for one in platform.instances_of("unique")}
        assert {starts[one["instance"]] for one in found} == {"template"}, "every one is a copy"
        for name in found[0]:
            values = {json.dumps(one[name]) for one in found}
            assert len(values) == COPIES, f"{name}: {COPIES - len(values)} of {COPIES} values repeat"
    finally:
        platform.remove("unique")
