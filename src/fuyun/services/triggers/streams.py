"""Triggers of streams and of tables, whose changes are streams: one poller for each partition.

A poller claims its partition for the trigger's group, so that whoever had it before cannot move the cursor any more. It
hands over a batch at a time and moves the cursor once every record of the batch was taken by the function or is a dead
letter, which is on the disk then: a crash repeats a batch, and loses none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from fuyun.base import clock, faults, ids
from fuyun.base.tasks import Scope
from fuyun.decide.filters import View, compiled
from fuyun.domain.errors import Conflict, FuyunError, NotFound
from fuyun.domain.filters import read_filter
from fuyun.domain.streams import (
    FEED,
    MOST_RECORDS,
    MOST_WAIT_S,
    START,
    Cursor,
    Position,
    Record,
    at_offset,
    position_of,
)
from fuyun.services.streams import Streams
from fuyun.services.triggers.batches import Batches, Item, waited

if TYPE_CHECKING:
    from fuyun.services.triggers.bindings import Binding, Bindings

_log = structlog.get_logger("fuyun.triggers")
#: Seconds until a store that failed is asked again.
_PATIENCE_S: Final = 1.0
_Key = tuple[str, str, str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PollerGauge:
    """How far a poller is: records before its cursor, and the age in seconds of the next of them (0: none)."""

    namespace: str
    stream: str
    group: str
    partition: int
    lag: int
    age_s: float


def stream_of(binding: Binding) -> str:
    """The stream that a trigger of a stream or table reads."""
    trigger = binding.trigger
    if trigger.table is not None:
        return FEED + trigger.table.table
    assert trigger.stream is not None
    return trigger.stream.stream


def group_of(binding: Binding) -> str:
    """The group as which it reads."""
    return f"trigger.{binding.function}.{binding.name}"


class StreamTriggers:
    """One per platform."""

    def __init__(self, streams: Streams, bindings: Bindings, batches: Batches) -> None:
        self._streams = streams
        self._bindings = bindings
        self._batches = batches
        self._scope = Scope("stream-triggers", lambda error: _log.error("a poller failed", exc_info=error))
        self._pollers: dict[_Key, tuple[_Poller, asyncio.Task[None]]] = {}
        self._wanted_s: dict[tuple[str, str, str], float] = {}  # when a trigger was first seen
        self._changed = asyncio.Event()
        self.node = ids.new_id()

    def open(self) -> None:
        """Begin, and follow what is deployed, paused and created from now on."""
        self._bindings.listen(self._notice)
        self._streams.listen(self._reset)
        self._notice()
        self._scope.start(self._follow(), "follow")

    def _notice(self) -> None:
        now_s = clock.wall_s()
        known = {binding.key for kind in ("stream", "table") for binding in self._bindings.of(kind)}
        # A trigger begins at its deployment, not when its poller comes to claim.
        self._wanted_s = {key: self._wanted_s.get(key, now_s) for key in known}
        self._changed.set()

    def _reset(self, group: str) -> None:
        for poller, _ in self._pollers.values():
            if group and poller.group == group:
                poller.stop()  # another one claims the partition where the cursor is now
        self._notice()

    async def close(self) -> None:
        """End; what is inside functions is begun anew by the next platform."""
        await self._scope.close()

    async def drain(self, timeout_s: float) -> None:
        """Let batches that are inside functions end for up to so long, and begin none."""
        for poller, _ in self._pollers.values():
            poller.stop()
        tasks = [task for _, task in self._pollers.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)

    def gauges(self) -> list[PollerGauge]:
        """Of every poller that runs."""
        return [poller.gauge() for poller, task in self._pollers.values() if not task.done()]

    # --- which pollers there are -----------------------------------------------------------------------------------

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._reconcile()
            except FuyunError as error:
                _log.warning("triggers of streams cannot be looked up", error=str(error))
                await asyncio.sleep(_PATIENCE_S)
                self._changed.set()

    async def _reconcile(self) -> None:
        wanted: dict[_Key, Binding] = {}
        for binding in [*self._bindings.of("stream"), *self._bindings.of("table")]:
            if binding.paused:
                continue
            try:
                _, parts = await self._streams.get(binding.namespace, stream_of(binding))
            except NotFound:  # its creation is noticed
                continue
            wanted |= {(*binding.key, part.number): binding for part in parts}
        for key, (poller, task) in list(self._pollers.items()):
            if key not in wanted or poller.binding.trigger != wanted[key].trigger or task.done():
                poller.stop()
                if key not in wanted and task.done():
                    del self._pollers[key]
        for key, binding in wanted.items():
            found = self._pollers.get(key)
            if found is None or found[0].stopping:
                since_s = self._wanted_s.get(binding.key, clock.wall_s())
                poller = _Poller(self._streams, self._batches, binding, key[3], self.node, since_s)
                before = None if found is None else found[1]
                poller.task = self._scope.start(poller.run(before), "/".join(map(str, key)))
                self._pollers[key] = (poller, poller.task)


class _Poller:
    """Of one partition for one trigger."""

    in_order = True

    def __init__(
        self, streams: Streams, batches: Batches, binding: Binding, partition: int, node: str, since_s: float
    ) -> None:
        self.binding = binding
        self.stopping = False
        self._streams = streams
        self._batches = batches
        self._partition = partition
        self._node = node
        self._since_s = since_s
        self.task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._reading = False  # and nothing else, so that it may be cancelled
        self._source = (binding.namespace, stream_of(binding))
        self.group = group_of(binding)
        policy = binding.trigger.policy
        self._takes: Callable[[Record], bool] = lambda record: True
        if policy.filter is not None:
            takes = compiled(read_filter(policy.filter))
            self._takes = lambda record: takes(View(record.event))
        self._lag = 0
        self._next_s = 0.0  # when the next record was appended; 0 for none

    def stop(self) -> None:
        """Begin no further batch; one that is inside the function ends first."""
        self.stopping = True
        self._stop.set()
        if self._reading and self.task is not None:
            self.task.cancel()

    async def wait(self, seconds: float) -> bool:
        """Until then; False when it is stopped before."""
        return await waited(self._stop, seconds)

    def settled(self, items: Sequence[Item], given_up: bool) -> None:
        """The cursor is moved when all of a batch are."""

    def gauge(self) -> PollerGauge:
        """How far it is."""
        age_s = max(0.0, clock.wall_s() - self._next_s) if self._next_s else 0.0
        return PollerGauge(
            namespace=self._source[0], stream=self._source[1], group=self.group, partition=self._partition,
            lag=self._lag, age_s=age_s,
        )  # fmt: skip

    async def run(self, before: asyncio.Task[None] | None) -> None:
        """Poll until it is stopped or the stream is gone; begins when the poller before it has ended."""
        if before is not None:
            await asyncio.wait([before])
        while not self.stopping:
            self._reading = False
            try:
                cursor = await self._streams.claim(
                    *self._source, self.group, self._partition, self._node, self._first()
                )
                await self._poll(cursor)
            except Conflict as error:  # reset, or taken over: the cursor is claimed anew
                _log.info("a partition changed hands", group=self.group, partition=self._partition, why=error.detail)
            except NotFound:
                return
            except FuyunError as error:
                _log.warning("a poller cannot go on", group=self.group, partition=self._partition, error=str(error))
                await self.wait(_PATIENCE_S)

    def _first(self) -> Position:
        """Where a new group begins."""
        start = self.binding.trigger.policy.start
        if start == "start":
            return START
        if start == "end":
            return Position(where="time", value=self._since_s)
        return position_of(f"time:{start}")

    async def _poll(self, cursor: Cursor) -> None:
        offset = cursor.offset
        while not self.stopping:
            self._reading = True
            records, following = await self._gather(offset)
            self._reading = False
            if following == offset:
                continue
            wanted = [record for record in records if self._takes(record)]
            if not await self._batches.deliver_lanes(self.binding, wanted, self):
                return
            faults.point("streams.before_commit")
            await self._streams.commit(*self._source, self.group, self._partition, cursor.epoch, following)
            faults.point("streams.after_commit")
            self._lag, self._next_s = max(0, self._lag - (following - offset)), 0.0
            offset = following

    async def _gather(self, offset: int) -> tuple[list[Record], int]:
        """Records from `offset` on, as many as one batch for each lane may have, and the offset behind them."""
        policy = self.binding.trigger.policy
        most = min(MOST_RECORDS, policy.batch_size * policy.parallelism)
        records: list[Record] = []
        until_s = 0.0
        while len(records) < most:
            left_s = max(0.0, until_s - clock.mono_s()) if records else MOST_WAIT_S
            found = await self._streams.read(
                *self._source, self._partition, at_offset(offset), most - len(records), min(left_s, MOST_WAIT_S)
            )
            if found.records and not records:
                until_s = clock.mono_s() + policy.batch_window_s
                self._lag, self._next_s = found.end - found.records[0].offset, found.records[0].at_s
            records += found.records
            offset = found.next
            if not found.records or clock.mono_s() >= until_s:
                break
        return records, offset
