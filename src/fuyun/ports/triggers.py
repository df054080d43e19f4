"""What triggers remember: whether they are paused, and how far they have come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fuyun.domain.deliveries import Order
from fuyun.domain.tenants import AuditEntry
from fuyun.domain.wire import Wire


class TriggerState(Wire, frozen=True, kw_only=True):
    """`position_s`: up to when a timer has fired, wall-clock seconds; 0 for one that keeps its place elsewhere."""

    namespace: str
    function: str
    name: str
    paused: bool = False
    position_s: float = 0.0


class TriggerStore(Protocol):
    """Durable when a write returns, as `ports.deliveries.DeliveryStore`."""

    async def list_states(self) -> list[TriggerState]:
        """All there are."""
        ...

    async def put_paused(
        self, key: tuple[str, str, str], paused: bool, position_s: float, entry: AuditEntry | None = None
    ) -> None:
        """Pause or resume a trigger (namespace, function, name). One that has no state yet begins at `position_s`."""
        ...

    async def fire(self, key: tuple[str, str, str], position_s: float, orders: Sequence[Order], now_s: float) -> bool:
        """Accept `orders` and move a trigger's position on, in one transaction. False, and nothing done, when it is at
        `position_s` or further already, or paused. One without a state gets it."""
        ...

    async def forget(self, namespace: str, function: str = "", name: str = "") -> None:
        """A trigger is gone, or ("") all of a function, or of a namespace."""
        ...
