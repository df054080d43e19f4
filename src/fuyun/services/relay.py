"""From the outbox to deliveries: every event that was written with what it tells of meets the triggers that want it.

A kind of thing that emits (`bucket`, `table`, `topic`, `bus`) registers who knows its triggers. What an event leads to
is accepted in the transaction that takes it out of the outbox: nothing is lost, and nothing comes twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgspec
import structlog

from fuyun.base import faults
from fuyun.base.tasks import Scope
from fuyun.decide.filters import View, compiled
from fuyun.domain.deliveries import Order
from fuyun.domain.errors import FuyunError
from fuyun.domain.events import Event, Target
from fuyun.domain.filters import read_filter
from fuyun.domain.triggers import Policy
from fuyun.ports.deliveries import Outbox, Posted
from fuyun.services.accepting import Acceptor
from fuyun.services.invoking import Invoker
from fuyun.services.orders import event_order, terms_of

_log = structlog.get_logger("fuyun.relay")
#: Events that are taken out together.
_BATCH: Final = 256
#: Seconds until the store is asked again after it failed.
_PATIENCE_S: Final = 1.0
_ALL = Policy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Somebody who may want an event: where it goes, as `trigger NAME` (or `rule NAME`, ...) tells people, under its
    policy. The relay applies the policy's filter. `event` is what goes there where that is not the event itself."""

    origin: str
    target: Target
    policy: Policy = _ALL
    event: Event | None = None


#: `(namespace, origin, event)`: who may want it. A look-up in memory; never waits.
Matcher = Callable[[str, str, Event], Iterable[Match]]


class Relay:
    """One per platform. Register matchers before it is opened."""

    def __init__(self, outbox: Outbox, acceptor: Acceptor, invoker: Invoker) -> None:
        self._outbox = outbox
        self._invoker = invoker
        self._acceptor = acceptor
        self._matchers: dict[str, list[Matcher]] = {}
        self._awake = asyncio.Event()
        self._scope = Scope("relay", lambda error: _log.error("the relay failed", exc_info=error))
        self._ended: Callable[[str, Target], bool] = lambda namespace, target: False
        self.relayed = 0

    def register(self, kind: str, matcher: Matcher) -> None:
        """Ask `matcher` for events of things of `kind`."""
        self._matchers.setdefault(kind, []).append(matcher)

    def leave_out(self, ended: Callable[[str, Target], bool]) -> None:
        """Send nothing any more to targets that `ended(namespace, target)` names."""
        self._ended = ended

    def wake(self) -> None:
        """There is something in the outbox (`Database.on_emit`)."""
        self._awake.set()

    def open(self) -> None:
        """Begin with what is there."""
        self._awake.set()
        self._scope.start(self._run(), "run")

    async def close(self) -> None:
        """End; what is in the outbox stays there."""
        await self._scope.close()

    async def _run(self) -> None:
        while True:
            await self._awake.wait()
            self._awake.clear()
            try:
                while await self._hand_on():
                    pass
            except FuyunError as error:  # a full disk, say: what is in the outbox stays there
                _log.warning("events are held up", error=str(error))
                await asyncio.sleep(_PATIENCE_S)
                self._awake.set()

    async def _hand_on(self) -> int:
        posted = await self._outbox.peek(0, _BATCH)
        if posted:
            orders = [order for one in posted for order in self._orders(one)]
            faults.point("relay.before_accept")
            await self._acceptor.accept_all(orders, [one.number for one in posted])
            faults.point("relay.after_accept")
            self.relayed += len(posted)
        return len(posted)

    def _orders(self, posted: Posted) -> Iterable[Order]:
        event = posted.event
        view = View(event)
        for matcher in self._matchers.get(posted.kind, ()):
            try:
                for match in matcher(posted.namespace, posted.origin, event):
                    if self._ended(posted.namespace, match.target):
                        continue
                    if match.policy.filter is None or _filter(msgspec.json.encode(match.policy.filter))(view):
                        terms = terms_of(self._invoker, posted.namespace, match.target, match.policy)
                        sent = match.event or event
                        yield event_order(posted.namespace, match.target, sent, terms, origin=match.origin)
            except Exception as error:  # a bug in one matcher is no reason to hold back what others want
                _log.error("matching an event failed", kind=posted.kind, origin=posted.origin, event_id=event.id,
                           exc_info=error)  # fmt: skip


@lru_cache(maxsize=1024)
def _filter(text: bytes) -> Callable[[View], bool]:
    return compiled(read_filter(msgspec.json.decode(text)))
