"""Topics: made, subscribed to, published to. When `publish` returns, the events are on disk for every subscription.

Changes take the principal that asks and the address it asks from, as in `services.queues`.
"""

from __future__ import annotations

from collections.abc import Sequence

from fuyun.base import clock
from fuyun.domain.errors import BadRequest, NotFound
from fuyun.domain.events import Event, target_of
from fuyun.domain.names import check_name, nearest
from fuyun.domain.queues import MOST_BATCH, Outgoing
from fuyun.domain.tenants import Principal
from fuyun.domain.topics import Published, Subscription, SubscriptionSpec, Topic, check_subscription
from fuyun.domain.triggers import Policy
from fuyun.ports.topics import TopicStore
from fuyun.services.queues import Queues
from fuyun.services.relay import Match
from fuyun.services.tenants import Tenants, entry_of

_PAGE = 500


class Topics:
    """One per platform."""

    def __init__(self, store: TopicStore, queues: Queues, tenants: Tenants) -> None:
        self._store = store
        self._queues = queues
        self._tenants = tenants
        self._handed_on: dict[tuple[str, str], list[Match]] = {}  # by (namespace, topic): to all but queues

    async def open(self) -> None:
        """Read which subscriptions there are."""
        for subscription in await self._store.list_subscriptions("*"):
            self._add(subscription)

    async def forget(self, namespace: str) -> None:
        """The namespace was deleted, and its topics with it."""
        for key in [key for key in self._handed_on if key[0] == namespace]:
            del self._handed_on[key]

    def match(self, namespace: str, topic: str, _event: Event) -> list[Match]:
        """Who is to get what was published to a topic, besides queues, which have it. A `services.relay.Matcher`."""
        return self._handed_on.get((namespace, topic), [])

    async def take(self, namespace: str, name: str, _qualifier: str, events: Sequence[Event]) -> None:
        """Publish events that the platform sends here. A `services.targets.Sender`."""
        await self.publish(namespace, name, [Outgoing(event=event) for event in events])

    def _add(self, subscription: Subscription) -> None:
        spec = subscription.spec
        self._drop(subscription.namespace, subscription.topic, subscription.name)
        if not spec.queue:
            policy = Policy(
                filter=spec.filter,
                max_attempts=spec.max_attempts,
                max_age_s=spec.max_age_s,
                dead_letter=spec.dead_letter,
            )
            match = Match(
                origin=_origin(subscription.topic, subscription.name), target=target_of(spec.target), policy=policy
            )
            self._handed_on.setdefault((subscription.namespace, subscription.topic), []).append(match)

    def _drop(self, namespace: str, topic: str, name: str) -> None:
        kept = [one for one in self._handed_on.get((namespace, topic), []) if one.origin != _origin(topic, name)]
        if kept:
            self._handed_on[namespace, topic] = kept
        else:
            self._handed_on.pop((namespace, topic), None)

    async def put_topic(
        self, principal: Principal, namespace: str, name: str, description: str = "", source: str = ""
    ) -> Topic:
        """Create a topic, or change what it says about itself. BadRequest, QuotaExceeded."""
        principal.require("deploy", namespace)
        check_name("topic", name)
        topic = Topic(namespace=namespace, name=name, created_s=clock.wall_s(), description=description)
        entry = entry_of(principal, namespace, "topic.put", name, source)
        return await self._store.put(topic, self._tenants.quotas(namespace), entry)

    async def list_topics(self, namespace: str, after: str = "", limit: int = 100) -> list[Topic]:
        """A page, by name. NotFound when the namespace is absent."""
        await self._tenants.get_namespace(namespace)
        return await self._store.list_topics(namespace, after, limit)

    async def get_topic(self, namespace: str, name: str) -> Topic:
        """NotFound names the nearest topic there is."""
        try:
            return await self._store.get(namespace, name)
        except NotFound as exc:
            close = nearest(name, [topic.name for topic in await self._store.list_topics(namespace, limit=_PAGE)])
            hint = f"did you mean {close!r}?" if close else f"create it: fuyun topic create {name}"
            raise NotFound(exc.detail, hint=hint, kind="topic", name=name) from exc

    async def delete_topic(self, principal: Principal, namespace: str, name: str, source: str = "") -> None:
        """With its subscriptions. NotFound."""
        principal.require("delete", namespace)
        await self._store.delete(namespace, name, entry_of(principal, namespace, "topic.delete", name, source))
        self._handed_on.pop((namespace, name), None)

    async def subscribe(
        self, principal: Principal, namespace: str, topic: str, name: str, spec: SubscriptionSpec, source: str = ""
    ) -> Subscription:
        """Add a subscription, or replace the one of that name; it gets what is published from now on. BadRequest,
        NotFound, QuotaExceeded."""
        principal.require("deploy", namespace)
        check_subscription(name, spec)
        made = Subscription(namespace=namespace, topic=topic, name=name, spec=spec, created_s=clock.wall_s())
        entry = entry_of(principal, namespace, "topic.subscribe", topic, source, f"{name} {spec.target}")
        await self._store.subscribe(made, entry)
        self._add(made)
        return made

    async def list_subscriptions(self, namespace: str, topic: str) -> list[Subscription]:
        """All, by name. NotFound."""
        await self.get_topic(namespace, topic)
        return await self._store.list_subscriptions(namespace, topic)

    async def unsubscribe(self, principal: Principal, namespace: str, topic: str, name: str, source: str = "") -> None:
        """NotFound."""
        principal.require("deploy", namespace)
        entry = entry_of(principal, namespace, "topic.unsubscribe", topic, source, name)
        await self._store.unsubscribe(namespace, topic, name, entry)
        self._drop(namespace, topic, name)

    async def publish(self, namespace: str, topic: str, outgoing: Sequence[Outgoing]) -> Published:
        """Hand events on. BadRequest, NotFound, PayloadTooLarge and QuotaExceeded, also of a subscribed queue."""
        if not 1 <= len(outgoing) <= MOST_BATCH:
            raise BadRequest(f"messages: {len(outgoing)}", hint=f"publish 1 to {MOST_BATCH} at once", path="messages")
        quotas = self._tenants.quotas(namespace)
        published = await self._store.publish(namespace, topic, outgoing, quotas, clock.wall_s())
        for queue, count in published.queues.items():
            self._queues.entered(namespace, queue, count)
        return published


def _origin(topic: str, name: str) -> str:
    return f"subscription {topic}/{name}"
