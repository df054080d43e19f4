"""Streams, tables and their triggers over the event path in virtual time."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from fuyun.domain.events import Event
from fuyun.domain.functions import Trigger
from fuyun.domain.streams import NewRecord, StreamSpec
from fuyun.domain.tables import Change, TableSpec
from fuyun.domain.triggers import Policy, StreamTrigger, TableTrigger
from fuyun.services.tenants import PLATFORM
from fuyun.testing.hosts import FakeCall
from tests.services import events


class Streaming:
    """Streams over the event path; `restart` is what a kill and a new start come to."""

    def __init__(self, e: events.Events) -> None:
        self.events = e
        self.seen: list[list[Any]] = []  # what each batch held, as its function got it
        self.make()

    def make(self) -> None:
        """The services of the event path there is."""
        flows = self.events.path.flows
        self.streams, self.tables, self.batches, self.pollers = (
            flows.streams,
            flows.tables,
            flows.batches,
            flows.triggers,
        )

    async def restart(self) -> None:
        """Begin anew on what is on the disk, whatever is under way."""
        await self.events.restart()
        self.make()

    async def create(self, name: str = "s", **spec: Any) -> None:
        """A stream."""
        await self.streams.put(PLATFORM, "default", name, StreamSpec(**spec))

    async def create_table(self, name: str = "t", **spec: Any) -> None:
        """A table."""
        await self.tables.put(PLATFORM, "default", name, TableSpec(**spec))

    async def deploy(self, name: str = "f", source: str = "s", table: bool = False, **policy: Any) -> None:
        """A function with a trigger."""
        kind = {"table": TableTrigger(table=source)} if table else {"stream": StreamTrigger(stream=source)}
        trigger = Trigger(policy=Policy(**policy), **kind)  # type: ignore[arg-type]
        await self.events.platform.deploy(name, triggers=(trigger,))
        self.events.path.bindings.changed()

    async def append(self, *values: Any, key: str = "", name: str = "s") -> None:
        """One append of a record for each value."""
        await self.streams.append_new("default", name, [NewRecord(data=value, key=key) for value in values])

    async def write(self, *changes: Change) -> None:
        """Change the table t."""
        await self.tables.write("default", "t", changes)

    async def offsets(self, name: str = "s") -> dict[str, list[int]]:
        """Group -> offsets of its cursors by partition."""
        found = await self.streams.list_groups("default", name)
        return {one.group: [cursor.offset for cursor in one.cursors] for one in found}

    def data(self) -> list[list[Any]]:
        """The data of the records of each batch."""
        return [[one["data"] for one in batch] for batch in self.seen]

    def record(self, call: FakeCall) -> list[Any]:
        """Note what a call brings; its records' data."""
        batch = json.loads(call.body)
        self.seen.append(batch)
        return [one["data"] for one in batch]

    def take_all(self, call: FakeCall) -> None:
        """A handler that takes everything."""
        self.record(call)
        call.answer()


def event(text: str, **fields: Any) -> Event:
    """An event for `Streams.send`."""
    return Event(id=text, source="/x", type="t", time_s=0.0, data=json.dumps(text).encode(), **fields)


def play(scene: Callable[[Streaming], Awaitable[None]], seed: int = 1, **options: Any) -> None:
    """Run a scene in virtual time."""

    async def inner(e: events.Events) -> None:
        s = Streaming(e)
        e.handler = s.take_all
        await scene(s)

    events.play(inner, seed, **options)
