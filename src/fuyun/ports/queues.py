"""Queues, durably."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fuyun.domain.queues import Message, Outgoing, Queue, QueueSpec, Received, Sent, Settled, Settling, Statistics
from fuyun.domain.tenants import AuditEntry, Quotas


class QueueStore(Protocol):
    """The truth about queues and their messages.

    Every write is one transaction and is on disk when it returns; what it refuses changes nothing. Times are wall-clock
    seconds that the caller gives. A message that `send` returned is received until it is acknowledged, has outlived the
    queue's `retention_s`, or was given up to the dead-letter queue: at least once, by one holder at a time
    (`decide.leases`). Without order the earliest due comes first. In a queue with order (`fifo`) the messages of a
    group come one after the other, in the order in which they were sent, and one is out at a time.

    Raises NotFound (queue, namespace), Conflict, PreconditionFailed, StorageFull, and what a method adds. An `entry`
    joins the audit log in the same transaction.
    """

    async def put(
        self,
        namespace: str,
        name: str,
        spec: QueueSpec,
        quotas: Quotas,
        now_s: float,
        *,
        expected_revision: int | None = None,
        entry: AuditEntry | None = None,
    ) -> Queue:
        """Create the queue or change its settings; its revision rises by one. `expected_revision` 0 is "must not
        exist"; another value than the current one raises PreconditionFailed. QuotaExceeded for one queue too many,
        Conflict for a change of `fifo`, BadRequest for a dead-letter queue that is absent or of the other kind."""
        ...

    async def get(self, namespace: str, name: str, now_s: float) -> tuple[Queue, Statistics]:
        """The queue and what its messages wait for."""
        ...

    async def list_queues(self, namespace: str, after: str = "", limit: int = 100) -> list[Queue]:
        """A page of the namespace's queues by name; "*" lists every namespace's, by namespace/name."""
        ...

    async def delete(self, namespace: str, name: str, entry: AuditEntry | None = None) -> None:
        """Remove the queue and its messages. Conflict while another queue or a subscription names it."""
        ...

    async def send(
        self, namespace: str, name: str, outgoing: Sequence[Outgoing], quotas: Quotas, now_s: float
    ) -> list[Sent]:
        """All of them, or none. One whose deduplication id was taken less than `deduplication_s` ago is not kept again
        and gives the id of the one that was. BadRequest, PayloadTooLarge, QuotaExceeded."""
        ...

    async def receive(self, namespace: str, name: str, most: int, visibility_s: float | None, now_s: float) -> Received:
        """Take out up to `most` messages (of one group one at most) for `visibility_s`; None is the queue's own. What
        is ready and was received `max_receives` times moves to the dead-letter queue instead; what is too old is
        removed."""
        ...

    async def settle(self, namespace: str, name: str, settlings: Sequence[Settling], now_s: float) -> Settled:
        """Acknowledge, keep or return messages by their receipts. One whose lease has run out or was taken by another
        changes nothing and says so. BadRequest for what is no receipt."""
        ...

    async def peek(self, namespace: str, name: str, limit: int) -> list[Message]:
        """The oldest messages, whatever they wait for, without taking them out."""
        ...

    async def move(self, namespace: str, name: str, to: str, now_s: float) -> dict[str, int]:
        """Move up to `MOVE_AT_ONCE` messages that nobody holds, oldest first, to the queue `to`, or ("") each to the
        one it was given up in if that still is; they begin anew there. How many went to which; empty when none is left
        to move. BadRequest when `to` is of the other kind."""
        ...

    async def clear(
        self,
        namespace: str,
        name: str,
        sent_until_s: float,
        now_s: float,
        *,
        held: bool,
        entry: AuditEntry | None = None,
    ) -> int:
        """Remove up to `MOVE_AT_ONCE` messages sent at that time or before, with `held` also those that somebody holds;
        how many."""
        ...
