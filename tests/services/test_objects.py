"""Objects killed at any moment: what was acknowledged is there, whole and told of; nothing else takes room."""

from __future__ import annotations

import asyncio
import signal
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from fuyun.base import clock
from fuyun.domain.bucketrules import LifecycleRule, Rules
from fuyun.domain.errors import Conflict, NotFound
from fuyun.domain.objects import Upload
from fuyun.services.objects import Put
from fuyun.services.tenants import PLATFORM
from tests import launching
from tests.services.objectmoves import BUCKET, WHO, Place, body, files, named, place, play, seen

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.anyio

DAY_S = 86400.0


_steps: list[dict[str, Any]] = []


async def after(folder: Path, steps: int) -> list[dict[str, Any]]:
    """What is seen after so many steps, and after one more; played once."""
    if not _steps:
        async with place(folder) as at, aclosing(play(at)) as played:
            _steps.append(await seen(at))
            _steps.extend([await seen(at) async for _ in played])
    return _steps[steps : steps + 2]


#: The commits of `play`: a bucket, four puts, an upload begun, two parts, its completion, three deletes.
@pytest.mark.parametrize(
    "crash",
    [
        "contents.placed:1",  # the first big object
        "contents.placed:4",  # the first part
        *(f"catalog.{point}_commit:{step}" for step in (4, 7, 9, 11) for point in ("before", "after")),
    ],
)
async def test_around_every_step(tmp_path: Path, crash: str) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    with launching.begin("tests.services.objectmoves", str(folder), FUYUN_CRASH_AT=crash) as process:
        assert process.stdout is not None
        steps = process.stdout.read().count("done")
        assert process.wait(50) == -signal.SIGKILL
    assert steps >= 2
    before, later = await after(tmp_path / "whole", steps)
    async with place(folder) as at:
        found = await seen(at)
        assert found == (later if "after_commit" in crash else before), f"after {steps} steps"
        await at.keeper.sweep()
        await at.keeper.collect()
        assert await files(at) == await named(at)


async def put(at: Place, key: str, text: str, count: int = 50_000) -> None:
    await at.objects.put(WHO, BUCKET, key, body(text, count), Put())


async def test_what_is_put_again_while_it_is_collected_stays(tmp_path: Path) -> None:
    """The same bytes come and go in many objects at once, with the collector at work all the time."""
    async with place(tmp_path) as at:
        await at.objects.buckets.create_bucket(WHO, "default", BUCKET, "us-east-1", "")

        async def churn(lane: int) -> None:
            for count in range(12):
                await put(at, f"{lane}", "ab"[count % 2])
                found = await at.objects.get(WHO, BUCKET, f"{lane}")
                pieces = [piece async for piece in at.objects.read(found, 0, found.size_bytes)]
                assert b"".join(pieces) == b"ab"[count % 2 : count % 2 + 1] * 50_000
                await at.objects.delete(WHO, BUCKET, f"{lane}")

        async def collect() -> None:
            while True:
                await at.keeper.collect()
                await at.keeper.sweep()
                await asyncio.sleep(0)

        collecting = asyncio.create_task(collect())
        try:
            await asyncio.gather(*(churn(lane) for lane in range(4)))
        finally:
            collecting.cancel()
            await asyncio.gather(collecting, return_exceptions=True)
        await put(at, "last", "a")
        await at.keeper.collect()
        assert await files(at) == await named(at)


async def test_lifecycle_rules_are_followed(tmp_path: Path) -> None:
    rules = Rules(
        lifecycle=(
            LifecycleRule(prefix="logs/", days=2),
            LifecycleRule(prefix="kept/", noncurrent_days=1, newer_noncurrent=1, lone_markers=True),
            LifecycleRule(upload_days=3),
        )
    )
    async with place(tmp_path) as at:
        buckets = at.objects.buckets
        await buckets.create_bucket(WHO, "default", BUCKET, "us-east-1", "")
        await buckets.set_rules(WHO, BUCKET, "test", lambda _: rules, "")
        await put(at, "logs/1", "a")
        await put(at, "other", "a")
        upload = await at.uploads.begin(WHO, Upload(id="", bucket=BUCKET, key="u", created_s=0.0))
        await buckets.set_versioning(WHO, BUCKET, "Enabled", "")
        for text in "abc":
            await put(at, "kept/1", text)
        now_s = clock.wall_s()
        assert await at.keeper.expire(now_s) == 0
        assert await at.keeper.expire(now_s + 2 * DAY_S) == 1, "the older of two versions that were replaced"
        assert await at.keeper.expire(now_s + 3 * DAY_S) >= 1
        assert await at.keeper.expire(now_s + 4 * DAY_S) >= 1
        with pytest.raises(NotFound):
            await at.objects.get(WHO, BUCKET, "logs/1")
        with pytest.raises(NotFound):
            await at.uploads.get(WHO, BUCKET, "u", upload.id)
        await at.objects.get(WHO, BUCKET, "other")
        events = [event for _, _, _, event in await at.stores.outbox() if b'"expire"' in event.data]
        assert {event.subject for event in events} == {"logs/1", "kept/1"}


async def test_a_namespace_with_buckets_stays(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        await at.objects.buckets.create_bucket(WHO, "default", BUCKET, "us-east-1", "")
        tenants = at.objects.buckets._tenants
        with pytest.raises(Conflict, match=BUCKET):
            await tenants.delete_namespace(PLATFORM, "default", "")
        await at.objects.buckets.delete_bucket(WHO, BUCKET, "")
        await tenants.delete_namespace(PLATFORM, "default", "")
