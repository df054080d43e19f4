"""Queues, topics and what they set going, put together: targets of others, matchers of the relay, triggers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fuyun.base.tasks import Scope
from fuyun.ports.queues import QueueStore
from fuyun.ports.topics import TopicStore
from fuyun.services.accepting import Acceptor
from fuyun.services.invoking import Invoker
from fuyun.services.messageoffers import QueueOffer, TopicOffer
from fuyun.services.offers import Offer
from fuyun.services.queues import Queues
from fuyun.services.relay import Relay
from fuyun.services.targets import Targets
from fuyun.services.tenants import Tenants
from fuyun.services.topics import Topics
from fuyun.services.triggers.bindings import Bindings
from fuyun.services.triggers.queue import QueueTriggers
from fuyun.services.triggers.queuebatch import Parts
from fuyun.services.triggers.topic import matcher_of


@dataclass(frozen=True, kw_only=True)
class Path:
    """The event path that messages go. `random()`: in [0, 1)."""

    invoker: Invoker
    acceptor: Acceptor
    targets: Targets
    relay: Relay
    bindings: Bindings
    random: Callable[[], float]
    scope: Scope


class Messaging:
    """One per platform."""

    def __init__(self, queues: QueueStore, topics: TopicStore, tenants: Tenants, path: Path) -> None:
        self._scope = path.scope
        self.queues = Queues(queues, tenants)
        self.topics = Topics(topics, self.queues, tenants)
        self.triggers = QueueTriggers(
            Parts(
                queues=self.queues, bindings=path.bindings, invoker=path.invoker, acceptor=path.acceptor,
                targets=path.targets, random=path.random,
            )
        )  # fmt: skip
        self.offers: dict[str, Offer] = {"queues": QueueOffer(self.queues), "topics": TopicOffer(self.topics)}
        tenants.on_namespace_deleted(self.queues.forget)
        tenants.on_namespace_deleted(self.topics.forget)
        path.targets.register("queue", self.queues.take)
        path.targets.register("topic", self.topics.take)
        path.relay.register("topic", self.topics.match)
        path.relay.register("topic", matcher_of(path.bindings))

    async def open(self) -> None:
        """Read what there is, so that the relay may begin."""
        self.queues.start(self._scope)
        await self.topics.open()

    def begin(self) -> None:
        """Let triggers take messages. It is known by now which of them are paused."""
        self.triggers.open()

    async def close(self) -> None:
        """End; whoever waits is sent home."""
        self.queues.close()
        await self.triggers.close()
