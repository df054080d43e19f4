"""`ports.topics.TopicStore` in SQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from fuyun.decide.filters import View, compiled_text
from fuyun.decide.quotas import check_topics
from fuyun.domain.errors import NotFound, QuotaExceeded
from fuyun.domain.queues import Outgoing
from fuyun.domain.tenants import AuditEntry, Quotas
from fuyun.domain.topics import MOST_SUBSCRIPTIONS, Published, Subscription, Topic
from fuyun.drivers.queues.messages import Held
from fuyun.drivers.queues.store import enter, named
from fuyun.drivers.queues.tables import subscriptions, topics
from fuyun.drivers.sql.journal import log
from fuyun.drivers.sql.outbox import emit
from fuyun.drivers.sql.sqlite import Database

_t, _s = topics.c, subscriptions.c
_COLUMNS = (_s.namespace, _s.topic, _s.name, _s.spec, _s.created_s)


class SqlTopics:
    """Topics and subscriptions in the tables of those names."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def put(self, topic: Topic, quotas: Quotas, entry: AuditEntry | None = None) -> Topic:
        """See `ports.topics.TopicStore.put`."""

        def work(connection: Connection) -> Topic:
            found = _find(connection, topic.namespace, topic.name)
            if found is None:
                mine = select(func.count()).where(_t.namespace == topic.namespace)
                check_topics(quotas, int(connection.execute(mine).scalar_one()))
                connection.execute(insert(topics).values(**msgspec.structs.asdict(topic)))
            else:
                change = update(topics).where(*_of(topic.namespace, topic.name))
                connection.execute(change.values(description=topic.description))
            log(connection, entry)
            return _get(connection, topic.namespace, topic.name)

        return await self.database.write(work)

    async def get(self, namespace: str, name: str) -> Topic:
        """See `ports.topics.TopicStore.get`."""
        return await self.database.read(lambda connection: _get(connection, namespace, name))

    async def list_topics(self, namespace: str, after: str = "", limit: int = 100) -> list[Topic]:
        """See `ports.topics.TopicStore.list_topics`."""
        query = select(topics).where(_t.namespace == namespace, _t.name > after).order_by(_t.name).limit(limit)
        return await self.database.read(
            lambda connection: [Topic(**row) for row in connection.execute(query).mappings()]
        )

    async def delete(self, namespace: str, name: str, entry: AuditEntry | None = None) -> None:
        """See `ports.topics.TopicStore.delete`."""

        def work(connection: Connection) -> None:
            _get(connection, namespace, name)
            connection.execute(delete(topics).where(*_of(namespace, name)))
            log(connection, entry)

        await self.database.write(work)

    async def subscribe(self, subscription: Subscription, entry: AuditEntry | None = None) -> None:
        """See `ports.topics.TopicStore.subscribe`."""

        namespace = subscription.namespace

        def work(connection: Connection) -> None:
            _get(connection, namespace, subscription.topic)
            if subscription.spec.queue:
                named(connection, namespace, subscription.spec.queue)
            connection.execute(delete(subscriptions).where(*_one(namespace, subscription.topic, subscription.name)))
            if len(_subscribed(connection, namespace, subscription.topic)) >= MOST_SUBSCRIPTIONS:
                raise QuotaExceeded(
                    f"topic {subscription.topic!r} has {MOST_SUBSCRIPTIONS} subscriptions, as many as it may",
                    hint="subscribe a queue or a bus that hands on to the others",
                    quota="subscriptions", limit=MOST_SUBSCRIPTIONS,
                )  # fmt: skip
            values = {
                **msgspec.structs.asdict(subscription),
                "namespace": namespace,
                "target": subscription.spec.target,
            }
            connection.execute(insert(subscriptions).values(**values))
            log(connection, entry)

        await self.database.write(work)

    async def list_subscriptions(self, namespace: str, topic: str = "") -> list[Subscription]:
        """See `ports.topics.TopicStore.list_subscriptions`."""

        def work(connection: Connection) -> list[Subscription]:
            if namespace == "*":
                query = select(*_COLUMNS).order_by(_s.namespace, _s.topic, _s.name)
                return [Subscription(**row) for row in connection.execute(query).mappings()]
            _get(connection, namespace, topic)
            return _subscribed(connection, namespace, topic)

        return await self.database.read(work)

    async def unsubscribe(self, namespace: str, topic: str, name: str, entry: AuditEntry | None = None) -> None:
        """See `ports.topics.TopicStore.unsubscribe`."""

        def work(connection: Connection) -> None:
            _get(connection, namespace, topic)
            if connection.execute(delete(subscriptions).where(*_one(namespace, topic, name))).rowcount == 0:
                raise NotFound(
                    f"topic {topic!r} has no subscription {name!r}", hint="list its subscriptions",
                    kind="subscription", name=name,
                )  # fmt: skip
            log(connection, entry)

        await self.database.write(work)

    async def publish(
        self, namespace: str, topic: str, outgoing: Sequence[Outgoing], quotas: Quotas, now_s: float
    ) -> Published:
        """See `ports.topics.TopicStore.publish`."""

        def work(connection: Connection) -> Published:
            _get(connection, namespace, topic)
            entered: dict[str, int] = {}
            views = [(one, View(one.event)) for one in outgoing]
            for subscription in _subscribed(connection, namespace, topic):
                if subscription.spec.queue:
                    queue = named(connection, namespace, subscription.spec.queue)
                    takes = _taker(subscription)
                    copies = [_fitted(queue, topic, one) for one, view in views if takes(view)]
                    if copies:
                        sent = enter(connection, queue, copies, quotas, now_s)
                        entered[queue.name] = entered.get(queue.name, 0) + sum(not one.duplicate for one in sent)
            emit(connection, namespace, "topic", topic, [one.event for one in outgoing])
            return Published(ids=tuple(one.event.id for one in outgoing), queues=entered)

        return await self.database.write(work)


def _taker(subscription: Subscription) -> Callable[[View], bool]:
    if subscription.spec.filter is None:
        return lambda view: True
    return compiled_text(msgspec.json.encode(subscription.spec.filter))


def _fitted(queue: Held, topic: str, outgoing: Outgoing) -> Outgoing:
    """As the queue takes it."""
    if queue.spec.fifo:
        return msgspec.structs.replace(outgoing, group=outgoing.group or topic)
    return msgspec.structs.replace(outgoing, group="")


def _of(namespace: str, name: str) -> Any:
    return (_t.namespace == namespace, _t.name == name)


def _one(namespace: str, topic: str, name: str) -> Any:
    return (_s.namespace == namespace, _s.topic == topic, _s.name == name)


def _find(connection: Connection, namespace: str, name: str) -> Topic | None:
    row = connection.execute(select(topics).where(*_of(namespace, name))).mappings().first()
    return None if row is None else Topic(**row)


def _get(connection: Connection, namespace: str, name: str) -> Topic:
    found = _find(connection, namespace, name)
    if found is None:
        raise NotFound(
            f"there is no topic {name!r} in namespace {namespace!r}", hint="list the topics, or create it",
            kind="topic", name=name,
        )  # fmt: skip
    return found


def _subscribed(connection: Connection, namespace: str, topic: str) -> list[Subscription]:
    query = select(*_COLUMNS).where(_s.namespace == namespace, _s.topic == topic).order_by(_s.name)
    return [Subscription(**row) for row in connection.execute(query).mappings()]
