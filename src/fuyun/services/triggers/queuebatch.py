"""One batch of a queue trigger: held, given to the function, settled message by message.

A lease is extended as long as the function runs, or waits to be tried again because the platform had no room for it:
that does not count. What the function itself failed on goes back to its queue for a while, and counts as a receive.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import structlog

from fuyun.base import clock, faults, ids
from fuyun.base.tasks import Scope
from fuyun.decide import retries
from fuyun.decide.batches import named_failures
from fuyun.decide.filters import View, compiled_text
from fuyun.domain.errors import FunctionError, FuyunError, LoopDetected, NotFound, PayloadTooLarge, Unavailable
from fuyun.domain.events import Event, structured, target_of
from fuyun.domain.names import LATEST
from fuyun.domain.queues import MOST_VISIBILITY_S, Message, Settling
from fuyun.services.accepting import Acceptor
from fuyun.services.invoking import Invoker
from fuyun.services.orders import event_order, refusal, terms_of
from fuyun.services.outcomes import Calling, Outcome, call
from fuyun.services.queues import Queues
from fuyun.services.targets import Targets
from fuyun.services.triggers.bindings import Binding, Bindings

_log = structlog.get_logger("fuyun.triggers")
#: A lease is extended when this part of it is over; a batch may wait as long to become full.
_PART: Final = 1 / 3
#: Text of an error that is kept.
_DETAIL: Final = 2000


@dataclass(slots=True)
class Progress:
    """What one trigger has done since the platform began, and what it does."""

    running: int = 0  # messages inside the function
    done: int = 0
    failed: int = 0
    given_up: int = 0
    dropped: int = 0  # not wanted by its filter
    problem: str = ""  # why it takes nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What triggers of queues are built on. `random()`: in [0, 1)."""

    queues: Queues
    bindings: Bindings
    invoker: Invoker
    acceptor: Acceptor
    targets: Targets
    random: Callable[[], float]


