"""Streams, tables and what they set going, put together: a target for others, and triggers."""

from __future__ import annotations

from dataclasses import dataclass

from fuyun.base.tasks import Scope
from fuyun.ports.streams import GroupStore, StreamStore
from fuyun.ports.tables import TableStore
from fuyun.services.flowoffers import StreamOffer, TableOffer
from fuyun.services.messaging import Path
from fuyun.services.offers import Offer
from fuyun.services.streams import Streams
from fuyun.services.tables import Tables
from fuyun.services.tenants import Tenants
from fuyun.services.triggers.batches import Batches
from fuyun.services.triggers.streams import StreamTriggers


@dataclass(frozen=True, kw_only=True)
class FlowStores:
    """Where everything is kept."""

    streams: StreamStore
    groups: GroupStore
    tables: TableStore


class Flows:
    """One per platform."""

    def __init__(self, stores: FlowStores, tenants: Tenants, path: Path) -> None:
        self.streams = Streams(stores.streams, stores.groups, tenants)
        self.tables = Tables(stores.tables, self.streams, tenants)
        self.batches = Batches(path.invoker, path.acceptor, path.random)
        self.triggers = StreamTriggers(self.streams, path.bindings, self.batches)
        self.offers: dict[str, Offer] = {"streams": StreamOffer(self.streams), "tables": TableOffer(self.tables)}
        path.targets.register("stream", self.streams.send)
        tenants.on_namespace_deleted(self.streams.forget)
        tenants.on_namespace_deleted(self.tables.forget)

    def open(self) -> None:
        """Begin to call functions. It is to be known by now which triggers are paused."""
        self.triggers.open()

    def start(self, scope: Scope) -> None:
        """Keep removing what has outlived its time."""
        self.streams.start(scope)
        self.tables.start(scope)

    async def close(self) -> None:
        """End; whoever waits is answered."""
        await self.triggers.close()
        await self.streams.close()
