"""Topics and their subscriptions, durably."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fuyun.domain.queues import Outgoing
from fuyun.domain.tenants import AuditEntry, Quotas
from fuyun.domain.topics import Published, Subscription, Topic


class TopicStore(Protocol):
    """The truth about topics. Same durability and errors as `ports.queues.QueueStore`."""

    async def put(self, topic: Topic, quotas: Quotas, entry: AuditEntry | None = None) -> Topic:
        """Create the topic, or change the description of the one that is there. QuotaExceeded for one too many."""
        ...

    async def get(self, namespace: str, name: str) -> Topic:
        """NotFound when absent."""
        ...

    async def list_topics(self, namespace: str, after: str = "", limit: int = 100) -> list[Topic]:
        """A page of the namespace's topics, by name."""
        ...

    async def delete(self, namespace: str, name: str, entry: AuditEntry | None = None) -> None:
        """Remove the topic and its subscriptions. What it has handed on goes its way."""
        ...

    async def subscribe(self, subscription: Subscription, entry: AuditEntry | None = None) -> None:
        """Add the subscription, or replace the one of that name. NotFound for a topic, or a target queue, that is
        absent; QuotaExceeded for one more than `MOST_SUBSCRIPTIONS`."""
        ...

    async def list_subscriptions(self, namespace: str, topic: str = "") -> list[Subscription]:
        """All of the topic's, by name; for namespace "*" all there are. NotFound when the topic is absent."""
        ...

    async def unsubscribe(self, namespace: str, topic: str, name: str, entry: AuditEntry | None = None) -> None:
        """NotFound when absent."""
        ...

    async def publish(
        self, namespace: str, topic: str, outgoing: Sequence[Outgoing], quotas: Quotas, now_s: float
    ) -> Published:
        """Hand the events on, all or none: when this returns they are messages of every queue whose subscription they
        pass, and in the outbox (kind `topic`, origin the topic's name) for the others. A queue with order takes what
        names no group as of the group of the topic's name; a queue without leaves groups out. What a queue would
        refuse, refuses the publication."""
        ...
