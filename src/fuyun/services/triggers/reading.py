"""Reads one slot of an outside database for one trigger, hands over batches, and moves the slot's place on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from fuyun.base import clock, faults
from fuyun.decide.filters import View, compiled
from fuyun.domain.errors import FuyunError, Internal, NotFound
from fuyun.domain.events import Event
from fuyun.domain.filters import read_filter
from fuyun.domain.postgres import Slot, lsn_text
from fuyun.domain.streams import Record
from fuyun.ports.changes import Change, ChangeLog, Chunk
from fuyun.services.triggers.batches import Item, waited
from fuyun.services.triggers.governing import Standing

if TYPE_CHECKING:
    from fuyun.services.triggers.bindings import Binding
    from fuyun.services.triggers.postgres import PostgresTriggers

_log = structlog.get_logger("fuyun.triggers")
#: Seconds between looks at a log in which nothing happens: twice as long each time.
_LEAST_IDLE_S, _MOST_IDLE_S = 0.1, 1.0
#: Seconds after an error, likewise.
_LEAST_PATIENCE_S, _MOST_PATIENCE_S = 0.5, 30.0
#: Seconds between looks at what a server keeps for a trigger that is paused, or of which nothing is read.
_WATCH_S: Final = 30.0
#: Bytes that a server keeps for us before somebody is told.
_MUCH_BYTES: Final = 2**30
#: Changes that are read at once.
_MOST_CHANGES: Final = 1000
#: Bytes of the log without a change of ours after which the slot's place is moved on all the same.
_STRIDE_BYTES: Final = 16 * 2**20
#: Room in a sequence number for the changes of one transaction.
_WIDTH: Final = 10**8


class Reader:
    """Of one slot. It ends when it is told to."""

    in_order = True

    def __init__(self, binding: Binding, slot_name: str, owner: PostgresTriggers) -> None:
        self.binding = binding
        self.slot_name = slot_name
        self.stopping = False
        self.lag_bytes = self.kept_bytes = 0
        self._owner = owner
        self._stop = asyncio.Event()
        self._problem = ""
        self._last_s: float | None = None
        self._next_s = 0.0  # when the next change was committed; 0 for none
        self._warned = False
        self._seen = 0  # up to where the log holds nothing of ours
        self._renew = binding.paused  # who pauses and resumes a trigger whose slot was lost begins anew
        policy = binding.trigger.policy
        self._takes: Callable[[Record], bool] = lambda record: True
        if policy.filter is not None:
            takes = compiled(read_filter(policy.filter))
            self._takes = lambda record: takes(View(record.event))

    @property
    def age_s(self) -> float:
        """Of the next change."""
        return max(0.0, clock.wall_s() - self._next_s) if self._next_s else 0.0

    def standing(self) -> Standing:
        """How it stands."""
        return Standing(last_s=self._last_s, problem=self._problem, lag_bytes=self.lag_bytes, age_s=self.age_s)

    def settled(self, items: Sequence[Item], given_up: bool) -> None:
        """See `Turn`: the place is moved when all of a batch are."""

    def stop(self) -> None:
        """Begin no further batch; one that is inside the function ends first."""
        self.stopping = True
        self._stop.set()

    async def wait(self, seconds: float) -> bool:
        """Until then; False when it is stopped before."""
        return await waited(self._stop, seconds)

    async def run(self, before: asyncio.Task[None] | None) -> None:
        """Read until it is stopped; begins when the reader before it has ended."""
        if before is not None:
            await asyncio.wait([before])
        patience_s = _LEAST_PATIENCE_S
        while not self.stopping:
            try:
                log, slot = await self._owner.connect(self.binding, self.slot_name, self._renew)
                try:
                    self._renew, patience_s = False, _LEAST_PATIENCE_S
                    self._tell("")
                    await (self._watch(log) if self.binding.paused else self._read(log, slot))
                finally:
                    await log.close()
            except FuyunError as error:
                text = error.detail + (f"; {error.hint}" if error.hint else "")
                if isinstance(error, NotFound) and error.fields.get("kind") == "slot":
                    text = f"{error.detail}: changes since have been lost. Pause and resume the trigger to begin anew"
                self._tell(text)
            except Exception as error:  # a bug of ours is no reason to leave a slot without a reader
                _log.error("reading a slot failed", trigger=self.binding.origin, exc_info=error)
                self._tell(Internal(f"reading failed: {type(error).__name__}").detail)
            await self.wait(patience_s)
            patience_s = min(_MOST_PATIENCE_S, 2 * patience_s)

    def _tell(self, problem: str) -> None:
        if problem and problem != self._problem:
            _log.warning("a trigger does nothing", trigger=self.binding.origin, why=problem)
        self._problem = problem

    async def _look(self, log: ChangeLog) -> int:
        """The slot's place; says when the server keeps much for us, or has given us up."""
        found = await log.look()
        self.lag_bytes, self.kept_bytes = found.lag_bytes, found.kept_bytes
        if found.lost:
            raise NotFound(f"slot {self.slot_name} was given up by the server", kind="slot", name=self.slot_name)
        if (found.kept_bytes > _MUCH_BYTES) != self._warned:
            self._warned = not self._warned
            if self._warned:
                _log.warning(
                    "a server keeps much of its log for a trigger", trigger=self.binding.origin, slot=self.slot_name,
                    kept_bytes=found.kept_bytes, paused=self.binding.paused,
                )  # fmt: skip
        return found.lsn

    async def _watch(self, log: ChangeLog) -> None:
        """Read nothing, but see what the server keeps meanwhile."""
        while not self.stopping:
            await self._look(log)
            await self.wait(_WATCH_S)

    async def _read(self, log: ChangeLog, slot: Slot) -> None:
        idle_s = _LEAST_IDLE_S
        while not self.stopping:
            place = await self._look(log)
            skip = slot.skip if slot.lsn == place else 0
            end = place + self.lag_bytes
            chunk = Chunk() if end == self._seen else await log.read(skip, _MOST_CHANGES)
            if len(chunk.changes) < self.binding.trigger.policy.batch_size and chunk.changes:
                window_s = self.binding.trigger.policy.batch_window_s
                if window_s and await self.wait(window_s):
                    chunk = await log.read(skip, _MOST_CHANGES)
            if not chunk.changes:
                self._next_s, self._seen = 0.0, end
                if chunk.ends or self.lag_bytes > _STRIDE_BYTES:
                    await log.advance(chunk.ends[-1][1] if chunk.ends else end)
                    continue
                await self.wait(idle_s)
                idle_s = min(_MOST_IDLE_S, 2 * idle_s)
                continue
            idle_s = _LEAST_IDLE_S
            self._next_s = chunk.changes[0].at_s
            slot = await self._hand_over(log, slot, place, skip, chunk)

    async def _hand_over(self, log: ChangeLog, slot: Slot, place: int, skip: int, chunk: Chunk) -> Slot:
        """Deliver part by part, and move on behind each."""
        for first, last, end in self._parts(chunk):
            records = [_record(self.binding, change) for change in chunk.changes[first:last]]
            wanted = [record for record in records if self._takes(record)]
            if not await self._owner.batches.deliver_lanes(self.binding, wanted, self):
                return slot
            faults.point("postgres.before_advance")
            self._last_s = clock.wall_s()
            if end:
                await log.advance(end)
                place, skip = end, -last
            else:
                slot = await self._owner.keep_place(slot, place, skip + last)
            faults.point("postgres.after_advance")
            if self.stopping:
                break
        return slot

    def _parts(self, chunk: Chunk) -> Iterator[tuple[int, int, int]]:
        """(first, last, lsn): changes that are handed over together, as many as one batch for each lane may have or
        whole transactions of them; 0 for a transaction whose end is not there."""
        policy = self.binding.trigger.policy
        most = policy.batch_size * policy.parallelism
        first, ends = 0, dict(chunk.ends)
        while first < len(chunk.changes):
            last = min(first + most, len(chunk.changes))
            reached = [count for count in ends if first < count <= last]
            if reached:
                last = max(reached)
            yield first, last, ends.get(last, 0)
            first = last


def _record(binding: Binding, change: Change) -> Record:
    """A change as functions get it."""
    place = lsn_text(change.lsn)
    data: dict[str, Any] = {
        "operation": change.operation, "schema": change.schema, "table": change.table, "key": change.key,
        "old": change.old, "new": change.new, "unchanged": change.unchanged, "xid": change.xid, "lsn": place,
    }  # fmt: skip
    trigger = binding.trigger.postgres
    assert trigger is not None
    table = f"{change.schema}.{change.table}"
    event = Event(
        id=f"{place}-{change.index}", source=f"/{binding.namespace}/postgres/{trigger.secret}",
        type=f"fuyun.postgres.{change.operation}", subject=table, time_s=change.at_s, data=msgspec.json.encode(data),
    )  # fmt: skip
    key = f"{table}/{msgspec.json.encode(change.key).decode()}" if change.key else table
    return Record(partition=0, offset=change.lsn * _WIDTH + change.index, key=key[:1024], at_s=change.at_s, event=event)
