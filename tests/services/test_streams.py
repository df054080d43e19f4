"""Streams as a service: waits without polling, appends that go to the disk together, feeds that nobody else writes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from fuyun.base import clock
from fuyun.domain.errors import BadRequest, Conflict, NotFound, PayloadTooLarge, StorageFull
from fuyun.domain.streams import END, NewRecord, Slice, partition_of, position_of
from fuyun.domain.tables import Change
from fuyun.services.tenants import PLATFORM
from tests.services.streaming import Streaming, play


def texts(found: Slice) -> list[Any]:
    return [one.event.data.decode() for one in found.records]


def test_a_wait_ends_with_the_first_record_and_asks_the_store_twice() -> None:
    async def scene(s: Streaming) -> None:
        await s.create(partitions=2)
        looks: list[float] = []
        read = s.streams._store.read

        async def counted(*asked: Any) -> Slice:
            looks.append(clock.mono_s())
            return await read(*asked)

        s.streams._store.read = counted  # type: ignore[method-assign]
        began_s = clock.mono_s()
        number = partition_of("k", 2)
        waits = [asyncio.ensure_future(s.streams.read("default", "s", number, END, 10, 60.0)) for _ in range(3)]
        other = asyncio.ensure_future(s.streams.read("default", "s", 1 - number, END, 10, 60.0))
        await asyncio.sleep(30)
        assert len(looks) == 4, "they look once and sleep"
        await s.append("a", key="k")
        assert [texts(found) for found in await asyncio.gather(*waits)] == [['"a"']] * 3
        assert 30 <= clock.mono_s() - began_s < 31
        assert texts(await other) == []
        assert 60 <= clock.mono_s() - began_s < 61
        assert len(looks) == 4 + 3, "one of each that was woken"
        assert len(s.streams.arrivals) == 0

    play(scene)


def test_appends_that_come_together_go_together_and_fail_each_for_itself() -> None:
    async def scene(s: Streaming) -> None:
        await s.create()
        await s.append("first")
        before = s.events.database.writes
        made = await asyncio.gather(
            *(s.streams.append_new("default", "s", [NewRecord(data=n), NewRecord(data=-n)]) for n in range(1, 101))
        )
        assert s.events.database.writes - before <= 3
        places = [one.offset for answer in made for one in answer]
        assert sorted(places) == list(range(1, 201))
        assert all(answer[1].offset == answer[0].offset + 1 for answer in made)
        s.events.database.failing = StorageFull("full")
        refused = await asyncio.gather(*(s.append(n) for n in range(5)), return_exceptions=True)
        assert all(isinstance(error, StorageFull) for error in refused)
        s.events.database.failing = None
        await s.append("last")
        assert (await s.streams.get("default", "s"))[1][0].end == 202

    play(scene)


def test_a_tail_gives_what_is_there_and_what_comes() -> None:
    async def scene(s: Streaming) -> None:
        await s.create(partitions=3)
        for key in "abc":
            await s.append(key, key=key)
        seen = []
        async with aclosing(s.streams.tail("default", "s", position_of("start"))) as records:
            async for record in records:
                seen.append(record.event.data.decode())
                if len(seen) == 3:
                    asyncio.get_running_loop().call_later(9, lambda: asyncio.ensure_future(s.append("d", key="z")))
                if len(seen) == 4:
                    break
        assert (sorted(seen[:3]), seen[3]) == (['"a"', '"b"', '"c"'], '"d"')

    play(scene)


def test_a_feed_can_be_read_and_nothing_else() -> None:
    async def scene(s: Streaming) -> None:
        await s.create_table(feed_partitions=1)
        waiting = asyncio.ensure_future(s.streams.read("default", "table.t", 0, END, 10, 60.0))
        await asyncio.sleep(1)
        await s.write(Change(put={"id": "a"}))
        assert len((await waiting).records) == 1
        with pytest.raises(Conflict, match="change feed of table 't'"):
            await s.append("x", name="table.t")
        with pytest.raises(Conflict):
            await s.streams.delete(PLATFORM, "default", "table.t")
        with pytest.raises(BadRequest):
            await s.create("table.t")
        await s.tables.delete(PLATFORM, "default", "t")
        with pytest.raises(NotFound):
            await s.streams.read("default", "table.t")

    play(scene)


def test_a_stream_that_was_made_anew_is_checked_anew() -> None:
    async def scene(s: Streaming) -> None:
        await s.create(partitions=3)
        await s.streams.append_new("default", "s", [NewRecord(data=1, partition=2)])
        await s.streams.delete(PLATFORM, "default", "s")
        with pytest.raises(NotFound, match="no stream 's'"):
            await s.append(1)
        await s.create()
        for record, error in (
            (NewRecord(data=1, partition=2), BadRequest),
            (NewRecord(data=1, expected=0), BadRequest),
            (NewRecord(data=1, data_base64="AA=="), BadRequest),
            (NewRecord(data_base64="?"), BadRequest),
            (NewRecord(data="x" * 2**20), PayloadTooLarge),
        ):
            with pytest.raises(error):
                await s.streams.append_new("default", "s", [record])

    play(scene)


@pytest.mark.parametrize(
    ("text", "value"),
    [("time:2026-01-31T07:30:00Z", 1769844600.0), ("time:1769844600.5", 1769844600.5), ("12", 12), ("start", 0)],
)
def test_places_are_written_so(text: str, value: float) -> None:
    assert position_of(text).value == value


@pytest.mark.parametrize("text", ["", "begin", "-1", "time:", "time:soon", "time:nan", "1e3", "time:1e99"])
def test_other_places_are_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="no place"):
        position_of(text)
