"""Streams: made, appended to, read and awaited, and how far groups have read them.

What changes a stream takes the principal that asks, checks what it may do and is audited. Whoever offers appending,
reading and committing checks that (`Principal.require`, a function's permissions).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from fuyun.base import clock, ids
from fuyun.base.tasks import Scope
from fuyun.domain.errors import BadRequest, Conflict, FuyunError, NotFound
from fuyun.domain.events import Event
from fuyun.domain.names import check_name, nearest
from fuyun.domain.streams import (
    FEED,
    MOST_LABEL,
    MOST_RECORDS,
    MOST_WAIT_S,
    READ_BYTES,
    START,
    Appended,
    Appending,
    Cursor,
    NewRecord,
    Partition,
    Position,
    Record,
    Slice,
    Snapshot,
    Stream,
    StreamSpec,
    at_offset,
    check_appending,
    check_stream,
)
from fuyun.domain.tenants import Principal
from fuyun.ports.streams import GroupStore, StreamStore
from fuyun.services.appending import Joining
from fuyun.services.arrivals import Arrivals
from fuyun.services.tenants import Tenants, entry_of

_log = structlog.get_logger("fuyun.streams")

#: Seconds between two looks for what has outlived its retention.
TRIM_EVERY_S = 60.0
#: Records that one write removes: others' writes get their turn in between.
TRIM_RECORDS = 1000
_PAGE = 500


@dataclass(slots=True)
class StreamTally:
    """What went in and out of a stream since the platform started."""

    appended: int = 0
    appended_bytes: int = 0
    read: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupState:
    """A group's cursors; how many records are before them, and the age in seconds of the oldest of those."""

    group: str
    cursors: list[Cursor]
    lag: int
    age_s: float


