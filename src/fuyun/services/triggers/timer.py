"""Timers: every tick is one delivery, accepted in the transaction that moves the timer's position on.

So each tick fires exactly once, whatever is killed: before the commit it has not fired, after it nothing fires it
again.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

import msgspec
import structlog

from fuyun.base import clock, faults
from fuyun.base.tasks import Scope
from fuyun.decide import timers
from fuyun.domain.deliveries import Order
from fuyun.domain.errors import FuyunError
from fuyun.domain.events import Event
from fuyun.domain.triggers import TimerTrigger
from fuyun.ports.triggers import TriggerStore
from fuyun.services.accepting import Acceptor
from fuyun.services.invoking import Invoker
from fuyun.services.orders import event_order, terms_of
from fuyun.services.triggers.bindings import Binding, Bindings

_log = structlog.get_logger("fuyun.triggers")

TYPE: Final = "fuyun.timer.fired"
#: Seconds of sleep at most while there are timers: the wall clock may be set meanwhile.
_LONGEST_S: Final = 60.0
#: Seconds until the store is asked again after it failed.
_PATIENCE_S: Final = 1.0
#: Timers fired together: their ticks are in one commit of the writer, not one behind another.
_AT_ONCE: Final = 64


class Timers:
    """One per platform."""

    def __init__(self, bindings: Bindings, store: TriggerStore, acceptor: Acceptor, invoker: Invoker) -> None:
        self._bindings = bindings
        self._store = store
        self._acceptor = acceptor
        self._invoker = invoker
        self._positions: dict[tuple[str, str, str], float] = {}
        self._awake = asyncio.Event()
        self._scope = Scope("timers", lambda error: _log.error("the timers failed", exc_info=error))
        bindings.listen(self._awake.set)

    async def open(self) -> None:
        """Begin where the last platform left off."""
        self._positions = {
            (state.namespace, state.function, state.name): state.position_s for state in await self._store.list_states()
        }
        self._scope.start(self._run(), "run")

    async def close(self) -> None:
        """End; what is due meanwhile was missed."""
        await self._scope.close()

    def times(self, binding: Binding) -> tuple[float | None, float | None]:
        """When a timer fired last, or was looked at first; and when it does next. None for never."""
        position_s = self._positions.get(binding.key)
        if position_s is None:
            return None, None
        next_s = timers.next_s(_timer(binding), position_s)
        return position_s, None if binding.paused or next_s == math.inf else next_s

    async def _run(self) -> None:
        while True:
            self._awake.clear()
            found = self._bindings.of("timer")
            gone = set(self._positions) - {binding.key for binding in found}
            for key in gone:
                del self._positions[key]
            refused: FuyunError | None = None
            for at in range(0, len(found), _AT_ONCE):
                told = await asyncio.gather(*map(self._try_fire, found[at : at + _AT_ONCE]))
                refused = next(filter(None, told), refused)
            if refused is not None:  # a full disk, say: a tick that is late is fired all the same
                _log.warning("timers are held up", error=str(refused))
                await asyncio.sleep(_PATIENCE_S)
                continue
            await self._sleep(found)

    async def _try_fire(self, binding: Binding) -> FuyunError | None:
        """`_fire`, and what it was refused for."""
        try:
            await self._fire(binding)
        except FuyunError as error:
            return error
        return None

    async def _fire(self, binding: Binding) -> None:
        """Fire what is due of one."""
        key, now_s = binding.key, clock.wall_s()
        if key not in self._positions:  # from now on its ticks count
            await self._store.fire(key, now_s, [], now_s)
            self._positions[key] = now_s
        if binding.paused:
            return
        ticks, position_s = timers.due(_timer(binding), self._positions[key], now_s)
        if position_s <= self._positions[key]:
            return
        orders = [self._order(binding, tick) for tick in ticks]
        faults.point("timer.before_fire")
        if await self._store.fire(key, position_s, orders, now_s):
            self._acceptor.note(orders, [order.id for order in orders], now_s)
        faults.point("timer.after_fire")
        self._positions[key] = position_s

    def _order(self, binding: Binding, tick: float) -> Order:
        timer = _timer(binding)
        source = f"/{binding.namespace}/function/{binding.function}"
        event = Event(
            id=f"{binding.function}.{binding.name}.{tick:.3f}", source=source, type=TYPE, subject=binding.name,
            time_s=tick, data=msgspec.json.encode(timer.payload),
        )  # fmt: skip
        terms = terms_of(self._invoker, binding.namespace, binding.target, binding.trigger.policy)
        return event_order(binding.namespace, binding.target, event, terms, origin=binding.origin)

    async def _sleep(self, found: list[Binding]) -> None:
        running = [binding for binding in found if not binding.paused]
        if not running:
            await self._awake.wait()
            return
        next_s = min(timers.next_s(_timer(binding), self._positions[binding.key]) for binding in running)
        try:
            async with asyncio.timeout(max(0.0, min(_LONGEST_S, next_s - clock.wall_s()))):
                await self._awake.wait()
        except TimeoutError:
            pass


def _timer(binding: Binding) -> TimerTrigger:
    timer = binding.trigger.timer
    assert timer is not None
    return timer
