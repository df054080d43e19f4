"""History as tenants see it, over the real store: permissions, limits, following, pruning."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from fuyun.base import clock
from fuyun.base.tasks import Scope
from fuyun.domain.errors import BadRequest, Forbidden, NotFound
from fuyun.domain.tenants import Principal
from fuyun.drivers.records.folder import FolderRecords
from fuyun.services import records as service
from fuyun.services.records import Records
from fuyun.testing.contracts.records import HELLO, query
from fuyun.testing.contracts.samples import NOW_S, invocation, line

pytestmark = pytest.mark.anyio
READER = Principal(key_id="k", namespace="default", role="viewer")


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[FolderRecords, Records]]:
    store = FolderRecords.open(folder)
    try:
        yield store, Records(store, retention_s=86400)
    finally:
        await store.close()


async def test_only_a_reader_of_the_namespace_reads(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, records):
        store.append_nowait(invocation())
        for principal in (
            Principal(key_id="k", namespace="other", role="admin"),
            Principal(key_id="k", namespace="default", role="invoker"),
        ):
            for call in (
                records.list_invocations(principal, HELLO),
                records.list_logs(principal, HELLO),
                records.get_invocation(principal, "default", "hello", invocation().id),
                anext(records.follow_logs(principal, HELLO)),
            ):
                with pytest.raises(Forbidden):
                    await call
        assert await records.list_invocations(READER, HELLO) == [invocation()]
        assert await records.get_invocation(READER, "default", "hello", invocation().id) == invocation()
        with pytest.raises(NotFound) as missing:
            await records.get_invocation(READER, "default", "hello", "none")
        assert "kept for 1 days" in missing.value.hint


async def test_bad_queries(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, records):
        for bad in (query(limit=0), query(limit=10**9), query(since_s=5.0, until_s=4.0)):
            with pytest.raises(BadRequest):
                await records.list_logs(READER, bad)


async def test_following_has_no_gap_and_no_repetition(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, records):
        got: list[str] = []
        for count in range(100):
            store.append_nowait(line(str(count)))

        async def produce() -> None:
            for count in range(100, 3000):
                store.append_nowait(line(str(count)))
                if count % 7 == 0:
                    await asyncio.sleep(0)

        following = records.follow_logs(READER, query(limit=3000))  # the list alone may hold them all
        async with Scope("test", lambda exc: None) as scope, aclosing(following) as lines:
            producing = scope.start(produce(), "produce")
            async for found in lines:
                got.append(found.text)
                if len(got) == 3000:
                    break
            await producing
        assert got == [str(count) for count in range(3000)]
        assert not store._listeners


async def test_following_filters(tmp_path: Path) -> None:
    async with (
        opened(tmp_path) as (store, records),
        aclosing(records.follow_logs(READER, query(request="r1"))) as lines,
    ):
        store.append_nowait(line("one", request="r1"))
        assert (await anext(lines)).text == "one"
        store.append_nowait(invocation())
        store.append_nowait(line("two", request="r2"))
        store.append_nowait(line("three", request="r1"))
        assert (await anext(lines)).text == "three"


async def test_a_slow_follower_is_told_what_it_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "BEHIND_LINES", 10)
    async with opened(tmp_path) as (store, records):
        store.append_nowait(line("first"))
        async with aclosing(records.follow_logs(READER, HELLO)) as lines:
            assert (await anext(lines)).text == "first"
            for count in range(50):
                store.append_nowait(line(str(count)))
            await store.list_logs(query(limit=1))
            notice = await anext(lines)
            assert (notice.stream, notice.text.split()[0]) == ("platform", "40")
            assert [(await anext(lines)).text for _ in range(10)] == [str(count) for count in range(40, 50)]


async def test_pruning_keeps_the_retention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as (store, records):
        monkeypatch.setattr(clock, "wall_s", lambda: NOW_S)
        store.append_nowait(line("old", NOW_S - 90_000))
        store.append_nowait(line("new", NOW_S - 80_000))
        assert len(await records.list_logs(READER, HELLO)) == 2
        errors: list[BaseException] = []
        async with Scope("test", errors.append) as scope:
            records.start_pruning(scope)
            while len(await records.list_logs(READER, HELLO)) == 2:
                pass
        assert not errors
        assert [found.text for found in await records.list_logs(READER, HELLO)] == ["new"]
        await records.forget("default")
        assert await records.list_logs(READER, HELLO) == []
