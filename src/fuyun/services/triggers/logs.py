"""Triggers of log lines: what functions logged is read from where it is kept, matched, and handed over in batches.

The place of a trigger moves on when every line before it was taken or is a dead letter on the disk, so that a restart
loses no line that was kept. A line is an edge from the invocation that wrote it: circles are cut off like all others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import structlog

from fuyun.base import clock, faults
from fuyun.base.tasks import Scope
from fuyun.decide.filters import View, compiled
from fuyun.domain.errors import FuyunError
from fuyun.domain.events import Event
from fuyun.domain.filters import read_filter
from fuyun.domain.invocations import LogLine
from fuyun.domain.logtriggers import matcher_of
from fuyun.domain.streams import Record
from fuyun.ports.places import Key, PlaceStore
from fuyun.ports.records import LogPlace, RecordStore
from fuyun.services.routes import RouteTable
from fuyun.services.trailing import Trailing
from fuyun.services.triggers.batches import Batches, Item, waited
from fuyun.services.triggers.bindings import Binding, Bindings
from fuyun.services.triggers.governing import Standing

_log = structlog.get_logger("fuyun.triggers")
#: Seconds until lines that came are read, so that those that come together are read together.
_GATHER_S: Final = 0.1
#: Seconds until a store that failed is asked again.
_PATIENCE_S: Final = 1.0
#: Lines that are read of one function at once.
_MOST_LINES: Final = 1000
TYPE: Final = "fuyun.log.line"


class LogTriggers:
    """One per platform."""

    def __init__(
        self, bindings: Bindings, table: RouteTable, records: RecordStore, places: PlaceStore, trailing: Trailing,
        batches: Batches,
    ) -> None:  # fmt: skip
        self._bindings = bindings
        self.table = table
        self.records = records
        self.trailing = trailing
        self.batches = batches
        self._places_store = places
        self._places: dict[Key, dict[str, LogPlace]] = {}
        self._readers: dict[Key, tuple[_Reader, asyncio.Task[None]]] = {}
        self._changed = asyncio.Event()
        self._stopping = False
        self._scope = Scope("log triggers", lambda error: _log.error("a trigger of logs failed", exc_info=error))

    async def open(self) -> None:
        """Begin; and go with the triggers that come and go."""
        self._places = await self._places_store.list_places()
        self._bindings.listen(self._changed.set)
        self._changed.set()
        self._scope.start(self._follow(), "follow")

    async def close(self) -> None:
        """End; what is inside functions is begun anew by the next platform."""
        self._stopping = True
        await self._scope.close()
        for reader, _ in self._readers.values():
            reader.leave()

    async def drain(self, timeout_s: float) -> None:
        """Let batches that are inside functions end for up to so long, and begin none."""
        self._stopping = True
        for reader, _ in self._readers.values():
            reader.stop()
        tasks = [task for _, task in self._readers.values() if not task.done()]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)

    def standing(self, binding: Binding) -> Standing:
        """How a trigger stands."""
        found = self._readers.get(binding.key)
        return Standing(last_s=found[0].last_s, problem=found[0].problem) if found is not None else Standing()

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._reconcile()
            except FuyunError as error:
                _log.warning("places of triggers cannot be kept", error=str(error))
                await asyncio.sleep(_PATIENCE_S)
                self._changed.set()

    async def _reconcile(self) -> None:
        if self._stopping:
            return
        known = {binding.key: binding for binding in self._bindings.of("log")}
        self.trailing.active = bool(known)
        for key in [key for key in self._places if key not in known]:
            await self._places_store.forget(key)
            del self._places[key]
        there = {(namespace, function) for namespace, function, _ in self.table.drafts()}
        for key, place in list(self._places.items()):
            kept = {function: reached for function, reached in place.items() if (key[0], function) in there}
            if kept != place:  # a function that is deployed again under its name logs anew
                await self.keep_place(known[key], kept)
        wanted = {key: binding for key, binding in known.items() if not binding.paused}
        for key, (reader, task) in list(self._readers.items()):
            if wanted.get(key) != reader.binding:
                reader.stop()
                if key not in wanted and task.done():
                    del self._readers[key]
            else:
                reader.wake()  # there may be a function more
        for key, binding in known.items():
            if key not in self._places:  # it begins now, also when it is paused
                await self.keep_place(binding, await self._now(binding))
        for key, binding in wanted.items():
            found = self._readers.get(key)
            if found is None or found[0].stopping or found[1].done():
                reader = _Reader(binding, self)
                before = None if found is None else found[1]
                self._readers[key] = (reader, self._scope.start(reader.run(before), "/".join(key)))

    async def _now(self, binding: Binding) -> dict[str, LogPlace]:
        return {
            function: (await self.records.read_logs(binding.namespace, function, None, 0)).place
            for function in self.sources(binding)
        }

    def sources(self, binding: Binding) -> list[str]:
        """Functions whose lines a trigger reads: never those of its own."""
        trigger = binding.trigger.log
        assert trigger is not None
        return [
            function
            for namespace, function, _ in self.table.drafts()
            if namespace == binding.namespace and function != binding.function and trigger.function in ("", function)
        ]

    def place_of(self, binding: Binding) -> dict[str, LogPlace]:
        """How far it has come, by function."""
        return self._places.get(binding.key, {})

    async def keep_place(self, binding: Binding, place: dict[str, LogPlace]) -> None:
        """It has come so far."""
        await self._places_store.put(binding.key, place)
        self._places[binding.key] = place


class _Reader:
    """Of one trigger. Implements `services.triggers.batches.Turn`."""

    in_order = True

    def __init__(self, binding: Binding, owner: LogTriggers) -> None:
        self.binding = binding
        self.stopping = False
        self.last_s: float | None = None
        self.problem = ""
        self._owner = owner
        self._stop = asyncio.Event()
        self._awake = asyncio.Event()
        self._followed: dict[str, Callable[[], None]] = {}
        trigger = binding.trigger.log
        assert trigger is not None
        self._named = trigger.function
        self._matches = matcher_of(trigger)
        self._takes: Callable[[Event], bool] = lambda event: True
        if binding.trigger.policy.filter is not None:
            takes = compiled(read_filter(binding.trigger.policy.filter))
            self._takes = lambda event: takes(View(event))

    def settled(self, items: Sequence[Item], given_up: bool) -> None:
        """See `Turn`: the place is moved when all of a batch are."""

    def stop(self) -> None:
        """Begin no further batch; one that is inside the function ends first."""
        self.stopping = True
        self._stop.set()
        self._awake.set()

    def wake(self) -> None:
        """There may be something to read."""
        self._awake.set()

    def leave(self) -> None:
        """Be told of nothing any more."""
        for stop in self._followed.values():
            stop()
        self._followed.clear()

    async def wait(self, seconds: float) -> bool:
        """Until then; False when it is stopped before."""
        return await waited(self._stop, seconds)

    async def run(self, before: asyncio.Task[None] | None) -> None:
        """Read until it is stopped; begins when the reader before it has ended."""
        if before is not None:
            await asyncio.wait([before])
        self._awake.set()
        try:
            while not self.stopping:
                await self._awake.wait()
                self._awake.clear()
                try:
                    await self._round()
                except FuyunError as error:
                    self.problem = error.detail
                    _log.warning("log lines cannot be handed over", trigger=self.binding.origin, error=str(error))
                    await self.wait(_PATIENCE_S)
                    self._awake.set()
        finally:
            self.leave()

    async def _round(self) -> None:
        """Everything that is there now, of every function."""
        sources = self._owner.sources(self.binding)
        self._listen(sources)
        own = self._named == self.binding.function
        self.problem = "a trigger does not get the lines of its own function" if own else ""
        if not await self.wait(max(_GATHER_S, self.binding.trigger.policy.batch_window_s)):
            return
        for function in sources:
            while not self.stopping and await self._read(function):
                pass

    def _listen(self, sources: list[str]) -> None:
        for function in [name for name in self._followed if name not in sources]:
            self._followed.pop(function)()
        for function in sources:
            if function not in self._followed:
                follow = self._owner.records.follow
                self._followed[function] = follow(self.binding.namespace, function, self._told)

    def _told(self, items: Any) -> None:
        if any(isinstance(item, LogLine) for item in items):
            self._awake.set()

    async def _read(self, function: str) -> bool:
        """Hand over the next lines of a function; whether there may be more."""
        places = self._owner.place_of(self.binding)
        place = places.get(function, {})
        found = await self._owner.records.read_logs(self.binding.namespace, function, place, _MOST_LINES)
        records = [self._record(function, at, line) for at, line in found.lines if self._matches(line.text)]
        wanted = [record for record in records if self._takes(record.event)]
        if not await self._owner.batches.deliver_lanes(self.binding, wanted, self):
            return False
        faults.point("logs.before_commit")
        if wanted:
            self.last_s = clock.wall_s()
        if found.place != place:
            await self._owner.keep_place(self.binding, {**self._owner.place_of(self.binding), function: found.place})
        faults.point("logs.after_commit")
        return len(found.lines) >= _MOST_LINES

    def _record(self, function: str, at: tuple[str, int], line: LogLine) -> Record:
        """A line as functions get it: an edge from the invocation that wrote it."""
        hops, trail = self._owner.trailing.of(line.request)
        data: dict[str, Any] = {
            "function": function, "version": line.version, "instance": line.instance, "request": line.request,
            "stream": line.stream, "level": line.level, "text": line.text,
        }  # fmt: skip
        if line.text[:1] == "{":
            try:
                data["json"] = msgspec.json.decode(line.text)
            except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
                pass
        event = Event(
            id=f"{function}/{at[0]}/{at[1]}", source=f"/{self.binding.namespace}/function/{function}", type=TYPE,
            subject=function, time_s=line.at_s, data=msgspec.json.encode(data), hops=hops, trail=trail,
        )  # fmt: skip
        digits = int("".join(filter(str.isdigit, at[0])) or "0")
        return Record(
            partition=0, offset=digits * 10**12 + at[1], key=line.request or line.instance, at_s=line.at_s, event=event
        )
