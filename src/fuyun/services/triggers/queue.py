"""Queue triggers: take batches out of queues, have functions work on them, acknowledge what is done.

A trigger that waits is one waiter in its queue's line; nothing is polled. What is taken out stays with the trigger
until it is done, given up, or returned for another try (`queuebatch`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from fuyun.base import clock
from fuyun.base.tasks import Scope
from fuyun.domain.errors import FuyunError, NotFound
from fuyun.domain.queues import MOST_BATCH
from fuyun.services.triggers.bindings import Binding
from fuyun.services.triggers.queuebatch import Batch, Parts, Progress

_log = structlog.get_logger("fuyun.triggers")
#: Seconds until a store that failed is asked again.
_PATIENCE_S: Final = 1.0

Key = tuple[str, str, str]


@dataclass(slots=True)
class _Poll:
    """A trigger at work."""

    binding: Binding
    left: asyncio.Future[None]  # done when it is to take nothing any more
    room: asyncio.Semaphore
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def end(self) -> None:
        """It is to take nothing any more."""
        if not self.left.done():
            self.left.set_result(None)


class QueueTriggers:
    """One per platform."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._polls: dict[Key, _Poll] = {}
        self._scope = Scope("queue triggers", lambda error: _log.error("a queue's trigger failed", exc_info=error))
        self._stopping = False
        self.progress: dict[Key, Progress] = {}

    def open(self) -> None:
        """Begin; and go with the triggers and queues that come and go."""
        self._parts.bindings.listen(self.reconcile)
        self._parts.queues.on_change(self.reconcile)
        self.reconcile()

    def reconcile(self) -> None:
        """Run the triggers there are now, as they are now; one that is there no more ends when what it took out has."""
        if self._stopping:
            return
        wanted = {binding.key: binding for binding in self._parts.bindings.of("queue") if not binding.paused}
        for key, poll in list(self._polls.items()):
            if poll.left.done() or wanted.get(key) != poll.binding:
                poll.end()
                del self._polls[key]
        for key in [key for key in self.progress if key not in wanted]:
            del self.progress[key]
        for key, binding in wanted.items():
            if key not in self._polls:
                left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                poll = _Poll(binding, left, asyncio.Semaphore(max(1, binding.trigger.policy.parallelism)))
                self._polls[key] = poll
                self._start(poll, self._run(poll, self.progress.setdefault(key, Progress())))

    def _start(self, poll: _Poll, work: Coroutine[Any, Any, None]) -> None:
        task = self._scope.start(work, "/".join(poll.binding.key))
        poll.tasks.add(task)
        task.add_done_callback(poll.tasks.discard)

    async def drain(self, timeout_s: float) -> None:
        """Take nothing any more, and let what runs end for up to so long."""
        self._stopping = True
        for poll in self._polls.values():
            poll.end()
        tasks = [task for poll in self._polls.values() for task in poll.tasks]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)

    async def close(self) -> None:
        """End. What is under way is given out again when its lease runs out."""
        self._stopping = True
        await self._scope.close()

    async def _run(self, poll: _Poll, progress: Progress) -> None:
        progress.problem = ""
        while not poll.left.done():
            await poll.room.acquire()
            batch = Batch(self._parts, poll.binding, progress, poll.left, self._scope)
            try:
                await self._gather(poll, batch)
            except NotFound as error:  # `reconcile` begins anew when there is such a queue
                progress.problem = error.detail
                _log.warning("a trigger waits for its queue", trigger=poll.binding.origin, error=error.detail)
                poll.end()
            except FuyunError as error:
                progress.problem = error.detail
                _log.warning("a trigger cannot take messages", trigger=poll.binding.origin, error=error.detail)
                await asyncio.wait([poll.left], timeout=_PATIENCE_S)
            if batch.held:
                self._start(poll, self._serve(poll, batch))
            else:
                poll.room.release()

    async def _gather(self, poll: _Poll, batch: Batch) -> None:
        """Wait for messages; then, for a batch that is not full, as long as its window is open."""
        policy = poll.binding.trigger.policy
        size = min(policy.batch_size, MOST_BATCH)
        until_s = math.inf
        while len(batch.held) < size and not poll.left.done():
            found = await self._parts.queues.receive(
                poll.binding.namespace, batch.queue, size - len(batch.held),
                wait_s=max(0.0, until_s - clock.mono_s()), left=poll.left,
            )  # fmt: skip
            await batch.add(found)
            if batch.held and until_s == math.inf:
                until_s = clock.mono_s() + min(policy.batch_window_s, batch.longest_window_s)
            if clock.mono_s() >= until_s:
                return

    async def _serve(self, poll: _Poll, batch: Batch) -> None:
        try:
            await batch.serve()
        finally:
            poll.room.release()
