"""What comes from systems of others and goes to them, put together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fuyun.ports.changes import OpenChanges, SlotStore
from fuyun.ports.endpoints import EndpointStore, Sender
from fuyun.ports.places import PlaceStore
from fuyun.ports.records import RecordStore
from fuyun.services.endpoints import Binary, Endpoints
from fuyun.services.messaging import Path
from fuyun.services.routes import RouteTable
from fuyun.services.tenants import Tenants
from fuyun.services.trailing import Trailing
from fuyun.services.triggers.batches import Batches
from fuyun.services.triggers.governing import Governing
from fuyun.services.triggers.logs import LogTriggers
from fuyun.services.triggers.postgres import PostgresTriggers
from fuyun.services.webhooks import Webhooks


@dataclass(frozen=True, kw_only=True)
class OutsideParts:
    """What it is built on."""

    slots: SlotStore
    open_changes: OpenChanges
    endpoints: EndpointStore
    sender: Sender
    binary: Binary
    table: RouteTable
    records: RecordStore
    places: PlaceStore
    trailing: Trailing


class Outside:
    """One per platform."""

    def __init__(self, tenants: Tenants, path: Path, governing: Governing, parts: OutsideParts) -> None:
        self.webhooks = Webhooks(path.invoker, path.acceptor, path.bindings, tenants, path.scope)
        governing.register("webhook", self.webhooks.times)
        self.endpoints = Endpoints(parts.endpoints, parts.sender, tenants, parts.binary)
        path.targets.register("endpoint", self.endpoints.send)
        path.relay.leave_out(self.endpoints.is_gone)
        self.batches = Batches(path.invoker, path.acceptor, path.random)
        self.postgres = PostgresTriggers(path.bindings, tenants, parts.slots, parts.open_changes, self.batches)
        governing.register_standing("postgres", self.postgres.standing)
        self.logs = LogTriggers(path.bindings, parts.table, parts.records, parts.places, parts.trailing, self.batches)
        governing.register_standing("log", self.logs.standing)

    async def load(self) -> None:
        """Read what there is, so that deliveries may begin."""
        await self.endpoints.open()

    async def open(self) -> None:
        """Begin to call functions. It is to be known by now which triggers are paused."""
        await self.postgres.open()
        await self.logs.open()

    async def drain(self, timeout_s: float) -> None:
        """Let what is inside functions end for up to so long, and begin nothing."""
        await asyncio.gather(self.postgres.drain(timeout_s), self.logs.drain(timeout_s))

    async def close(self) -> None:
        """End."""
        await self.logs.close()
        await self.postgres.close()
        await self.endpoints.close()
