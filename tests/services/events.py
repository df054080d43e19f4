"""The event path over a dispatcher in virtual time, and a database in memory."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from fuyun.base import ids
from fuyun.base.tasks import Scope
from fuyun.domain.deliveries import Delivery, Order, Parcel
from fuyun.domain.errors import NotFound
from fuyun.domain.events import Event, Target
from fuyun.domain.tenants import AuditEntry, Quotas
from fuyun.drivers.deliveries.sql import SqlDeliveries
from fuyun.drivers.sql.outbox import emit
from fuyun.eventpath import EventPath, Surroundings
from fuyun.ports.deliveries import DeliveryQuery
from fuyun.testing import times
from fuyun.testing.databases import InlineDatabase
from fuyun.testing.hosts import FakeCall
from tests.services.platforms import Platform


class KnownTenants:
    """What messaging asks of `services.tenants.Tenants`; `noted` is what it wrote into the audit log."""

    def __init__(self, quotas: dict[str, Quotas]) -> None:
        self._quotas = quotas
        self.noted: list[AuditEntry] = []
        self.secrets: dict[str, str] = {}

    def quotas(self, name: str) -> Quotas:
        if name not in self._quotas:
            raise NotFound(f"there is no namespace {name!r}")
        return self._quotas[name]

    async def get_namespace(self, name: str) -> None:
        self.quotas(name)

    async def reveal(self, namespace: str, names: Iterable[str]) -> dict[str, str]:
        for name in names:
            if name not in self.secrets:
                raise NotFound(f"there is no secret {name!r} in namespace {namespace!r}")
        return {name: self.secrets[name] for name in names}

    async def note(self, entry: AuditEntry) -> None:
        self.noted.append(entry)

    def on_namespace_deleted(self, call: Callable[[str], Awaitable[None]]) -> None:
        pass


class Events:
    """Everything asynchronous; `restart` is what a kill and a new start come to."""

    def __init__(self, platform: Platform, seed: int = 1) -> None:
        self.platform = platform
        self.database = InlineDatabase()
        self.random = random.Random(seed)
        self.sent: list[tuple[str, str, Event]] = []  # to queues: namespace, name
        self.sending: Callable[[], Awaitable[None]] | None = None  # what sending to a queue does first
        self.failed: list[BaseException] = []
        self.tenants = KnownTenants(platform.quotas)
        self.handler: Callable[[FakeCall], None] | None = answer_all  # None leaves calls inside
        platform.host.on_call = self._call
        self.scope_of_test = Scope("test", self.failed.append)
        self._make()

    def _call(self, call: FakeCall) -> None:
        if self.handler is not None:
            self.handler(call)

    def _make(self) -> None:
        database: Any = self.database
        tenants: Any = self.tenants
        self.scope = Scope("events", self.failed.append)
        path = self.path = EventPath.build(
            Surroundings(
                database=database, invoker=self.platform.dispatcher, table=self.platform.dispatcher._table,
                scope=self.scope, tenants=tenants,
                random=self.random.random, retention_s=86400.0, dead_letter_s=14 * 86400.0,
            )
        )  # fmt: skip
        path.targets.register("queue", self._send)
        self.store, self.acceptor, self.relay = SqlDeliveries(database), path.acceptor, path.relay
        self.deliverer, self.oversight, self.deferring = path.deliverer, path.oversight, path.deferring

    async def _send(self, namespace: str, name: str, qualifier: str, events: Sequence[Event]) -> None:
        if self.sending is not None:
            await self.sending()
        self.sent += [(namespace, name, event) for event in events]

    async def open(self) -> None:
        """Begin."""
        self._stack = AsyncExitStack()
        await self.path.open(self._stack)

    async def close(self) -> None:
        """End at once, whatever is under way."""
        await self._stack.aclose()
        await self.scope.close()

    async def restart(self) -> None:
        """Begin anew on what is on the disk."""
        await self.close()
        self._make()
        await self.open()

    async def accept(self, name: str = "f", body: Any = None, namespace: str = "default", **fields: Any) -> str:
        """Accept an event invocation; its id."""
        order = Order(
            id=ids.new_id(), namespace=namespace, target=Target(kind="function", name=name),
            parcel=Parcel(body=json.dumps(body).encode()), **fields,
        )  # fmt: skip
        return await self.acceptor.accept(order)

    async def post(self, event: Event, origin: str = "photos") -> None:
        """Emit an event of a bucket."""
        await self.database.write(lambda connection: emit(connection, "default", "bucket", origin, [event]))

    async def find(self, id_: str, namespace: str = "default") -> Delivery:
        """A delivery."""
        return (await self.store.get(namespace, id_))[0]

    async def list(self, **fields: Any) -> list[Delivery]:
        """Deliveries of the namespace `default`."""
        query = DeliveryQuery(**{"namespace": "default", "limit": 100_000, **fields})
        return await self.store.list_deliveries(query)


def answer_all(call: FakeCall) -> None:
    """A handler that returns its event."""
    call.answer(json.loads(call.body or b"null"))


def play(scene: Callable[[Events], Awaitable[None]], seed: int = 1, **options: Any) -> Events:
    """Run a scene in virtual time."""

    async def main() -> Events:
        failed: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failed.append(context))
        platform = Platform(0.0, **options)
        await platform.dispatcher.open()
        events = Events(platform, seed)
        await events.open()
        try:
            await scene(events)
        finally:
            await events.scope_of_test.close()
            await events.close()
            await platform.dispatcher.close(5.0)
            events.database.close()
        assert failed == []
        assert events.failed == []
        return events

    return times.run(main())
