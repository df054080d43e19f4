"""Accepting deliveries: orders that come while others are brought to the disk go there together.

The store's writer commits many writes at once anyway; but a row in a statement of its own, in a savepoint of its own,
costs its one thread ten times what a row among others does.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

import structlog

from fuyun.base import clock, faults
from fuyun.base.tasks import Scope
from fuyun.domain.deliveries import Lane, Order
from fuyun.domain.errors import QuotaExceeded
from fuyun.ports.deliveries import DeliveryStore

_log = structlog.get_logger("fuyun.deliveries")
#: Orders in one write at most: bounds how long the first of them waits for its answer.
_MOST = 512


def lane_of(order: Order) -> Lane:
    """Where it waits."""
    return order.namespace, order.target.kind, order.target.name


class Acceptor:
    """One per platform. What it returns an id for is on the disk."""

    def __init__(self, store: DeliveryStore, most_of: Callable[[str], int]) -> None:
        """`most_of(namespace)`: deliveries that may wait there. NotFound when it is gone."""
        self._store = store
        self._most_of = most_of
        self._waiting_of: Callable[[str], int] = lambda namespace: 0
        self._on_wait: Callable[[Lane, float, int], None] = lambda lane, due_s, count: None
        self._queue: list[tuple[Order, asyncio.Future[str]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._scope = Scope("accept", lambda error: _log.error("accepting failed", exc_info=error))
        self.accepted = 0

    def tell(self, on_wait: Callable[[Lane, float, int], None], waiting_of: Callable[[str], int]) -> None:
        """Have `on_wait(lane, due_s, count)` called for what is accepted; `waiting_of(namespace)`: how many wait."""
        self._on_wait = on_wait
        self._waiting_of = waiting_of

    async def accept(self, order: Order) -> str:
        """The delivery's id once it is on the disk; that of an earlier one with the same key. QuotaExceeded when too
        many wait, StorageFull."""
        most = self._most_of(order.namespace)
        if self._waiting_of(order.namespace) >= most and not order.refused:
            raise QuotaExceeded(
                f"{most} deliveries wait in namespace {order.namespace!r} already", quota="deliveries", limit=most,
                hint="wait until some are done, or raise the quota `deliveries`",
            )  # fmt: skip
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._queue.append((order, future))
        if self._writing is None:
            self._writing = self._scope.start(self._write(), "write")
        return await future

    async def accept_all(self, orders: Sequence[Order], done: Sequence[int] = ()) -> list[str]:
        """The same for orders that belong together: all of them, and `done` out of the outbox, or nothing."""
        now_s = clock.wall_s()
        found = await self._store.accept(orders, now_s, done)
        self.note(orders, found, now_s)
        return found

    async def _write(self) -> None:
        try:
            while self._queue:
                batch, self._queue = self._queue[:_MOST], self._queue[_MOST:]
                faults.point("deliveries.before_accept")
                try:
                    found = await self.accept_all([order for order, _ in batch])
                except Exception as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                else:
                    faults.point("deliveries.after_accept")
                    for (_, future), id_ in zip(batch, found):
                        if not future.done():
                            future.set_result(id_)
        finally:
            self._writing = None

    def note(self, orders: Sequence[Order], found: Sequence[str], now_s: float) -> None:
        """`orders` were accepted as `found`, here or in a transaction of somebody else's."""
        first: dict[Lane, tuple[float, int]] = {}
        for order, id_ in zip(orders, found):
            if order.id == id_ and not order.refused:
                lane = lane_of(order)
                due_s, count = first.get(lane, (math.inf, 0))
                first[lane] = (min(due_s, max(now_s, order.at_s)), count + 1)
        for lane, (due_s, count) in first.items():
            self.accepted += count
            self._on_wait(lane, due_s, count)

    async def close(self) -> None:
        """Let what is being written be written."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        await self._scope.close()
