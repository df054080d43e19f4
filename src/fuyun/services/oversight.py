"""Deliveries as their tenants see and govern them: list, show, stop, drive again, purge; and the trail of an event."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from fuyun.base import clock
from fuyun.base.tasks import Scope
from fuyun.domain.deliveries import Delivery, Parcel
from fuyun.domain.errors import BadRequest, FuyunError
from fuyun.domain.events import trail_of
from fuyun.domain.tenants import Principal
from fuyun.ports.deliveries import DeliveryLedger, DeliveryQuery
from fuyun.services.deliveries import Deliverer
from fuyun.services.tenants import entry_of

_log = structlog.get_logger("fuyun.deliveries")
#: Items that one list, or one change, has at most.
LIST_ITEMS = 1000
_PRUNE_EVERY_S = 600.0


class Oversight:
    """One per platform."""

    def __init__(self, store: DeliveryLedger, deliverer: Deliverer, retention_s: float, dead_letter_s: float) -> None:
        self._store = store
        self._deliverer = deliverer
        self._retention_s = retention_s
        self._dead_letter_s = dead_letter_s

    async def list_deliveries(self, principal: Principal, query: DeliveryQuery) -> list[Delivery]:
        """Those that match, in the order in which they were accepted. Forbidden, BadRequest."""
        principal.require("read", query.namespace)
        return await self._store.list_deliveries(_checked(query))

    async def get(self, principal: Principal, namespace: str, id_: str) -> tuple[Delivery, Parcel | None]:
        """One, with what is delivered as long as that is kept. NotFound."""
        principal.require("read", namespace)
        return await self._store.get(namespace, id_)

    async def list_trail(self, principal: Principal, namespace: str, id_: str) -> list[Delivery]:
        """Everything that followed from an event (its id) or a delivery, in order; asked of a delivery in the middle of
        a trail, the whole trail. Empty when nothing is known (any more)."""
        principal.require("read", namespace)
        trail = trail_of(id_)
        found = await self._store.list_deliveries(DeliveryQuery(namespace=namespace, trail=trail, limit=LIST_ITEMS))
        if len(found) == 1 and found[0].id == trail and found[0].trail not in ("", trail):
            query = DeliveryQuery(namespace=namespace, trail=found[0].trail, limit=LIST_ITEMS)
            found = await self._store.list_deliveries(query)
        return found

    async def stop(self, principal: Principal, namespace: str, id_: str, source: str) -> Delivery:
        """Stop one that waits or runs; a call that is inside the function is cancelled. NotFound, Conflict."""
        principal.require("invoke", namespace)
        now_s = clock.wall_s()
        entry = entry_of(principal, namespace, "delivery.stop", id_, source)
        was = await self._store.stop(namespace, id_, now_s, entry)
        self._deliverer.stopped(was)
        return msgspec.structs.replace(was, state="stopped", at_s=now_s)

    async def redrive(self, principal: Principal, query: DeliveryQuery, source: str) -> int:
        """Let dead letters that match be delivered again as if they were new; how many. At most `query.limit`."""
        principal.require("invoke", query.namespace)
        entry = entry_of(principal, query.namespace, "delivery.redrive", _shown(query), source)
        found = await self._store.redrive(_checked(query), clock.wall_s(), entry)
        self._deliverer.again(found)
        return len(found)

    async def purge(self, principal: Principal, query: DeliveryQuery, source: str) -> int:
        """Delete finished deliveries that match; how many. At most `query.limit`."""
        principal.require("delete", query.namespace)
        entry = entry_of(principal, query.namespace, "delivery.purge", _shown(query), source)
        return await self._store.purge(_checked(query), entry)

    async def forget(self, namespace: str) -> None:
        """A namespace was deleted."""
        await self._store.forget(namespace)

    def start_pruning(self, scope: Scope) -> None:
        """Keep removing what is kept long enough."""
        scope.start(self._keep_pruning(), "prune-deliveries")

    async def _keep_pruning(self) -> None:
        while True:
            try:
                await self.prune()
            except FuyunError as error:  # a disk in trouble; it may be well the next time
                _log.warning("old deliveries could not be removed", error=str(error))
            await asyncio.sleep(_PRUNE_EVERY_S)

    async def prune(self) -> int:
        """Remove what is kept long enough; how many."""
        gone, now_s = 0, clock.wall_s()
        while count := await self._store.prune(now_s - self._retention_s, now_s - self._dead_letter_s, now_s):
            gone += count
        return gone


def _checked(query: DeliveryQuery) -> DeliveryQuery:
    if not 1 <= query.limit <= LIST_ITEMS:
        raise BadRequest(f"limit {query.limit} is out of range", hint=f"use 1 to {LIST_ITEMS}", path="limit")
    return query


def _shown(query: DeliveryQuery) -> str:
    """What the audit log says of a change to several."""
    return ", ".join(query.ids) or query.name or "all"
