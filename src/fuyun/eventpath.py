"""The event path, put together: `wiring` builds one, and other services register their targets and matchers there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from fuyun.base.tasks import Scope
from fuyun.domain.brokers import SCHEMES
from fuyun.domain.events import Event
from fuyun.drivers.brokers.loading import broker_of
from fuyun.drivers.bus.archive import SqlBusArchive
from fuyun.drivers.bus.store import SqlBuses
from fuyun.drivers.changes.postgres import Postgres
from fuyun.drivers.deliveries.sql import SqlDeliveries
from fuyun.drivers.deliveries.triggers import SqlTriggers
from fuyun.drivers.endpoints.http import HttpSender
from fuyun.drivers.endpoints.sql import SqlEndpoints
from fuyun.drivers.places.sql import SqlPlaces
from fuyun.drivers.queues.store import SqlQueues
from fuyun.drivers.queues.topics import SqlTopics
from fuyun.drivers.slots.sql import SqlSlots
from fuyun.drivers.sql.sqlite import Database
from fuyun.drivers.streams.groups import SqlGroups
from fuyun.drivers.streams.store import SqlStreams
from fuyun.drivers.tables.store import SqlTables
from fuyun.ports.brokers import Broker
from fuyun.ports.records import RecordStore
from fuyun.services.accepting import Acceptor
from fuyun.services.buses import Buses
from fuyun.services.deferring import Deferring
from fuyun.services.deliveries import Deliverer
from fuyun.services.flows import Flows, FlowStores
from fuyun.services.invoking import Invoker
from fuyun.services.messaging import Messaging, Path
from fuyun.services.objectoffers import BusOffer
from fuyun.services.offers import Offer
from fuyun.services.outside import Outside, OutsideParts
from fuyun.services.oversight import Oversight
from fuyun.services.reaching import Reach
from fuyun.services.relay import Relay
from fuyun.services.routes import RouteTable
from fuyun.services.targets import FunctionTarget, Targets
from fuyun.services.tenants import Tenants
from fuyun.services.trailing import Trailing
from fuyun.services.triggers.batches import Batches
from fuyun.services.triggers.bindings import Bindings
from fuyun.services.triggers.brokers import BrokerParts, BrokerTriggers
from fuyun.services.triggers.governing import Governing
from fuyun.services.triggers.timer import Timers


def _read_events(headers: Mapping[str, str], body: bytes, now_s: float) -> list[Event]:
    """`transports.web.cloudevents`, loaded by the first CloudEvent that somebody posts."""
    from fuyun.transports.web.cloudevents import read_events

    return read_events(headers, body, now_s)


def _binary(event: Event) -> tuple[dict[str, str], bytes]:
    from fuyun.transports.web.cloudevents import binary

    return binary(event)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the event path stands on. `random()` is in [0, 1); `identity` tells the platform from others to brokers."""

    database: Database
    invoker: Invoker
    table: RouteTable
    scope: Scope
    tenants: Tenants
    random: Callable[[], float]
    records: RecordStore
    retention_s: float
    dead_letter_s: float
    reach: str = ""  # addresses besides public ones that the platform itself may be sent to
    identity: str = "platform"
    broker_of: Callable[[str], Broker] = broker_of


@dataclass(frozen=True, kw_only=True)
class EventPath:
    """Its parts. Register targets and matchers before `open`."""

    acceptor: Acceptor
    deferring: Deferring
    targets: Targets
    deliverer: Deliverer
    oversight: Oversight
    relay: Relay
    bindings: Bindings
    timers: Timers
    governing: Governing
    messaging: Messaging
    flows: Flows
    buses: Buses
    outside: Outside
    brokers: BrokerTriggers
    table: RouteTable

    @classmethod
    def build(cls, on: Surroundings) -> EventPath:
        """Build everything; nothing runs yet."""
        invoker = Trailing(on.invoker)
        store, states = SqlDeliveries(on.database), SqlTriggers(on.database)
        acceptor = Acceptor(store, lambda namespace: on.tenants.quotas(namespace).deliveries)
        targets = Targets()
        targets.register("function", FunctionTarget(invoker, acceptor).send)
        deliverer = Deliverer(store, acceptor, invoker, targets, on.random)
        relay = Relay(store, acceptor, invoker)
        on.database.on_emit(relay.wake)
        bindings = Bindings(on.table)
        timers = Timers(bindings, states, acceptor, invoker)
        governing = Governing(bindings, states)
        governing.register("timer", timers.times)
        path = Path(
            invoker=invoker,
            acceptor=acceptor,
            targets=targets,
            relay=relay,
            bindings=bindings,
            random=on.random,
            scope=on.scope,
        )
        messaging = Messaging(SqlQueues(on.database), SqlTopics(on.database), on.tenants, path)
        stores = FlowStores(
            streams=SqlStreams(on.database), groups=SqlGroups(on.database), tables=SqlTables(on.database)
        )
        buses = Buses(SqlBuses(on.database), SqlBusArchive(on.database), on.tenants, targets.send)
        targets.register("bus", buses.accept)
        relay.register("bus", buses.match)
        reach = Reach(on.reach).address
        parts = OutsideParts(
            slots=SqlSlots(on.database), open_changes=Postgres(reach).open, endpoints=SqlEndpoints(on.database),
            sender=HttpSender(reach), binary=_binary, table=on.table, records=on.records,
            places=SqlPlaces(on.database), trailing=invoker,
        )  # fmt: skip
        outside = Outside(on.tenants, path, governing, parts)
        outside.webhooks.read_by(_read_events)
        brokers = BrokerTriggers(
            BrokerParts(
                bindings=bindings, batches=Batches(on.invoker, acceptor, on.random), tenants=on.tenants,
                broker_of=on.broker_of, identity=on.identity, random=on.random,
            )
        )  # fmt: skip
        for kind in SCHEMES:
            governing.register_standing(kind, brokers.standing)
        return cls(
            acceptor=acceptor, deferring=Deferring(invoker, acceptor, on.scope, "api"), targets=targets,
            deliverer=deliverer, oversight=Oversight(store, deliverer, on.retention_s, on.dead_letter_s), relay=relay,
            bindings=bindings, timers=timers, governing=governing, messaging=messaging,
            flows=Flows(stores, on.tenants, path), buses=buses, brokers=brokers, outside=outside, table=on.table,
        )  # fmt: skip

    @property
    def offers(self) -> dict[str, Offer]:
        """What functions find at their address, by its word."""
        return {**self.messaging.offers, **self.flows.offers, "buses": BusOffer(self.buses)}

    async def open(self, stack: AsyncExitStack) -> None:
        """Set it going: what an earlier platform left first. `stack` ends it."""
        stack.push_async_callback(self.acceptor.close)
        await self.messaging.open()
        await self.outside.load()
        await self.deliverer.open()
        stack.push_async_callback(self.deliverer.close)
        await self.buses.open()
        self.relay.open()
        stack.push_async_callback(self.relay.close)
        await self.governing.open()
        await self.timers.open()
        stack.push_async_callback(self.timers.close)
        self.messaging.begin()
        stack.push_async_callback(self.messaging.close)
        self.flows.open()
        stack.push_async_callback(self.flows.close)
        await self.outside.open()
        stack.push_async_callback(self.outside.close)
        self.brokers.open()
        stack.push_async_callback(self.brokers.close)

    async def changed(self) -> None:
        """A function was deployed or deleted."""
        self.deliverer.forget_all_but(
            {(namespace, f"function:{function}") for namespace, function, _ in self.table.drafts()}
        )
        self.bindings.changed()
        await self.governing.tidy()
