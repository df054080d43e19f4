"""Deliveries and the outbox, durably: the queue behind everything asynchronous."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fuyun.domain.deliveries import Delivery, Lane, Order, Parcel, Settlement, State
from fuyun.domain.events import Event
from fuyun.domain.tenants import AuditEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits in a lane: how many, and when the first of them is due."""

    lane: Lane
    count: int
    due_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """A delivery that is running now, with what is to be delivered."""

    delivery: Delivery
    parcel: Parcel


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """An event in the outbox. `kind` and `origin` name what it tells of (`drivers.sql.outbox`)."""

    number: int
    namespace: str
    kind: str
    origin: str
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryQuery:
    """Which deliveries of a namespace; what is empty matches all. `after` is the id before the page."""

    namespace: str
    states: tuple[State, ...] = ()
    kind: str = ""
    name: str = ""
    trail: str = ""
    ids: tuple[str, ...] = ()
    after: str = ""
    limit: int = 100


class DeliveryStore(Protocol):
    """The truth about deliveries. Durable when a write returns; a write is whole or not at all; StorageFull leaves
    everything as it was. Times are wall-clock seconds of the caller.

    A delivery waits (queued, retrying), runs in one epoch, and finishes once. Finished ones keep their parcel only as
    dead letters (failed, expired).
    """

    async def take_over(self, now_s: float) -> tuple[int, list[Waiting]]:
        """Begin an epoch, higher than all before. What runs in an earlier one waits again, due now, and cannot be
        settled by it any more. Also what waits in every lane."""
        ...

    async def accept(self, orders: Sequence[Order], now_s: float, done: Sequence[int] = ()) -> list[str]:
        """Accept all of `orders` and drop `done` from the outbox, in one transaction; the delivery's id for each. An
        order whose key is known within its window adds nothing and gives the id known. A refused one is failed from the
        beginning. An id is never given twice."""
        ...

    async def lease(
        self, wanted: Sequence[tuple[Lane, int]], epoch: int, now_s: float
    ) -> tuple[list[Leased], list[Waiting]]:
        """Let up to so many due deliveries of each lane run, in the order in which they were due; those that are tried
        again stand `RETRY_BEHIND_S` behind. Then when the first of what still waits in these lanes is due (infinite
        for nothing; `count` is not filled in). Conflict when a later epoch has begun."""
        ...

    async def settle(self, settlements: Sequence[Settlement], epoch: int, now_s: float) -> list[bool]:
        """Record outcomes with what follows from them, in one transaction. False for a delivery that does not run in
        this epoch (stopped meanwhile, taken over): nothing is changed for it."""
        ...


class DeliveryLedger(Protocol):
    """The same deliveries, to be looked at and governed."""

    async def get(self, namespace: str, id_: str) -> tuple[Delivery, Parcel | None]:
        """NotFound when absent. The parcel as long as it is kept."""
        ...

    async def list_deliveries(self, query: DeliveryQuery) -> list[Delivery]:
        """Those that match, by id (which is the order of acceptance), after `query.after`."""
        ...

    async def stop(self, namespace: str, id_: str, now_s: float, entry: AuditEntry | None = None) -> Delivery:
        """Stop one that waits or runs; what it was. NotFound; Conflict when it is finished."""
        ...

    async def redrive(self, query: DeliveryQuery, now_s: float, entry: AuditEntry | None = None) -> list[Delivery]:
        """Let up to `query.limit` dead letters that match wait again, due now, as if they were new; what they were."""
        ...

    async def purge(self, query: DeliveryQuery, entry: AuditEntry | None = None) -> int:
        """Delete up to `query.limit` finished deliveries that match; how many."""
        ...

    async def prune(self, finished_before_s: float, dead_before_s: float, now_s: float) -> int:
        """Delete some of what finished (dead letters: died) before, and keys whose window is over at `now_s`; how many
        deliveries. Call again until 0."""
        ...

    async def forget(self, namespace: str) -> None:
        """A namespace is gone, and everything of it goes: what waits, what is in the outbox, keys."""
        ...


class Outbox(Protocol):
    """Events that were written with what they tell of. `DeliveryStore.accept` takes them out."""

    async def peek(self, after: int, limit: int) -> list[Posted]:
        """Up to `limit` of them with a number above `after`, in the order of their numbers."""
        ...