class Streams:
    """One per platform."""

    def __init__(self, store: StreamStore, groups: GroupStore, tenants: Tenants) -> None:
        self._store = store
        self._groups = groups
        self._tenants = tenants
        self.arrivals = Arrivals()
        self._joining = Joining(self._write)
        self._specs: dict[tuple[str, str], StreamSpec] = {}
        self.tallies: dict[tuple[str, str], StreamTally] = {}
        self._listeners: list[Callable[[str], None]] = []

    def listen(self, call: Callable[[str], None]) -> None:
        """Have `call("")` called whenever streams, feeds among them, may have come or gone, and `call(group)` when a
        group was reset."""
        self._listeners.append(call)

    def changed(self, group: str = "") -> None:
        """Streams have come or gone, or a group was reset."""
        self._specs.clear()
        for call in self._listeners:
            call(group)

    # --- streams ---------------------------------------------------------------------------------------------------

    async def put(
        self,
        principal: Principal,
        namespace: str,
        name: str,
        spec: StreamSpec,
        expected_revision: int | None = None,
        source: str = "",
    ) -> Stream:
        """Create the stream or change it. `expected_revision` 0: it must not exist. BadRequest, Conflict,
        PreconditionFailed, QuotaExceeded."""
        principal.require("deploy", namespace)
        check_stream(name, spec)
        await self._tenants.get_namespace(namespace)
        entry = entry_of(principal, namespace, "stream.put", name, source)
        quotas = self._tenants.quotas(namespace)
        made = await self._store.put(
            namespace, name, spec, quotas, clock.wall_s(), expected_revision=expected_revision, entry=entry
        )
        self.changed()
        return made

    async def get(self, namespace: str, name: str) -> tuple[Stream, list[Partition]]:
        """NotFound names the nearest stream there is."""
        try:
            return await self._store.get(namespace, name)
        except NotFound as exc:
            known = [stream.name for stream in await self._store.list_streams(namespace, limit=_PAGE)]
            close = nearest(name, known)
            hint = f"did you mean {close!r}?" if close else f"create it: fuyun stream create {name}"
            raise NotFound(exc.detail, hint=hint, kind="stream", name=name) from exc

    async def list_streams(self, namespace: str, after: str = "", limit: int = 100) -> list[Stream]:
        """A page by name, change feeds of tables among them. NotFound when the namespace is absent."""
        await self._tenants.get_namespace(namespace)
        return await self._store.list_streams(namespace, after, limit)

    async def delete(self, principal: Principal, namespace: str, name: str, source: str = "") -> None:
        """With its records and groups. NotFound; Conflict for a table's feed."""
        principal.require("delete", namespace)
        _check_own(name)
        await self.get(namespace, name)
        await self._store.delete(namespace, name, entry_of(principal, namespace, "stream.delete", name, source))
        self.tallies.pop((namespace, name), None)
        self.arrivals.scatter(namespace, name)
        self.changed()

    # --- records ---------------------------------------------------------------------------------------------------

    async def append_new(
        self, namespace: str, name: str, records: Sequence[NewRecord], producer: str = "", sequence: int = 0
    ) -> list[Appended]:
        """`append` of records as people write them."""
        now_s, source = clock.wall_s(), f"/{namespace}/stream/{name}"
        made = tuple(record.appending(source, ids.new_id(now_s), now_s) for record in records)
        return await self.append(namespace, name, made, producer, sequence)

    async def append(
        self, namespace: str, name: str, records: Sequence[Appending], producer: str = "", sequence: int = 0
    ) -> list[Appended]:
        """All or none, durable when it returns; see `ports.streams.StreamStore.append`. BadRequest, Conflict, NotFound,
        PayloadTooLarge, QuotaExceeded."""
        _check_own(name)
        if producer and not 1 <= sequence < 2**53:
            raise BadRequest(f"sequence is {sequence}", hint="count a producer's appends from 1", path="sequence")
        _check_label("producer", producer)
        spec = await self._spec(namespace, name)
        check_appending(spec, tuple(records))
        try:
            if producer or spec.versioned:
                made = await self._write(namespace, name, records, producer, sequence)
            else:
                made = await self._joining.append(namespace, name, records)
        except NotFound:
            self._specs.pop((namespace, name), None)
            raise
        tally = self._tally(namespace, name)
        tally.appended += len(records)
        tally.appended_bytes += sum(len(record.event.data) for record in records)
        self.grown(namespace, name, [one.partition for one in made])
        return made

    async def _write(
        self, namespace: str, name: str, records: Sequence[Appending], producer: str = "", sequence: int = 0
    ) -> list[Appended]:
        quotas = self._tenants.quotas(namespace)
        return await self._store.append(
            namespace, name, records, quotas, clock.wall_s(), producer=producer, sequence=sequence
        )

    async def _spec(self, namespace: str, name: str) -> StreamSpec:
        """What an append is checked against: what of it matters never changes."""
        found = self._specs.get((namespace, name))
        if found is None:
            found = self._specs[namespace, name] = (await self.get(namespace, name))[0].spec
        return found

    async def send(self, namespace: str, name: str, qualifier: str, events: Sequence[Event]) -> None:
        """Append events whose target is the stream; a subject is their key. See `services.targets.Sender`."""
        for start in range(0, len(events), MOST_RECORDS):
            some = events[start : start + MOST_RECORDS]
            records = [Appending(event=event, key=event.subject[:MOST_LABEL]) for event in some]
            await self.append(namespace, name, records)

    def grown(self, namespace: str, name: str, partitions: Sequence[int]) -> None:
        """Wake whoever waits for records of these partitions, which a driver has appended."""
        self.arrivals.wake(namespace, name, partitions)

    async def read(
        self,
        namespace: str,
        name: str,
        partition: int = 0,
        at: Position = START,
        limit: int = 100,
        wait_s: float = 0.0,
        left: asyncio.Future[Any] | None = None,
    ) -> Slice:
        """Records of a partition from `at` on; waits up to `wait_s` for the first one, or until `left` is done.
        NotFound, BadRequest."""
        if not 1 <= limit <= MOST_RECORDS:
            raise BadRequest(f"limit is {limit}", hint=f"use 1 to {MOST_RECORDS}", path="limit")
        if not 0 <= wait_s <= MOST_WAIT_S:
            raise BadRequest(f"wait_s is {wait_s:g}", hint=f"use 0 to {MOST_WAIT_S:g}", path="wait_s")
        deadline_s = clock.mono_s() + wait_s
        with self.arrivals.watch(namespace, name, (partition,)) as arrived:
            if left is not None:
                left.add_done_callback(lambda _: arrived.set())
            while True:
                arrived.clear()
                found = await self._store.read(namespace, name, partition, at, limit, READ_BYTES)
                left_s = deadline_s - clock.mono_s()
                if found.records or left_s <= 0 or self.arrivals.closed or (left is not None and left.done()):
                    if found.records:
                        self._tally(namespace, name).read += len(found.records)
                    return found
                at = at_offset(found.next)
                try:
                    async with asyncio.timeout(left_s):
                        await arrived.wait()
                except TimeoutError:
                    return found

    async def tail(self, namespace: str, name: str, at: Position) -> AsyncGenerator[Record, None]:
        """Records of all partitions from `at` on, then those to come, until closed. In order within a partition."""
        _, parts = await self.get(namespace, name)
        places = {part.number: at for part in parts}
        with self.arrivals.watch(namespace, name, places) as arrived:
            while not self.arrivals.closed:
                arrived.clear()
                more = False
                for number in places:
                    found = await self.read(namespace, name, number, places[number])
                    places[number] = at_offset(found.next)
                    more = more or found.next < found.end
                    for record in found.records:
                        yield record
                if not more:
                    await arrived.wait()

    async def read_key(self, namespace: str, name: str, key: str, after: int, limit: int) -> list[Record]:
        """Records of a key with versions above `after`. BadRequest for a stream that is not versioned."""
        await self._get_versioned(namespace, name)
        return await self._store.read_key(namespace, name, key, after, limit)

    async def put_snapshot(self, namespace: str, name: str, key: str, version: int, data: bytes) -> Snapshot:
        """Keep what a key's records up to `version` add up to (JSON). BadRequest, Conflict."""
        _check_own(name)
        await self._get_versioned(namespace, name)
        made = Snapshot(key=key, version=version, at_s=clock.wall_s(), data=data)
        await self._store.put_snapshot(namespace, name, made)
        return made

    async def get_snapshot(self, namespace: str, name: str, key: str) -> Snapshot:
        """NotFound when none was put; BadRequest for a stream that is not versioned."""
        await self._get_versioned(namespace, name)
        found = await self._store.find_snapshot(namespace, name, key)
        if found is None:
            raise NotFound(
                f"stream {name!r} has no snapshot of key {key!r}", hint="read the key from version 0",
                kind="snapshot", name=key,
            )  # fmt: skip
        return found

    async def _get_versioned(self, namespace: str, name: str) -> None:
        stream, _ = await self.get(namespace, name)
        if not stream.spec.versioned:
            raise BadRequest(
                f"stream {name!r} does not number the records of its keys",
                hint="create another one with versioned: true", path="stream",
            )  # fmt: skip

    # --- groups ----------------------------------------------------------------------------------------------------

    async def claim(
        self, namespace: str, name: str, group: str, partition: int, owner: str = "", start: Position = START
    ) -> Cursor:
        """Take over a partition for a group; who had it cannot commit any more. NotFound, BadRequest."""
        _check_label("group", group)
        _check_label("owner", owner)
        return await self._groups.claim(namespace, name, group, partition, owner, start, clock.wall_s())

    async def commit(self, namespace: str, name: str, group: str, partition: int, epoch: int, offset: int) -> None:
        """Move a claimed cursor; see `ports.streams.GroupStore.commit`. Conflict, NotFound, BadRequest."""
        await self._groups.commit(namespace, name, group, partition, epoch, offset, clock.wall_s())

    async def reset(
        self, principal: Principal, namespace: str, name: str, group: str, to: Position, source: str = ""
    ) -> list[Cursor]:
        """Put a group to a place, in all partitions; its owners claim anew. NotFound."""
        principal.require("deploy", namespace)
        _check_label("group", group)
        entry = entry_of(principal, namespace, "stream.reset", name, source, f"group {group} to {to.where}")
        found = await self._groups.reset(namespace, name, group, to, clock.wall_s(), entry)
        self.changed(group)
        return found

    async def list_groups(self, namespace: str, name: str) -> list[GroupState]:
        """By name, with lag and age. NotFound."""
        _, parts = await self.get(namespace, name)
        by_group: dict[str, list[Cursor]] = {}
        for group, cursor in await self._groups.list_cursors(namespace, name):
            by_group.setdefault(group, []).append(cursor)
        found = []
        for group, cursors in by_group.items():
            ahead = [parts[one.partition].end - max(one.offset, parts[one.partition].start) for one in cursors]
            ages = [
                await self.age_s(namespace, name, one.partition, one.offset)
                for one, lag in zip(cursors, ahead, strict=True)
                if lag
            ]
            found.append(GroupState(group=group, cursors=cursors, lag=sum(ahead), age_s=max(ages, default=0.0)))
        return found

    async def age_s(self, namespace: str, name: str, partition: int, offset: int) -> float:
        """Seconds since the record at an offset was appended; 0 when there is none yet."""
        found = await self._store.read(namespace, name, partition, at_offset(offset), 1)
        return max(0.0, clock.wall_s() - found.records[0].at_s) if found.records else 0.0

    async def delete_group(self, principal: Principal, namespace: str, name: str, group: str, source: str = "") -> None:
        """NotFound when absent."""
        principal.require("delete", namespace)
        entry = entry_of(principal, namespace, "stream.delete-group", name, source, f"group {group}")
        await self._groups.delete_group(namespace, name, group, entry)

    # --- in the background -----------------------------------------------------------------------------------------

    def start(self, scope: Scope) -> None:
        """Keep removing what has outlived its retention."""
        scope.start(self._keep_trimming(), "trim-streams")

    async def trim(self) -> int:
        """Remove what has outlived its retention; how many records."""
        total = 0
        while removed := await self._store.trim(clock.wall_s(), TRIM_RECORDS):
            total += removed
        return total

    async def _keep_trimming(self) -> None:
        while True:
            try:
                await self.trim()
            except FuyunError as error:  # a disk in trouble; it may be well the next time
                _log.warning("old records could not be removed", error=str(error))
            await asyncio.sleep(TRIM_EVERY_S)

    async def forget(self, namespace: str) -> None:
        """A namespace was deleted."""
        self.tallies = {key: tally for key, tally in self.tallies.items() if key[0] != namespace}
        self._specs.clear()
        self.arrivals.scatter(namespace)

    async def close(self) -> None:
        """Answer whoever waits."""
        self.arrivals.close()
        await self._joining.close()

    def _tally(self, namespace: str, name: str) -> StreamTally:
        return self.tallies.setdefault((namespace, name), StreamTally())


def _check_own(name: str) -> None:
    """Conflict for a change feed, which its table alone writes."""
    if name.startswith(FEED):
        raise Conflict(
            f"{name!r} is the change feed of table {name.removeprefix(FEED)!r}",
            hint="change the table; its feed can only be read", path="stream",
        )  # fmt: skip
    check_name("stream", name)


def _check_label(kind: str, text: str) -> None:
    if len(text) > MOST_LABEL or not text.isprintable():
        raise BadRequest(
            f"{text[:80]!r} is no name of a {kind}", hint=f"use up to {MOST_LABEL} printable characters", path=kind
        )
