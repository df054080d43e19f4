"""Queues: made, filled, emptied; receivers wait here until there is something for them.

Changes take the principal that asks and the address it asks from, check what it may do, and are written in one
transaction with their audit entry. What moves messages takes no principal: whoever offers it checks.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from fuyun.base import clock
from fuyun.base.tasks import Scope
from fuyun.domain.errors import BadRequest, FuyunError, NotFound
from fuyun.domain.events import Event
from fuyun.domain.names import nearest
from fuyun.domain.queues import (
    MOST_BATCH,
    MOST_LABEL,
    MOST_VISIBILITY_S,
    MOST_WAIT_S,
    MOVE_AT_ONCE,
    Message,
    Outgoing,
    Queue,
    QueueSpec,
    Sent,
    Settled,
    Settling,
    Statistics,
    check_queue,
)
from fuyun.domain.tenants import Principal
from fuyun.ports.queues import QueueStore
from fuyun.services.tenants import Tenants, entry_of
from fuyun.services.waiting import Lines

log = structlog.get_logger("fuyun.queues")

_PAGE = 500
#: Seconds between two looks for messages that have outlived their queue's retention, which is a minute at least.
SWEEP_S = 60.0


@dataclass(slots=True)
class Tally:
    """What one queue has done since the platform began."""

    sent: int = 0
    received: int = 0
    acknowledged: int = 0
    returned: int = 0
    given_up: int = 0
    expired: int = 0


class Queues:
    """One per platform."""

    def __init__(self, store: QueueStore, tenants: Tenants) -> None:
        self._store = store
        self._tenants = tenants
        self.lines = Lines()
        self.tallies: dict[tuple[str, str], Tally] = {}
        self.held: list[Queue] = []  # of all namespaces, as `refresh` found them
        self._specs: dict[tuple[str, str], QueueSpec] = {}  # as far as they were asked for
        self._on_change: list[Callable[[], None]] = []

    def start(self, scope: Scope) -> None:
        """Begin to remove what is too old."""
        scope.start(self._sweep_forever(), "queues/sweep")

    def on_change(self, call: Callable[[], None]) -> None:
        """Have `call` called when a queue was made, changed or deleted."""
        self._on_change.append(call)

    def close(self) -> None:
        """Send everybody home who waits."""
        self.lines.close()

    # --- queues

    async def put_queue(
        self,
        principal: Principal,
        namespace: str,
        name: str,
        spec: QueueSpec,
        source: str = "",
        expected_revision: int | None = None,
    ) -> Queue:
        """Create a queue or change its settings. BadRequest, Conflict, PreconditionFailed, QuotaExceeded."""
        principal.require("deploy", namespace)
        check_queue(name, spec)
        made = await self._store.put(
            namespace, name, spec, self._tenants.quotas(namespace), clock.wall_s(),
            expected_revision=expected_revision, entry=entry_of(principal, namespace, "queue.put", name, source),
        )  # fmt: skip
        self._changed()
        return made

    def _changed(self) -> None:
        self._specs = {}  # a new one: what is being read for the old one is lost with it
        for call in self._on_change:
            call()

    async def list_queues(self, namespace: str, after: str = "", limit: int = 100) -> list[Queue]:
        """A page, by name. NotFound when the namespace is absent."""
        await self._tenants.get_namespace(namespace)
        return await self._store.list_queues(namespace, after, limit)

    async def get_queue(self, namespace: str, name: str) -> tuple[Queue, Statistics]:
        """A queue and what its messages wait for. NotFound names the nearest queue there is."""
        try:
            return await self._store.get(namespace, name, clock.wall_s())
        except NotFound as exc:
            names = [queue.name for queue in await self._store.list_queues(namespace, limit=_PAGE)]
            close = nearest(name, names)
            hint = f"did you mean {close!r}?" if close else f"create it: fuyun queue create {name}"
            raise NotFound(exc.detail, hint=hint, kind="queue", name=name) from exc

    async def spec_of(self, namespace: str, name: str) -> QueueSpec:
        """A queue's settings, without counting its messages. NotFound."""
        specs = self._specs
        found = specs.get((namespace, name))
        if found is None:
            queue, _ = await self.get_queue(namespace, name)
            found = specs[namespace, name] = queue.spec
        return found

    async def delete_queue(self, principal: Principal, namespace: str, name: str, source: str = "") -> None:
        """With its messages. NotFound, Conflict while something names it."""
        principal.require("delete", namespace)
        await self._store.delete(namespace, name, entry_of(principal, namespace, "queue.delete", name, source))
        self.tallies.pop((namespace, name), None)
        self.lines.scatter(namespace, name)
        self._changed()

    # --- messages

    async def send(self, namespace: str, name: str, outgoing: Sequence[Outgoing]) -> list[Sent]:
        """Put messages in; when this returns they are on disk. BadRequest, PayloadTooLarge, QuotaExceeded."""
        _check_batch(len(outgoing), "messages")
        now_s = clock.wall_s()
        sent = await self._store.send(namespace, name, outgoing, self._tenants.quotas(namespace), now_s)
        self.entered(namespace, name, sum(not one.duplicate for one in sent))
        return sent

    def entered(self, namespace: str, name: str, count: int) -> None:
        """So many messages have come in, by whatever way: whoever waits may look. One that is delayed tells the one who
        looks when it is due."""
        if count:
            self._tally(namespace, name).sent += count
            self.lines.wake(namespace, name, count)

    async def receive(
        self,
        namespace: str,
        name: str,
        most: int = 1,
        *,
        wait_s: float = 0.0,
        visibility_s: float | None = None,
        left: asyncio.Future[Any] | None = None,
    ) -> list[Message]:
        """Take out up to `most` messages, waiting `wait_s` for the first (infinity: as long as it takes). When `left`
        is done the receiver has gone: it waits no more, and what was taken out for it is returned. BadRequest."""
        _check_batch(most, "max")
        if wait_s != math.inf:
            _check_seconds("wait_s", wait_s, 0.0, MOST_WAIT_S)
        if visibility_s is not None:
            _check_seconds("visibility_s", visibility_s, 1.0, MOST_VISIBILITY_S)
        until_s = clock.mono_s() + wait_s
        ticket = self.lines.join(namespace, name)
        found: list[Message] = []
        try:
            while True:
                # Cancelled here, messages may be taken out for nobody; they are ready again when their lease runs out.
                got = await self._store.receive(namespace, name, most, visibility_s, clock.wall_s())
                found = list(got.messages)
                self._count(namespace, name, len(found), *got.given_up)
                if left is not None and left.done():
                    break
                left_s = until_s - clock.mono_s()
                if found or left_s <= 0 or self.lines.closed:
                    return found
                await ticket.wait(got.next_due_s, left_s, left)
        finally:
            ticket.leave(len(found) == most, min((one.lease_until_s for one in found), default=None))
        if found:
            await self.settle(namespace, name, [Settling(receipt=one.receipt, hold_s=0.0) for one in found])
        return []

    def _count(self, namespace: str, name: str, received: int, dead_letter: str, given_up: int) -> None:
        if received or given_up:
            tally = self._tally(namespace, name)
            tally.received += received
            tally.given_up += given_up
            if given_up:
                self.entered(namespace, dead_letter, given_up)

    async def settle(self, namespace: str, name: str, settlings: Sequence[Settling]) -> Settled:
        """Acknowledge (`hold_s` None), keep or return (0) messages by their receipts; `refused` says for which nothing
        was done. BadRequest."""
        _check_batch(len(settlings), "receipts")
        for settling in settlings:
            if settling.hold_s is not None:
                _check_seconds("visibility_s", settling.hold_s, 0.0, MOST_VISIBILITY_S)
        settled = await self._store.settle(namespace, name, settlings, clock.wall_s())
        tally = self._tally(namespace, name)
        for settling in settlings:
            if settling.receipt not in settled.refused:
                tally.acknowledged += settling.hold_s is None
                tally.returned += settling.hold_s == 0
        if settled.ready:
            self.lines.wake(namespace, name, settled.ready)
        # Kept for a shorter time than before, it may be due sooner than those who wait have heard.
        due_s = [settling.hold_s for settling in settlings if settling.hold_s]
        if due_s:
            self.lines.expect(namespace, name, clock.wall_s() + min(due_s))
        return settled

    async def peek(self, namespace: str, name: str, limit: int = 10) -> list[Message]:
        """The oldest messages, which stay where they are."""
        _check_batch(limit, "limit")
        return await self._store.peek(namespace, name, limit)

    async def take(self, namespace: str, name: str, _qualifier: str, events: Sequence[Event]) -> None:
        """Put events in that the platform sends here. A `services.targets.Sender`."""
        fifo = (await self.spec_of(namespace, name)).fifo
        outgoing = [Outgoing(event=event, group=group_of(event) if fifo else "") for event in events]
        await self.send(namespace, name, outgoing)

    async def redrive(self, principal: Principal, namespace: str, name: str, to: str = "", source: str = "") -> int:
        """Move messages that nobody holds to the queue `to`, or ("") to those they were given up in; how many.
        BadRequest when `to` is the queue itself or of the other kind, NotFound."""
        principal.require("receive", namespace)
        if to == name:
            raise BadRequest(f"{name!r} cannot be moved into itself", hint="name another queue", path="to")
        total = 0
        # Those that come while it runs are left to the next time.
        (before, _), now_s = await self.get_queue(namespace, name), clock.wall_s()
        while total < before.messages and (moved := await self._store.move(namespace, name, to, now_s)):
            for home, count in moved.items():
                self.entered(namespace, home, count)
            total += sum(moved.values())
        await self._tenants.note(entry_of(principal, namespace, "queue.redrive", name, source, f"{total} messages"))
        return total

    async def purge(self, principal: Principal, namespace: str, name: str, source: str = "") -> int:
        """Remove everything that was sent before, whoever holds it; how many."""
        principal.require("delete", namespace)
        now_s = clock.wall_s()
        entry = entry_of(principal, namespace, "queue.purge", name, source)
        total = gone = await self._store.clear(namespace, name, now_s, now_s, held=True, entry=entry)
        while gone == MOVE_AT_ONCE:
            total += (gone := await self._store.clear(namespace, name, now_s, now_s, held=True))
        return total

    # --- what is too old, and what is measured

    async def sweep(self) -> int:
        """Remove what has outlived its queue's retention; how many."""
        await self.refresh()
        total = 0
        for queue in self.held:
            if queue.messages:
                total += await self._expire(queue)
        return total

    async def _expire(self, queue: Queue) -> int:
        total = 0
        while True:
            now_s = clock.wall_s()
            try:
                gone = await self._store.clear(
                    queue.namespace, queue.name, now_s - queue.spec.retention_s, now_s, held=False
                )
            except NotFound:  # deleted since it was listed
                return total
            total += gone
            if gone:
                self._tally(queue.namespace, queue.name).expired += gone
                self.lines.wake(queue.namespace, queue.name, gone)  # a group may have moved on
            if gone < MOVE_AT_ONCE:
                return total

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.sweep()
            except FuyunError as error:  # a full disk: what is too old is not given out either
                log.warning("messages that are too old were not removed", code=error.code, detail=error.detail)

    async def refresh(self) -> None:
        """Bring `held` up to date."""
        found: list[Queue] = []
        after = ""
        while page := await self._store.list_queues("*", after, _PAGE):
            found.extend(page)
            after = f"{page[-1].namespace}/{page[-1].name}"
        self.held = found

    def _tally(self, namespace: str, name: str) -> Tally:
        return self.tallies.setdefault((namespace, name), Tally())

    async def forget(self, namespace: str) -> None:
        """The namespace was deleted, and its queues with it."""
        for key in [key for key in self.tallies if key[0] == namespace]:
            del self.tallies[key]
        self._changed()


def _check_batch(count: int, path: str) -> None:
    if not 1 <= count <= MOST_BATCH:
        raise BadRequest(f"{path}: {count}", hint=f"use 1 to {MOST_BATCH} at once", path=path)


def _check_seconds(path: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise BadRequest(f"{path} is {value:g}", hint=f"use {least:g} to {most:g} seconds", path=path)


def group_of(event: Event) -> str:
    """The group of an event that is sent to a queue with order by the platform: where it happened."""
    return event.source[:MOST_LABEL] if event.source.isprintable() else "events"
