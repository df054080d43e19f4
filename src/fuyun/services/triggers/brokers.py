"""Triggers of outside brokers: one poller for each, whatever the broker.

A poller connects, works (`brokerpoll`), and connects again when the connection breaks: soon, then less and less often.
Meanwhile the trigger says since when and why. Nothing that is deployed waits for a broker.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from fuyun.base import clock
from fuyun.base.tasks import Scope
from fuyun.domain.brokers import HIDDEN, SCHEMES, address_of, hidden, source_of, thing_of
from fuyun.domain.errors import FuyunError, Unavailable
from fuyun.domain.triggers import BrokerTrigger
from fuyun.ports.brokers import Broker, Consumer, Source
from fuyun.services.tenants import Tenants
from fuyun.services.triggers.batches import Batches
from fuyun.services.triggers.brokerpoll import Progress, Session, most_held, unavailable
from fuyun.services.triggers.governing import Standing

if TYPE_CHECKING:
    from fuyun.services.triggers.bindings import Binding, Bindings

_log = structlog.get_logger("fuyun.triggers")
#: Seconds between two attempts to connect, doubled from the first up to the longest; and how long one may take.
_FIRST_S: Final = 0.5
_LONGEST_S: Final = 60.0
_OPEN_S: Final = 30.0
#: Seconds that disconnecting may take.
_CLOSE_S: Final = 5.0
#: Attempts to remove what a trigger that is gone had made in its broker.
_FORGETS: Final = 5

Key = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class BrokerParts:
    """What triggers of brokers are built on. `identity` tells this platform from all others, for good;
    `broker_of(kind)` may take a while, in a thread; `random()` is in [0, 1)."""

    bindings: Bindings
    batches: Batches
    tenants: Tenants
    broker_of: Callable[[str], Broker]
    identity: str
    random: Callable[[], float]


class BrokerTriggers:
    """One per platform."""

    def __init__(self, parts: BrokerParts) -> None:
        self._parts = parts
        self._brokers: dict[str, Broker] = {}
        self._known: dict[Key, Binding] = {}
        self._pollers: dict[Key, tuple[_Poller, asyncio.Task[None]]] = {}
        self._forgetting: dict[Key, asyncio.Task[None]] = {}
        self._scope = Scope("broker triggers", lambda error: _log.error("a broker's trigger failed", exc_info=error))
        self._stopping = False
        self.progress: dict[Key, Progress] = {}

    @property
    def batches(self) -> Batches:
        """What hands their messages over."""
        return self._parts.batches

    def open(self) -> None:
        """Begin, and go with the triggers that come and go."""
        self._parts.bindings.listen(self.reconcile)
        self.reconcile()

    def reconcile(self) -> None:
        """Run the triggers there are now, as they are now."""
        if self._stopping:
            return
        known = {binding.key: binding for kind in SCHEMES for binding in self._parts.bindings.of(kind)}
        for key, before in self._known.items():
            if key not in known or _place(known[key]) != _place(before):
                self._forget(before)
        self._known = known
        for key, (poller, _) in list(self._pollers.items()):
            binding = known.get(key)
            if binding is None or binding.paused or binding.trigger != poller.binding.trigger:
                poller.stop()
        for key, binding in known.items():
            self.progress.setdefault(key, Progress())
            found = self._pollers.get(key)
            if not binding.paused and (found is None or found[0].stopping):
                poller = _Poller(self, binding, self.progress[key])
                before_it = [task for task in (found[1] if found else None, self._forgetting.get(key)) if task]
                self._pollers[key] = (poller, self._scope.start(poller.run(before_it), "/".join(key)))
        for key in [key for key in self.progress if key not in known]:
            del self.progress[key]
        for key in [key for key, (_, task) in self._pollers.items() if key not in known and task.done()]:
            del self._pollers[key]

    def standing(self, binding: Binding) -> Standing:
        """How a trigger stands."""
        progress = self.progress.get(binding.key) or Progress()
        now_s = clock.wall_s()
        return Standing(
            problem=progress.problem, since_s=progress.problem_s or progress.connected_s or None, lag=progress.lag,
            held=len(progress.held), age_s=progress.age_s(now_s), last_s=progress.last_s or None,
        )  # fmt: skip

    async def drain(self, timeout_s: float) -> None:
        """Take nothing any more, and let what is inside functions end for up to so long."""
        self._stopping = True
        for poller, _ in self._pollers.values():
            poller.stop()
        tasks = [task for _, task in self._pollers.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)

    async def close(self) -> None:
        """End. What is under way comes again when somebody connects in this platform's name."""
        self._stopping = True
        await self._scope.close()

    # --- what pollers ask

    @property
    def random(self) -> Callable[[], float]:
        """In [0, 1)."""
        return self._parts.random

    async def broker_of(self, kind: str) -> Broker:
        """The driver of a kind. Unavailable when its library is not installed."""
        if kind not in self._brokers:
            try:
                self._brokers[kind] = await asyncio.to_thread(self._parts.broker_of, kind)
            except ImportError as exc:
                raise Unavailable(f"what speaks to {kind} cannot be loaded: {exc}") from exc
        return self._brokers[kind]

    async def source_of(self, binding: Binding) -> Source:
        """Where a trigger's messages are, its secrets revealed. NotFound names one that is missing."""
        trigger = _trigger(binding)
        names = [name for name in (trigger.secret, trigger.ca) if name]
        values = await self._parts.tenants.reveal(binding.namespace, names)
        policy = binding.trigger.policy
        address = address_of(binding.trigger.kind, trigger.url)
        return Source(
            name="_".join(("fuyun", self._parts.identity, *binding.key)), trigger=trigger, address=address,
            start=policy.start, most=most_held(policy), namespace=binding.namespace,
            password=values.get(trigger.secret, ""), authorities=values.get(trigger.ca, ""),
        )  # fmt: skip

    # --- triggers that are gone

    def _forget(self, binding: Binding) -> None:
        poller, task = self._pollers.pop(binding.key, (None, None))
        if poller is not None:
            poller.stop()
        source = poller.source if poller is not None else None
        work = self._scope.start(self._remove(binding, source, task), f"forget/{'/'.join(binding.key)}")
        self._forgetting[binding.key] = work

        def done(task: asyncio.Task[None]) -> None:
            if self._forgetting.get(binding.key) is task:
                del self._forgetting[binding.key]

        work.add_done_callback(done)

    async def _remove(self, binding: Binding, source: Source | None, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        for attempt in range(_FORGETS):
            try:
                async with asyncio.timeout(_OPEN_S):
                    source = source or await self.source_of(binding)
                    await (await self.broker_of(binding.trigger.kind)).forget(source)
                return
            except (FuyunError, TimeoutError) as error:
                why = safe(str(error), source)
            await asyncio.sleep(_FIRST_S * 2**attempt)
        _log.warning("a trigger's traces stay in its broker", trigger=binding.origin, why=why)


class _Poller:
    """Of one trigger, as it is deployed."""

    def __init__(self, triggers: BrokerTriggers, binding: Binding, progress: Progress) -> None:
        self.binding = binding
        self.source: Source | None = None
        self._triggers = triggers
        self._progress = progress
        self._left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._failures = 0

    @property
    def stopping(self) -> bool:
        """Whether it takes nothing any more."""
        return self._left.done()

    def stop(self) -> None:
        """It is to take nothing any more."""
        if not self._left.done():
            self._left.set_result(None)

    async def run(self, before: list[asyncio.Task[None]]) -> None:
        """Connect and work until it is stopped; begins when those before it have ended."""
        if before:
            await asyncio.wait(before)
        while not self._left.done():
            try:
                await self._connect()
            except FuyunError as error:
                self._away(error)
            except TimeoutError:
                self._away(Unavailable(f"no answer within {_OPEN_S:g} s"))
            except Exception as error:  # a driver's mistake is its trigger's trouble alone
                trace = "".join(traceback.format_exception(error))  # without the values of variables
                _log.error(
                    "a broker's driver failed", trigger=self.binding.origin, trace=safe(trace, self.source, 8000)
                )
                self._away(unavailable(error))
            else:
                continue
            wait_s = min(_LONGEST_S, _FIRST_S * 2.0 ** min(self._failures - 1, 20))
            await asyncio.wait([self._left], timeout=wait_s * (0.5 + 0.5 * self._triggers.random()))
        if self._progress.connected_s or self._progress.problem:  # a trigger that is off has no trouble
            self._progress.connected_s, self._progress.problem, self._progress.problem_s = 0.0, "", 0.0

    async def _connect(self) -> None:
        self.source = await self._triggers.source_of(self.binding)
        broker = await self._triggers.broker_of(self.binding.trigger.kind)
        consumer = await self._open(broker, self.source)
        if consumer is None:
            return
        began_s = clock.mono_s()
        if self._progress.problem:
            _log.info("a trigger has its broker again", trigger=self.binding.origin)
        self._progress.connected_s, self._progress.problem, self._progress.problem_s = clock.wall_s(), "", 0.0
        try:
            await Session(consumer, self.binding, self._triggers.batches, self._progress).run(self._left)
        finally:
            if clock.mono_s() - began_s > _LONGEST_S:
                self._failures = 0
            self._progress.connected_s = 0.0
            await _closed(consumer)

    async def _open(self, broker: Broker, source: Source) -> Consumer | None:
        """None when it is stopped meanwhile."""
        async with Scope("broker-open", lambda error: None) as scope, asyncio.timeout(_OPEN_S):
            task = scope.start(broker.open(source), "open")
            await asyncio.wait({task, self._left}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                return None
            found: Consumer = task.result()
            return found

    def _away(self, error: FuyunError) -> None:
        self._failures += 1
        text = safe(error.detail + (f"; {error.hint}" if error.hint else ""), self.source)
        if not self._progress.problem:
            self._progress.problem_s = clock.wall_s()
        if self._progress.problem != text:
            _log.warning("a trigger has no broker", trigger=self.binding.origin, why=text)
        self._progress.problem = text


def safe(text: str, source: Source | None, most: int = 500) -> str:
    """`text` without the password, whatever a library made of it."""
    for secret in (source.password, source.address.password) if source is not None else ():
        if secret:
            text = text.replace(secret, HIDDEN)
    return text[-most:]


async def _closed(consumer: Consumer) -> None:
    try:
        async with asyncio.timeout(_CLOSE_S):
            await consumer.close()
    except TimeoutError:
        pass


def _trigger(binding: Binding) -> BrokerTrigger:
    found = source_of(binding.trigger)
    assert found is not None
    return found


def _place(binding: Binding) -> Mapping[str, object]:
    """What a trigger takes from where; another place is another trigger."""
    trigger = _trigger(binding)
    plain = msgspec.structs.asdict(msgspec.structs.replace(trigger, secret="", ca="", alias="", url=""))
    return {**plain, "at": hidden(trigger.url).rpartition("@")[2], "thing": thing_of(trigger)}
