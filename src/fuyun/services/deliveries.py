"""The deliverer: lets what is due run, in turn, and records what it led to.

It sleeps until something is accepted, ends, or is due; nothing is polled. What it runs is leased in its epoch: a
platform that starts later begins another one and takes over what runs still; what the earlier one says of it no
longer counts.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final

import structlog

from fuyun.base import clock, faults
from fuyun.base.tasks import Scope
from fuyun.decide import retries
from fuyun.decide.delivering import Lanes
from fuyun.domain.deliveries import Delivery, Lane, Settlement, State
from fuyun.domain.errors import FuyunError, Internal
from fuyun.domain.events import structured, target_of
from fuyun.ports.deliveries import DeliveryStore, Leased
from fuyun.services.accepting import Acceptor, lane_of
from fuyun.services.destinations import follow_up
from fuyun.services.gauges import LaneGauge
from fuyun.services.invoking import Invoker
from fuyun.services.outcomes import Calling, Outcome, call
from fuyun.services.targets import Targets

_log = structlog.get_logger("fuyun.deliveries")

#: Deliveries that run at once, in all; and of one target that is no function.
ROOM: Final = 256
SHARE: Final = 16
#: Seconds until the store is asked again after it failed: a full disk is well again without our hands.
_PATIENCE_S: Final = 1.0
#: Text of an error that is kept.
_DETAIL: Final = 2000


class Deliverer:
    """One per node."""

    def __init__(
        self, store: DeliveryStore, acceptor: Acceptor, invoker: Invoker, targets: Targets, random: Callable[[], float]
    ) -> None:
        """`random()`: in [0, 1)."""
        self._store = store
        self._acceptor = acceptor
        self._invoker = invoker
        self._targets = targets
        self._random = random
        self._lanes = Lanes(ROOM)
        self._epoch = 0
        self._awake = asyncio.Event()
        self._settled = asyncio.Event()
        self._moved = asyncio.Event()
        self._settling: list[tuple[Lane, Settlement]] = []
        self._running: dict[str, asyncio.Task[None]] = {}
        self._stopping = False
        self._scope = Scope("deliveries", lambda error: _log.error("a delivery's task failed", exc_info=error))
        self._loops: list[asyncio.Task[None]] = []
        self.outcomes: dict[tuple[str, str, str], int] = {}  # (namespace, target, state) -> how many since the start
        acceptor.tell(self._wait, self._lanes.waiting)

    # --- life

    async def open(self) -> None:
        """Take over what an earlier platform left, and begin."""
        self._epoch, waiting = await self._store.take_over(clock.wall_s())
        for found in waiting:
            self._lanes.wait(found.lane, found.due_s, found.count)
        self._loops = [self._scope.start(self._lease(), "lease"), self._scope.start(self._settle(), "settle")]

    async def drain(self, timeout_s: float) -> None:
        """Begin nothing any more, and let what runs end for up to so long."""
        self._stopping = True
        self._awake.set()
        try:
            async with asyncio.timeout(timeout_s):
                while self._running or self._settling:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            pass

    async def close(self) -> None:
        """End. What still runs is taken over by the next platform."""
        self._stopping = True
        await self._scope.close()

    # --- what happens outside

    def _wait(self, lane: Lane, due_s: float, count: int = 1) -> None:
        self._lanes.wait(lane, due_s, count)
        self._awake.set()

    def again(self, found: list[Delivery]) -> None:
        """These wait again, due now (driven again)."""
        for one in found:
            self._wait(lane_of_text(one), clock.wall_s())

    def stopped(self, was: Delivery) -> None:
        """It was stopped: what runs of it is told."""
        task = self._running.get(was.id)
        if task is not None:
            task.cancel()
        elif was.state != "running":
            self._lanes.leave(lane_of_text(was))

    # --- leasing

    async def _lease(self) -> None:
        while not self._stopping:
            self._awake.clear()
            now_s = clock.wall_s()
            wanted = self._lanes.wanted(now_s, {lane: self._share(lane) for lane in self._lanes.due(now_s)})
            if not wanted:
                await self._sleep(self._lanes.next_s(now_s) - now_s)
                continue
            try:
                taken, left = await self._store.lease(wanted, self._epoch, now_s)
            except FuyunError as error:
                _log.warning("deliveries cannot be begun", error=str(error))
                for lane, _ in wanted:
                    self._lanes.wait(lane, now_s, 0)
                await asyncio.sleep(_PATIENCE_S)
                continue
            counts: dict[Lane, int] = {}
            for leased in taken:
                lane = lane_of_text(leased.delivery)
                counts[lane] = counts.get(lane, 0) + 1
            for found in left:
                self._lanes.lease(found.lane, counts.get(found.lane, 0), found.due_s)
            for leased in taken:
                id_ = leased.delivery.id
                self._running[id_] = self._scope.start(self._run(leased), id_)

    async def _sleep(self, seconds: float) -> None:
        """Until something happens, or for so long (infinite: for ever)."""
        if seconds == math.inf:
            await self._awake.wait()
            return
        try:
            async with asyncio.timeout(max(0.001, seconds)):
                await self._awake.wait()
        except TimeoutError:
            pass

    def _share(self, lane: Lane) -> int:
        namespace, kind, name = lane
        if kind != "function":
            return SHARE
        try:
            return self._invoker.resolve(namespace, name, "").choices[0][1].spec.asynchronous.concurrency
        except (FuyunError, IndexError):
            return SHARE

    # --- running

    async def _run(self, leased: Leased) -> None:
        delivery = leased.delivery
        lane = lane_of_text(delivery)
        try:
            expired = clock.wall_s() >= delivery.expires_s
            outcome = None if expired else await self._attempt(leased)
            error = outcome.error if outcome is not None else None
            if self._stopping and error is not None and not retries.counts(error):
                self._running.pop(delivery.id, None)
                self._moved.set()
                return  # the platform is going down, and that is all there was to it: the next one tries again
            self._settling.append((lane, self._judge(leased, outcome)))
            self._settled.set()
        except asyncio.CancelledError:
            self._running.pop(delivery.id, None)
            self._lanes.end(lane)
            self._awake.set()
            self._moved.set()
            raise

    async def _attempt(self, leased: Leased) -> Outcome:
        delivery, parcel = leased.delivery, leased.parcel
        target = target_of(delivery.target)
        faults.point("deliveries.before_call")
        event = parcel.event
        if target.kind != "function":
            assert event is not None
            try:
                await self._targets.send(delivery.namespace, target, [event])
            except FuyunError as error:
                return Outcome(error=error)
            except Exception as error:
                _log.error("sending to a target failed", target=delivery.target, exc_info=error)
                return Outcome(error=Internal(f"sending to {delivery.target} failed: {type(error).__name__}"))
            return Outcome(body=b"")
        outcome = await call(
            self._invoker,
            Calling(
                namespace=delivery.namespace, function=target.name, qualifier=target.qualifier,
                body=parcel.body if event is None else structured(event), call=parcel.call, attempt=delivery.attempts,
                hops=delivery.hops, trail=delivery.trail or delivery.id, delivery=delivery.id,
            ),
        )  # fmt: skip
        faults.point("deliveries.after_call")
        return outcome

    def _judge(self, leased: Leased, outcome: Outcome | None) -> Settlement:
        """What the attempt leads to; `outcome` None: it was too old to be tried."""
        delivery, now_s = leased.delivery, clock.wall_s()
        error = outcome.error if outcome is not None else None
        failures = delivery.failures
        state: State = "succeeded"
        at_s = now_s
        code, detail = ("", "") if outcome is not None else (delivery.error, delivery.detail)
        if outcome is None:
            state = "expired"
        elif error is not None:
            code, detail = error.code, str(error)[:_DETAIL]
            failures += retries.counts(error)
            tried = retries.Tried(
                attempts=delivery.attempts, failures=failures, max_attempts=delivery.max_attempts,
                expires_s=delivery.expires_s,
            )  # fmt: skip
            decision = retries.after(error, tried, now_s, self._random)
            if isinstance(decision, retries.Again):
                state, at_s = "retrying", decision.at_s
            else:
                state = decision.state
        settlement = Settlement(
            namespace=delivery.namespace, id=delivery.id, state=state, at_s=at_s, failures=failures, error=code,
            detail=detail, invocation=outcome.invocation if outcome is not None else delivery.invocation,
        )  # fmt: skip
        return follow_up(leased, settlement, outcome, now_s)

    # --- settling

    async def _settle(self) -> None:
        while True:
            self._settled.clear()
            batch, self._settling = self._settling[:512], self._settling[512:]
            if not batch:
                await self._settled.wait()
                continue
            faults.point("deliveries.before_settle")
            try:
                done = await self._store.settle([one for _, one in batch], self._epoch, clock.wall_s())
            except FuyunError as error:
                _log.warning("outcomes of deliveries cannot be recorded", error=str(error))
                self._settling = batch + self._settling
                await asyncio.sleep(_PATIENCE_S)
                continue
            faults.point("deliveries.after_settle")
            for (lane, one), settled in zip(batch, done):
                self._running.pop(one.id, None)
                if settled:
                    self._count(lane, one)
                self._lanes.end(lane)
            self._awake.set()
            self._moved.set()

    def _count(self, lane: Lane, one: Settlement) -> None:
        key = (lane[0], f"{lane[1]}:{lane[2]}", one.state)
        self.outcomes[key] = self.outcomes.get(key, 0) + 1
        if one.state == "retrying":
            self._lanes.wait(lane, one.at_s)
        for order in one.follow:
            if not order.refused:
                self._lanes.wait(lane_of(order), one.at_s)

    def forget_all_but(self, functions: set[tuple[str, str]]) -> None:
        """Drop the counters of functions (namespace, target) that are gone, so that names do not pile up."""
        self.outcomes = {
            key: count
            for key, count in self.outcomes.items()
            if not key[1].startswith("function:") or key[:2] in functions
        }

    def gauges(self) -> list[LaneGauge]:
        """What waits and runs now."""
        now_s = clock.wall_s()
        return [
            LaneGauge(
                namespace=lane[0], target=f"{lane[1]}:{lane[2]}", waiting=waiting, running=running,
                late_s=max(0.0, now_s - due_s),
            )
            for lane, waiting, running, due_s in self._lanes.gauges()
        ]  # fmt: skip


def lane_of_text(delivery: Delivery) -> Lane:
    """Where it waits."""
    target = target_of(delivery.target)
    return delivery.namespace, target.kind, target.name
