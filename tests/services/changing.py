"""Triggers of a real PostgreSQL over the event path, in real time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from fuyun.domain.triggers import Policy, PostgresTrigger, Trigger
from fuyun.services.tenants import PLATFORM
from fuyun.services.triggers.governing import TriggerStatus
from fuyun.testing.hosts import FakeCall
from tests import postgres
from tests.services import events

SLOTS = "SELECT count(*) FROM pg_replication_slots"
PUBLICATIONS = "SELECT count(*) FROM pg_publication"


class Scene:
    """A database with a table `t`, and the event path with a function that gets its changes."""

    def __init__(self, e: events.Events, server: postgres.Server) -> None:
        self.events = e
        self.server = server
        self.seen: list[list[dict[str, Any]]] = []  # what each batch held
        e.tenants.secrets["DB"] = server.address()
        e.handler = self.take_all

    @property
    def triggers(self) -> Any:
        return self.events.path.outside.postgres

    def take_all(self, call: FakeCall) -> None:
        self.seen.append(json.loads(call.body))
        call.answer()

    async def sql(self, *texts: str) -> None:
        """Each in a transaction of its own."""
        db = await asyncpg.connect(self.server.address())
        try:
            for text in texts:
                await db.execute(text)
        finally:
            await db.close()

    async def value(self, query: str) -> Any:
        db = await asyncpg.connect(self.server.address())
        try:
            return await db.fetchval(query)
        finally:
            await db.close()

    async def deploy(self, tables: tuple[str, ...] = ("t",), wait: bool = True, **fields: Any) -> None:
        """The function `f` with a trigger, once it reads."""
        source = {name: fields.pop(name) for name in ("operations", "publication", "secret", "alias") if name in fields}
        trigger = Trigger(
            postgres=PostgresTrigger(**{"secret": "DB", "tables": tables, **source}), policy=Policy(**fields)
        )
        await self.events.platform.deploy("f", triggers=(trigger,))
        self.events.path.bindings.changed()
        if wait:
            await self.until(lambda: [slot for slot in self.triggers._slots.values() if slot.made and not slot.gone])

    async def remove(self) -> None:
        """The function goes, and with it the slot at the server."""
        self.events.platform.catalog.put("f")
        await self.events.platform.dispatcher.reload("default", "f")
        self.events.path.bindings.changed()

    async def until(self, holds: Callable[[], Any], timeout_s: float = 20.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not holds():
                await asyncio.sleep(0.02)

    def ids(self) -> list[int]:
        """The primary keys of what came, in its order."""
        return [event["data"]["key"]["id"] for batch in self.seen for event in batch]

    def problem(self) -> str:
        """What the reader says keeps it."""
        return "".join(reader.standing().problem for reader, _ in self.triggers._readers.values())

    async def status(self) -> TriggerStatus:
        (found,) = await self.events.path.governing.list_triggers(PLATFORM, "default", "f")
        return found


@asynccontextmanager
async def table(s: Scene) -> AsyncIterator[None]:
    await s.sql("DROP TABLE IF EXISTS t", "CREATE TABLE t (id int PRIMARY KEY, a text, j jsonb, n numeric)")
    try:
        yield
    finally:
        await s.remove()
        await s.until(lambda: not s.triggers._slots)
        assert await s.value(SLOTS) == 0, "the server keeps nothing for a trigger that is gone"
        assert await s.value(PUBLICATIONS) == 0
        await s.sql("DROP TABLE t")


def play(server: postgres.Server, scene: Callable[[Scene], Awaitable[None]]) -> None:
    async def inner(e: events.Events) -> None:
        s = Scene(e, server)
        async with table(s):
            await scene(s)

    events.play(inner, run=asyncio.run)
