"""What every record store keeps: `ports.records.RecordStore`, clause by clause."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fuyun.domain.invocations import Invocation, LogLine, Row
from fuyun.ports.records import RecordQuery, RecordStore
from fuyun.testing.contracts.samples import NOW_S, id_at, invocation, line

HOUR_S = 3600.0
HELLO = RecordQuery(namespace="default", function="hello")


def query(**fields: object) -> RecordQuery:
    """A query of default/hello."""
    return RecordQuery(**{"namespace": "default", "function": "hello", **fields})  # type: ignore[arg-type]


@pytest.mark.anyio
class RecordStoreContract(ABC):
    """Subclass it with `start`."""

    @abstractmethod
    async def start(self, folder: Path) -> RecordStore:
        """The store kept in `folder`; starting it again finds what was written before."""

    @asynccontextmanager
    async def open(self, folder: Path) -> AsyncIterator[RecordStore]:
        """The store, closed at the end."""
        store = await self.start(folder)
        try:
            yield store
        finally:
            await store.close()

    async def test_reads_see_what_was_queued_before(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as store:
            assert await store.list_invocations(HELLO) == []
            assert await store.list_logs(HELLO) == []
            for count in range(200):
                item = invocation(count=count, response_bytes=count)
                store.append_nowait(item)
                store.append_nowait(line(f"你好 {count}\n\u2028\0", request=item.id, stream="stderr", level="info"))
                if count % 50 == 0:
                    assert (await store.list_invocations(HELLO))[-1] == item
                    assert (await store.list_logs(HELLO))[-1].request == item.id
            assert [item.response_bytes for item in await store.list_invocations(HELLO)] == list(range(200))
            assert store.dropped == 0

    async def test_who_goes_on_from_place_to_place_is_told_every_line_once(self, tmp_path: Path) -> None:
        told: list[str] = []
        async with self.open(tmp_path) as store:
            for count in range(30):
                store.append_nowait(line(str(count), at_s=NOW_S + count * HOUR_S / 10))
            begin = await store.read_logs("default", "hello", {}, 7)
            assert [one.text for _, one in begin.lines] == [str(count) for count in range(7)]
            behind = await store.read_logs("default", "hello", None, 100)
            assert behind.lines == []
            assert (await store.read_logs("default", "hello", behind.place, 100)).lines == []
            assert (await store.read_logs("default", "nobody", None, 100)).place == {}
            told += [one.text for _, one in begin.lines]
        async with self.open(tmp_path) as store:
            store.append_nowait(line("late", at_s=NOW_S))  # its segment was read to the end
            place = begin.place
            while (found := await store.read_logs("default", "hello", place, 7)).lines:
                place, told = found.place, told + [one.text for _, one in found.lines]
            assert sorted(told) == sorted([*map(str, range(30)), "late"])
            after = await store.read_logs("default", "hello", behind.place, 100)
            assert [one.text for _, one in after.lines] == ["late"]
            places = [at for at, _ in (await store.read_logs("default", "hello", {}, 100)).lines]
            assert len(set(places)) == 31

    async def test_rows_are_records(self, tmp_path: Path) -> None:
        items = [invocation(NOW_S + count, count) for count in range(100)]
        async with self.open(tmp_path) as store:
            told: list[object] = []
            stop = store.follow("default", "hello", told.extend)
            store.append_rows("default", "hello", int(NOW_S // 3600 * 3600), [Row.of(item) for item in items])
            assert await store.list_invocations(query(limit=1000)) == items
            await asyncio.sleep(0)
            assert told == items
            stop()

    async def test_close_keeps_what_is_queued(self, tmp_path: Path) -> None:
        items = [invocation(count=count) for count in range(5000)]
        async with self.open(tmp_path) as store:
            for item in items:
                store.append_nowait(item)
        async with self.open(tmp_path) as store:
            assert await store.list_invocations(query(limit=10_000)) == items

    async def test_the_newest_come_back_oldest_first(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as store:
            items = [invocation(NOW_S + count * 600, count) for count in range(30)]  # five hours
            for item in items:
                store.append_nowait(item)
            assert await store.list_invocations(query(limit=7)) == items[-7:]
            assert await store.list_invocations(HELLO) == items
            assert await store.list_invocations(query(limit=0)) == []

    async def test_filters(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as store:
            items = [
                invocation(NOW_S + count * 600, count, status="ok" if count % 3 else "error") for count in range(30)
            ]
            lines = [
                line(f"l{count}", NOW_S + count * 600, request=items[count // 2].id if count % 5 else "")
                for count in range(30)
            ]
            for item, text in zip(items, lines):
                store.append_nowait(item)
                store.append_nowait(text)
            assert await store.list_invocations(query(status="error")) == items[::3]
            assert await store.list_invocations(query(status="error", limit=2)) == [items[24], items[27]]
            since, until = items[5].at_s, items[20].at_s
            assert await store.list_invocations(query(since_s=since, until_s=until)) == items[5:21]
            assert await store.list_logs(query(since_s=since, until_s=until, limit=3)) == lines[18:21]
            assert await store.list_invocations(query(request=items[11].id)) == [items[11]]
            assert [found.text for found in await store.list_logs(query(request=items[6].id))] == ["l12", "l13"]
            assert await store.list_logs(query(request='x", "y')) == []
            assert await store.list_logs(query(since_s=NOW_S + 10**6)) == []

    async def test_a_long_invocation_is_found_by_when_it_arrived(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as store:
            store.append_nowait(invocation(NOW_S + 10, 1))
            late = invocation(NOW_S, 2, duration_ms=900_000.0)
            store.append_nowait(invocation(NOW_S + 899, 3))
            store.append_nowait(late)
            assert late in await store.list_invocations(query(since_s=NOW_S, until_s=NOW_S + 1))
            assert len(await store.list_invocations(query(since_s=NOW_S + 5))) == 2

    async def test_find_by_id(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as store:
            items = [invocation(NOW_S + count * 60, count) for count in range(200)]
            for item in items:
                store.append_nowait(item)
            for item in (items[0], items[77], items[-1]):
                assert await store.find_invocation("default", "hello", item.id) == item
            assert await store.find_invocation("default", "other", items[0].id) is None
            assert await store.find_invocation("other", "hello", items[0].id) is None
            assert await store.find_invocation("default", "hello", id_at(NOW_S, 10**9)) is None
            assert await store.find_invocation("default", "hello", "nonsense") is None
            assert await store.find_invocation("default", "hello", "") is None

    async def test_functions_do_not_see_each_other(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as store:
            for namespace, function in (("default", "hello"), ("default", "hello2"), ("other", "hello")):
                store.append_nowait(invocation(namespace=namespace, function=function))
                store.append_nowait(line("x", namespace=namespace, function=function))
            assert len(await store.list_invocations(HELLO)) == len(await store.list_logs(HELLO)) == 1
            assert await store.list_logs(RecordQuery(namespace="other", function="none")) == []

    async def test_followers_get_everything_queued_from_now_on_in_order(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as store:
            got: list[Invocation | LogLine] = []
            enough = asyncio.Event()

            def listener(items: Sequence[Invocation | LogLine]) -> None:
                got.extend(items)
                if len([item for item in got if isinstance(item, LogLine)]) >= 1000:
                    enough.set()

            stop = store.follow("default", "hello", listener)
            for count in range(1000):
                store.append_nowait(line(str(count)))
                store.append_nowait(line("not mine", function="other"))
            store.append_nowait(invocation())
            await asyncio.wait_for(enough.wait(), 30)
            await store.list_logs(HELLO)
            assert [item.text for item in got if isinstance(item, LogLine)] == [str(count) for count in range(1000)]
            assert [item for item in got if isinstance(item, Invocation)] == [invocation()]
            stop()
            stop()
            store.append_nowait(line("after"))
            assert (await store.list_logs(HELLO))[-1].text == "after"
            assert len(got) == 1001

    async def test_what_is_listed_was_told_before(self, tmp_path: Path) -> None:
        """A reader that follows and then lists can tell repetitions: they are in what it was told."""
        async with self.open(tmp_path) as store:
            told: list[Invocation | LogLine] = []
            stop = store.follow("default", "hello", told.extend)
            for count in range(50):
                store.append_nowait(line(str(count)))
                assert len(await store.list_logs(HELLO)) == count + 1
                assert len(told) == count + 1
            stop()

    async def test_prune_drops_what_ended_before(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as store:
            items = [invocation(NOW_S + count * HOUR_S, count) for count in range(10)]
            for item in items:
                store.append_nowait(item)
                store.append_nowait(line("x", item.at_s))
            assert await store.list_invocations(HELLO) == items
            assert await store.prune(NOW_S - HOUR_S) == 0
            assert await store.prune(items[4].at_s) > 0
            left = await store.list_invocations(HELLO)
            assert left == items[4:], "the hour that has not ended is kept whole"
            assert len(await store.list_logs(HELLO)) == 6
            assert await store.prune(NOW_S + 100 * HOUR_S) > 0
            assert await store.list_invocations(HELLO) == []
            store.append_nowait(items[0])
            assert await store.list_invocations(HELLO) == items[:1]

    async def test_forget(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as store:
            for namespace, function in (("acme", "a"), ("acme", "b"), ("default", "hello")):
                store.append_nowait(invocation(namespace=namespace, function=function))
            await store.forget("acme", "a")
            assert await store.list_invocations(RecordQuery(namespace="acme", function="a")) == []
            assert len(await store.list_invocations(RecordQuery(namespace="acme", function="b"))) == 1
            await store.forget("acme")
            assert await store.list_invocations(RecordQuery(namespace="acme", function="b")) == []
            assert len(await store.list_invocations(HELLO)) == 1
            store.append_nowait(invocation(namespace="acme", function="a"))
            assert len(await store.list_invocations(RecordQuery(namespace="acme", function="a"))) == 1