class Batch:
    """Messages that were taken out together. `held`: those that nothing was said of yet."""

    def __init__(
        self, parts: Parts, binding: Binding, progress: Progress, left: asyncio.Future[None], scope: Scope
    ) -> None:
        self._parts = parts
        self._binding = binding
        self._progress = progress
        self._left = left
        self.held: dict[str, Message] = {}  # by receipt
        self._scope = scope
        self._visibility_s = MOST_VISIBILITY_S

    @property
    def queue(self) -> str:
        """Where the messages are from."""
        trigger = self._binding.trigger.queue
        assert trigger is not None
        return trigger.queue

    @property
    def longest_window_s(self) -> float:
        """How long it may wait to become full, so that no lease runs out meanwhile."""
        return self._visibility_s * _PART

    async def add(self, found: Sequence[Message]) -> None:
        """Take messages in; what the trigger's filter does not want is done with."""
        wanted = self._binding.trigger.policy.filter
        takes = compiled_text(msgspec.json.encode(wanted)) if wanted is not None else None
        now_s = clock.wall_s()
        for message in found:
            self.held[message.receipt] = message
            self._visibility_s = min(self._visibility_s, max(0.1, message.lease_until_s - now_s))
        unwanted = [one for one in found if takes is not None and not takes(View(one.event))]
        self._progress.dropped += len(unwanted)
        await self._settle(unwanted, None)

    async def serve(self) -> None:
        """Work through it; when this returns, something was said of every message, or its lease will run out."""
        messages = list(self.held.values())
        self._progress.running += len(messages)
        keeping = self._scope.start(self._keep(), "keep")
        try:
            await self._work(messages)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            self._progress.running -= len(messages)

    async def _keep(self) -> None:
        """Extend the leases of what is held."""
        while True:
            await asyncio.sleep(self._visibility_s * _PART)
            settlings = [Settling(receipt=receipt, hold_s=self._visibility_s) for receipt in self.held]
            try:
                if settlings:
                    await self._parts.queues.settle(self._binding.namespace, self.queue, settlings)
            except FuyunError as error:
                _log.warning("leases were not extended", trigger=self._binding.origin, error=error.detail)

    # --- the function

    async def _work(self, messages: Sequence[Message]) -> None:
        policy = self._binding.trigger.policy
        parts = [self._without_circles(messages)]
        for message in messages:
            if message not in parts[0]:
                await self._give_up(message, LoopDetected(refusal(message.event.hops + 1)["detail"]))
        while parts:
            part = parts.pop(0)
            if not part:
                continue
            error, failed = await self._attempt(part)
            halves = policy.bisect and error is not None and retries.counts(error)
            if len(part) > 1 and (halves or isinstance(error, PayloadTooLarge)) and len(failed) == len(part):
                half = (len(part) + 1) // 2
                parts[:0] = [part[:half], part[half:]]
                continue
            done = [message for message in part if message.id not in failed]
            await self._settle(done, None)
            self._progress.done += len(done)
            if error is not None:
                await self._fail([message for message in part if message.id in failed], error)

    @staticmethod
    def _without_circles(messages: Sequence[Message]) -> list[Message]:
        return [message for message in messages if not refusal(message.event.hops + 1)]

    async def _attempt(self, part: Sequence[Message]) -> tuple[FuyunError | None, frozenset[str]]:
        """Call the function until it had its say, or there is no more time; the error, and ids of what failed by it."""
        named = frozenset(message.id for message in part)
        expires_s = min(message.sent_s for message in part) + self._binding.trigger.policy.max_age_s
        attempts = 0
        while True:
            attempts += 1
            faults.point("triggers.before_call")
            outcome = await self._call(part)
            faults.point("triggers.after_call")
            error = outcome.error
            if error is None:
                failed = named_failures(outcome.body, named)
                return (FunctionError("the function's answer names it as failed") if failed else None), failed
            if retries.class_of(error) not in ("throttle", "platform"):
                return error, named
            tried = retries.Tried(attempts=attempts, failures=0, max_attempts=1, expires_s=expires_s)
            decision = retries.after(error, tried, clock.wall_s(), self._parts.random)
            if not isinstance(decision, retries.Again):
                return error, named
            await asyncio.wait([self._left], timeout=max(0.0, decision.at_s - clock.wall_s()))
            if self._left.done():
                return error, named

    async def _call(self, part: Sequence[Message]) -> Outcome:
        binding, target = self._binding, self._binding.target
        events = [message.event.follow() for message in part]
        body = b"[" + b",".join(map(structured, events)) + b"]"
        try:
            route = self._parts.invoker.resolve(binding.namespace, target.name, target.qualifier or LATEST)
        except NotFound as error:  # an alias that is to come, say: no reason to throw messages away
            return Outcome(error=Unavailable(error.detail, hint=error.hint))
        if len(body) > route.payload_bytes:
            text = f"{len(part)} messages have {len(body)} bytes, the function takes {route.payload_bytes}"
            return Outcome(error=PayloadTooLarge(text, hint="raise its payload", limit_bytes=route.payload_bytes))
        return await call(
            self._parts.invoker,
            Calling(
                namespace=binding.namespace, function=target.name, qualifier=target.qualifier, body=body,
                attempt=max(message.receives for message in part), hops=max(event.hops for event in events),
                trail=events[0].trail,
            ),
        )  # fmt: skip

    # --- what becomes of messages

    async def _fail(self, messages: Sequence[Message], error: FuyunError) -> None:
        """Back to their queue until they are tried again, those that failed together together; or given up."""
        self._progress.failed += len(messages)
        if self._left.done() and not retries.counts(error):
            return await self._settle(messages, 0.0)
        now_s, drawn = clock.wall_s(), self._parts.random()
        again: dict[float, list[Message]] = {}
        for message in messages:
            at_s = await self._again_s(message, error, now_s, drawn)
            if at_s is None:
                await self._give_up(message, error)
            else:
                again.setdefault(at_s, []).append(message)
        for at_s, together in again.items():
            await self._settle(together, min(MOST_VISIBILITY_S, max(0.0, at_s - now_s)))

    async def _again_s(self, message: Message, error: FuyunError, now_s: float, drawn: float) -> float | None:
        """When it is to be tried again, if at all."""
        policy = self._binding.trigger.policy
        tried = retries.Tried(
            attempts=message.receives, failures=message.receives, max_attempts=policy.max_attempts,
            expires_s=message.sent_s + policy.max_age_s,
        )  # fmt: skip
        decision = retries.after(error, tried, now_s, lambda: drawn)
        if isinstance(decision, retries.GiveUp) and retries.counts(error) and await self._queue_gives_up():
            patient = replace(tried, max_attempts=message.receives + 1, expires_s=math.inf)
            decision = retries.after(error, patient, now_s, lambda: drawn)
        return decision.at_s if isinstance(decision, retries.Again) else None

    async def _queue_gives_up(self) -> bool:
        """Whether what fails too often is the queue's own affair: it has a dead-letter queue, and the trigger none."""
        if self._binding.trigger.policy.dead_letter:
            return False
        return bool((await self._parts.queues.spec_of(self._binding.namespace, self.queue)).dead_letter)

    async def _give_up(self, message: Message, error: FuyunError) -> None:
        """To the policy's dead letters, or those of the function; then it is done with."""
        policy, binding = self._binding.trigger.policy, self._binding
        try:
            if policy.dead_letter:
                try:
                    event = self._told(message, error)
                    await self._parts.targets.send(binding.namespace, target_of(policy.dead_letter), [event])
                except FuyunError as refused:
                    _log.warning("a dead letter stays with the function", trigger=binding.origin, error=refused.detail)
                    await self._bury(message.event, error)
            else:
                await self._bury(message.event, error)
        except FuyunError as failed:  # a full disk, say: its lease runs out, and it is tried again
            _log.warning("a message could not be given up", trigger=binding.origin, error=failed.detail)
            return
        self._progress.given_up += 1
        await self._settle([message], None)

    async def _bury(self, event: Event, error: FuyunError) -> None:
        """Leave it among the function's dead letters."""
        binding = self._binding
        terms = terms_of(self._parts.invoker, binding.namespace, binding.target, binding.trigger.policy)
        order = event_order(binding.namespace, binding.target, event, terms, origin=binding.origin)
        order = msgspec.structs.replace(order, refused=error.code, detail=str(error)[:_DETAIL])
        await self._parts.acceptor.accept_all([order])

    def _told(self, message: Message, error: FuyunError) -> Event:
        binding = self._binding
        told = {
            "target": binding.target.text, "origin": binding.origin, "state": "failed", "attempts": message.receives,
            "request": msgspec.Raw(structured(message.event)),
            "error": {"code": error.code, "detail": str(error)[:_DETAIL]},
        }  # fmt: skip
        return message.event.follow(
            type="fuyun.delivery.failed", source=f"/{binding.namespace}/function/{binding.function}",
            subject=message.id, id=ids.new_id(), time_s=clock.wall_s(), content_type="application/json",
            data=msgspec.json.encode(told), extensions={},
        )  # fmt: skip

    async def _settle(self, messages: Sequence[Message], hold_s: float | None) -> None:
        """Acknowledge, or (with `hold_s`) return for later. What the store does not take now, the lease's end does."""
        if not messages:
            return
        settlings = [Settling(receipt=message.receipt, hold_s=hold_s) for message in messages]
        for message in messages:
            self.held.pop(message.receipt, None)
        try:
            settled = await self._parts.queues.settle(self._binding.namespace, self.queue, settlings)
        except FuyunError as error:
            _log.warning("messages come again", trigger=self._binding.origin, error=error.detail)
            return
        for why in settled.refused.values():
            _log.warning("a message may come again", trigger=self._binding.origin, why=why)
