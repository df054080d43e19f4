"""What every store of streams keeps: `ports.streams`, clause by clause."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fuyun.domain.errors import BadRequest, Conflict, FuyunError, NotFound, PreconditionFailed, QuotaExceeded
from fuyun.domain.events import Event
from fuyun.domain.streams import (
    END,
    START,
    Appended,
    Appending,
    Position,
    Snapshot,
    StreamSpec,
    at_offset,
    partition_of,
)
from fuyun.domain.tenants import Namespace, Quotas
from fuyun.ports.streams import GroupStore, StreamStore
from fuyun.ports.tenants import TenantStore
from fuyun.testing.contracts.samples import NOW_S, entry

QUOTAS = Quotas()


@dataclass(frozen=True)
class StreamStores:
    """The stores of one data directory."""

    streams: StreamStore
    groups: GroupStore
    tenants: TenantStore

    async def append(self, *texts: str, key: str = "", now_s: float = NOW_S, **fields: Any) -> list[Appended]:
        """Append one record for each text to default/s."""
        records = [record(text, key, **fields) for text in texts]
        return await self.streams.append("default", "s", records, QUOTAS, now_s)

    async def texts(self, partition: int = 0, at: Position = START) -> list[str]:
        """What a partition of default/s holds from a place on."""
        found = (await self.streams.read("default", "s", partition, at, 10**6, 2**40)).records
        return [one.event.data.decode() for one in found]


def record(text: str, key: str = "", **fields: Any) -> Appending:
    """A record that says something."""
    event = Event(id=f"e-{text}", source="/default/stream/s", type="test", time_s=NOW_S, data=text.encode())
    return Appending(event=event, key=key, **fields)


class StreamStoresContract(ABC):
    """What a suite over `StreamStores` needs."""

    @abstractmethod
    def open(self, folder: Path) -> AbstractAsyncContextManager[StreamStores]:
        """The stores kept in `folder`; opening the same folder again finds what was written before."""


@pytest.mark.anyio
class StreamStoreContract(StreamStoresContract):
    """Subclass it with `open`."""

    async def test_a_stream_is_made_changed_listed_and_deleted(self, tmp_path: Path) -> None:
        spec = StreamSpec(partitions=3, retention_s=60.0, description="orders \U0001f600")
        async with self.open(tmp_path) as stores:
            made = await stores.streams.put("default", "s", spec, QUOTAS, NOW_S, entry=entry("make"))
            assert (made.namespace, made.name, made.spec, made.revision) == ("default", "s", spec, 1)
            for name in ("b", "a", "c"):
                await stores.streams.put("default", name, StreamSpec(), QUOTAS, NOW_S)
        async with self.open(tmp_path) as stores:
            streams = stores.streams
            found, partitions = await streams.get("default", "s")
            assert found == made
            assert [(one.number, one.start, one.end, one.bytes) for one in partitions] == [
                (0, 0, 0, 0), (1, 0, 0, 0), (2, 0, 0, 0),
            ]  # fmt: skip
            assert [one.name for one in await streams.list_streams("default", "a", 2)] == ["b", "c"]
            longer = StreamSpec(partitions=3, retention_s=90.0)
            assert (await streams.put("default", "s", longer, QUOTAS, NOW_S, expected_revision=1)).revision == 2
            await streams.delete("default", "s", entry("drop"))
            for missing in (streams.get("default", "s"), streams.delete("default", "s", entry("no"))):
                with pytest.raises(NotFound):
                    await missing
            assert [one.action for one in await stores.tenants.audit(None)] == ["make", "drop"]

    async def test_what_may_not_be_changes_nothing(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            streams = stores.streams
            await streams.put("default", "s", StreamSpec(), QUOTAS, NOW_S)
            few = Quotas(streams=1)
            for refused, error in (
                (streams.put("default", "s", StreamSpec(), QUOTAS, NOW_S, expected_revision=0), PreconditionFailed),
                (streams.put("default", "t", StreamSpec(), QUOTAS, NOW_S, expected_revision=1), PreconditionFailed),
                (streams.put("default", "s", StreamSpec(partitions=2), QUOTAS, NOW_S), Conflict),
                (streams.put("default", "s", StreamSpec(versioned=True), QUOTAS, NOW_S), Conflict),
                (streams.put("default", "t", StreamSpec(), few, NOW_S, entry=entry("no")), QuotaExceeded),
                (streams.append("default", "t", [record("a")], QUOTAS, NOW_S), NotFound),
                (streams.append("default", "s", [record("a")], Quotas(stream_bytes=10), NOW_S), None),
                (streams.append("default", "s", [record("abcdef" * 3)], Quotas(stream_bytes=10), NOW_S), QuotaExceeded),
                (streams.read("default", "s", 1, START), NotFound),
                (streams.read("default", "t", 0, START), NotFound),
            ):
                if error is None:
                    await refused
                else:
                    with pytest.raises(error):
                        await refused
            assert await stores.tenants.audit(None) == []
            assert (await streams.get("default", "s"))[0].revision == 1

    async def test_records_keep_their_order_and_offsets_have_no_gaps(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.streams.put("default", "s", StreamSpec(partitions=4), QUOTAS, NOW_S)
            lanes = [f"k{lane}" for lane in range(8)]

            async def fill(key: str) -> None:
                for count in range(10):
                    await stores.append(*(f"{key}-{count}-{place}" for place in range(3)), key=key)

            await asyncio.gather(*(fill(key) for key in lanes))
        async with self.open(tmp_path) as stores:
            for number in range(4):
                found = (await stores.streams.read("default", "s", number, START, 1000)).records
                assert [one.offset for one in found] == list(range(len(found)))
                for key in lanes:
                    own = [one.event.data.decode() for one in found if one.key == key]
                    here = partition_of(key, 4) == number
                    assert own == [f"{key}-{c}-{p}" for c in range(10) for p in range(3)] * here

    async def test_a_record_is_kept_whole(self, tmp_path: Path) -> None:
        event = Event(
            id="1", source="/a", type="t", subject="s", time_s=1.5, content_type="image/png", data=b"\0\xff",
            extensions={"a": "b"}, hops=3, trail="0",
        )  # fmt: skip
        async with self.open(tmp_path) as stores:
            await stores.streams.put("default", "s", StreamSpec(partitions=2), QUOTAS, NOW_S)
            sent = [Appending(event=event, key="key \U0001f600", partition=1)]
            assert await stores.streams.append("default", "s", sent, QUOTAS, NOW_S) == [Appended(partition=1, offset=0)]
        async with self.open(tmp_path) as stores:
            [found] = (await stores.streams.read("default", "s", 1, START)).records
            assert (found.event, found.key, found.at_s, found.version) == (event, "key \U0001f600", NOW_S, 0)

    async def test_reading_goes_on_where_it_stopped(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.streams.put("default", "s", StreamSpec(), QUOTAS, NOW_S)
            for count in range(10):
                await stores.append(str(count), now_s=NOW_S + count)
            read = stores.streams.read
            seen, at = [], START
            while True:
                part = await read("default", "s", 0, at, 3)
                assert (part.start, part.end) == (0, 10)
                if not part.records:
                    break
                seen += [one.event.data for one in part.records]
                at = at_offset(part.next)
            assert seen == [str(count).encode() for count in range(10)]
            assert len((await read("default", "s", 0, START, 100, 1)).records) == 1, "one, however large"
            assert (await read("default", "s", 0, END)).next == 10
            assert (await read("default", "s", 0, at_offset(99))).next == 10
            for value, first in ((0.0, 0), (NOW_S + 3, 3), (NOW_S + 3.5, 4), (NOW_S + 9, 9), (NOW_S + 10, 10)):
                at = Position(where="time", value=value)
                assert await stores.texts(at=at) == [str(count) for count in range(first, 10)], value

    async def test_times_never_fall(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.streams.put("default", "s", StreamSpec(), QUOTAS, NOW_S)
            await stores.append("a", now_s=NOW_S + 10)
            await stores.append("b", now_s=NOW_S)
            found = (await stores.streams.read("default", "s", 0, START)).records
            assert [one.at_s for one in found] == [NOW_S + 10] * 2

    async def test_a_producer_appends_once(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.streams.put("default", "s", StreamSpec(), QUOTAS, NOW_S)

            async def send(text: str, sequence: int, producer: str = "p") -> list[Appended]:
                return await stores.streams.append(
                    "default", "s", [record(text), record(text)], QUOTAS, NOW_S, producer=producer, sequence=sequence
                )

            first = await send("a", 1)
            assert await send("a", 1) == first
            await send("b", 5)
            with pytest.raises(Conflict) as refused:
                await send("a", 4)
            assert refused.value.fields["found"] == 5
            await send("c", 1, "other")
            assert await stores.texts() == ["a", "a", "b", "b", "c", "c"]

    async def test_versions_are_compared_and_counted(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.streams.put("default", "s", StreamSpec(versioned=True, partitions=2), QUOTAS, NOW_S)
            made = await stores.append("a", key="x", expected=0)
            assert made[0].version == 1
            sent = [record("b", "x", expected=1), record("c", "y", expected=0), record("d", "x", expected=2)]
            assert [one.version for one in await stores.streams.append("default", "s", sent, QUOTAS, NOW_S)] == [
                2,
                1,
                3,
            ]
            assert (await stores.append("e", key="x"))[0].version == 4, "nothing expected"
            sent = [record("no", "y", expected=1), record("no", "x", expected=3)]
            with pytest.raises(Conflict) as refused:
                await stores.streams.append("default", "s", sent, QUOTAS, NOW_S)
            assert refused.value.fields == {"key": "x", "expected": 3, "found": 4}
            assert (await stores.append("f", key="y", expected=1))[0].version == 2, "none of what was refused counts"
            read = stores.streams.read_key
            assert [one.event.data for one in await read("default", "s", "x")] == [b"a", b"b", b"d", b"e"]
            assert [one.version for one in await read("default", "s", "x", 1, 2)] == [2, 3]
            assert await read("default", "s", "z") == []

    async def test_of_those_that_expect_the_same_one_wins(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.streams.put("default", "s", StreamSpec(versioned=True), QUOTAS, NOW_S)
            tries = [stores.append(str(count), key="x", expected=0) for count in range(10)]
            done = await asyncio.gather(*tries, return_exceptions=True)
            assert sum(isinstance(one, list) for one in done) == 1
            assert sum(isinstance(one, Conflict) for one in done) == 9

    async def test_snapshots(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            streams = stores.streams
            await streams.put("default", "s", StreamSpec(versioned=True), QUOTAS, NOW_S)
            await stores.append("a", "b", key="x")
            assert await streams.find_snapshot("default", "s", "x") is None
            kept = Snapshot(key="x", version=1, at_s=NOW_S, data=b"{}")
            for version, data in ((1, b"[]"), (1, b"{}"), (3, b"no"), (0, b"no")):
                made = Snapshot(key="x", version=version, at_s=NOW_S, data=data)
                if data == b"no":
                    with pytest.raises(Conflict):
                        await streams.put_snapshot("default", "s", made)
                else:
                    await streams.put_snapshot("default", "s", made)
            assert await streams.find_snapshot("default", "s", "x") == kept

    async def test_old_records_leave_from_the_front(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            streams = stores.streams
            await streams.put("default", "s", StreamSpec(retention_s=10.0, versioned=True), QUOTAS, NOW_S)
            await streams.put("default", "kept", StreamSpec(retention_s=0), QUOTAS, NOW_S)
            await streams.append("default", "kept", [record("a")], QUOTAS, 0.0)
            for count in range(30):
                await stores.append(str(count), key="x", now_s=NOW_S + count)
            assert await streams.trim(NOW_S) == 0
            removed = []
            while count := await streams.trim(NOW_S + 30, 7):
                removed.append(count)
            assert removed == [7, 7, 6]
            assert await stores.texts() == [str(count) for count in range(20, 30)]
            [part] = (await streams.get("default", "s"))[1]
            assert (part.start, part.end) == (20, 30)
            first = await streams.read("default", "s", 0, at_offset(3))
            assert (first.records[0].offset, first.start) == (20, 20), "what is gone is told by the place"
            assert [one.version for one in await streams.read_key("default", "s", "x", 0, 1)] == [21]
            while await streams.trim(NOW_S + 100):
                pass
            assert ((await streams.get("default", "s"))[0].bytes, await stores.texts()) == (0, [])
            assert (await stores.append("later", key="x", expected=30))[0].offset == 30
            assert (await streams.get("default", "kept"))[1][0].end == 1

    async def test_a_partition_keeps_so_many_bytes(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.streams.put("default", "s", StreamSpec(retention_bytes=4096, retention_s=0), QUOTAS, NOW_S)
            for count in range(20):
                await stores.append(str(count) + "x" * 500)
            while await stores.streams.trim(NOW_S, 3):
                pass
            stream, [part] = await stores.streams.get("default", "s")
            assert stream.bytes == part.bytes <= 4096 < part.bytes + 1000
            assert [text[:2] for text in await stores.texts()] == [str(c) for c in range(part.start, 20)]

    async def test_what_a_deleted_stream_kept_does_not_come_back(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            streams = stores.streams
            await stores.tenants.create_namespace(Namespace(name="acme", created_s=NOW_S))
            await streams.put("acme", "s", StreamSpec(), QUOTAS, NOW_S)
            await streams.put("default", "s", StreamSpec(partitions=2, versioned=True), QUOTAS, NOW_S)
            for count in range(10):
                await stores.append(str(count), key=str(count))
            await stores.groups.claim("default", "s", "g", 0, "me", START, NOW_S)
            await streams.delete("default", "s")
            await stores.tenants.delete_namespace("acme")
            await streams.put("default", "s", StreamSpec(partitions=2, versioned=True), QUOTAS, NOW_S)
            assert await stores.texts() + await stores.texts(1) == []
            assert await stores.groups.list_cursors("default", "s") == []
            assert (await stores.append("new", key="1", expected=0))[0].offset == 0
            turns = 0
            while await streams.trim(NOW_S, 4):
                turns += 1
            assert 3 <= turns < 20
            assert (await streams.get("default", "s"))[0].bytes > 0


@pytest.mark.anyio
class GroupStoreContract(StreamStoresContract):
    """Subclass it with `open`."""

    async def test_a_cursor_moves_by_commits_and_is_kept(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.streams.put("default", "s", StreamSpec(partitions=2), QUOTAS, NOW_S)
            await stores.append("a", "b", "c", partition=1)
            groups = stores.groups
            made = await groups.claim("default", "s", "g", 1, "me", START, NOW_S)
            assert (made.partition, made.offset, made.epoch, made.owner) == (1, 0, 1, "me")
            assert (await groups.claim("default", "s", "late", 1, "me", END, NOW_S)).offset == 3
            await groups.commit("default", "s", "g", 1, 1, 2, NOW_S + 5)
        async with self.open(tmp_path) as stores:
            [(group, found)] = await stores.groups.list_cursors("default", "s", "g")
            assert (group, found.offset, found.committed_s) == ("g", 2, NOW_S + 5)
            assert [name for name, _ in await stores.groups.list_cursors("default", "s")] == ["g", "late"]
            await stores.groups.delete_group("default", "s", "g", entry("gone"))
            assert (await stores.groups.claim("default", "s", "g", 1, "me", START, NOW_S)).offset == 0

    async def test_who_lost_a_partition_cannot_move_its_cursor(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.streams.put("default", "s", StreamSpec(), QUOTAS, NOW_S)
            await stores.append("a", "b", "c")
            groups = stores.groups
            old = await groups.claim("default", "s", "g", 0, "old", START, NOW_S)
            await groups.commit("default", "s", "g", 0, old.epoch, 1, NOW_S)
            new = await groups.claim("default", "s", "g", 0, "new", START, NOW_S)
            assert (new.offset, new.epoch) == (1, 2)
            with pytest.raises(Conflict, match="claimed by 'new'") as refused:
                await groups.commit("default", "s", "g", 0, old.epoch, 3, NOW_S)
            assert refused.value.fields == {"epoch": 2, "owner": "new"}
            await groups.commit("default", "s", "g", 0, new.epoch, 2, NOW_S)
            [reset] = await groups.reset("default", "s", "g", at_offset(1), NOW_S, entry("back"))
            assert (reset.offset, reset.epoch) == (1, 3)
            with pytest.raises(Conflict):
                await groups.commit("default", "s", "g", 0, new.epoch, 3, NOW_S)
            assert [one.action for one in await stores.tenants.audit(None)] == ["back"]

    async def test_a_reset_reaches_every_partition(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.streams.put("default", "s", StreamSpec(partitions=3), QUOTAS, NOW_S)
            for number in range(3):
                await stores.append("a", partition=number, now_s=NOW_S)
                await stores.append("b", partition=number, now_s=NOW_S + 60)
            await stores.groups.claim("default", "s", "g", 1, "me", END, NOW_S)
            found = await stores.groups.reset("default", "s", "g", Position(where="time", value=NOW_S + 1), NOW_S)
            assert [(one.partition, one.offset) for one in found] == [(0, 1), (1, 1), (2, 1)]
            await stores.groups.reset("default", "s", "g", START, NOW_S)
            assert [one.offset for _, one in await stores.groups.list_cursors("default", "s", "g")] == [0, 0, 0]

    async def test_what_may_not_be_changes_nothing(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.streams.put("default", "s", StreamSpec(), QUOTAS, NOW_S)
            await stores.append("a", "b")
            groups = stores.groups
            await groups.claim("default", "s", "g", 0, "me", START, NOW_S)
            await groups.commit("default", "s", "g", 0, 1, 1, NOW_S)
            refusals: list[tuple[Any, type[FuyunError]]] = [
                (groups.commit("default", "s", "g", 0, 1, 3, NOW_S), BadRequest),
                (groups.commit("default", "s", "g", 0, 1, 0, NOW_S), BadRequest),
                (groups.commit("default", "s", "none", 0, 1, 1, NOW_S), NotFound),
                (groups.commit("default", "t", "g", 0, 1, 1, NOW_S), NotFound),
                (groups.claim("default", "s", "g", 1, "me", START, NOW_S), NotFound),
                (groups.claim("default", "t", "g", 0, "me", START, NOW_S), NotFound),
                (groups.reset("default", "t", "g", START, NOW_S, entry("no")), NotFound),
                (groups.delete_group("default", "s", "none", entry("no")), NotFound),
                (groups.list_cursors("default", "t"), NotFound),
            ]
            for refused, error in refusals:
                with pytest.raises(error):
                    await refused
            assert [one.offset for _, one in await groups.list_cursors("default", "s")] == [1]
            assert await stores.tenants.audit(None) == []
