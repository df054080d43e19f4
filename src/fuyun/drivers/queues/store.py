"""`ports.queues.QueueStore` in SQL. What a message goes through is in `messages.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from fuyun.decide.quotas import check_messages, check_queues
from fuyun.domain.errors import BadRequest, Conflict, NotFound, PreconditionFailed
from fuyun.domain.queues import (
    MOVE_AT_ONCE,
    Message,
    Outgoing,
    Queue,
    QueueSpec,
    Received,
    Sent,
    Settled,
    Settling,
    Statistics,
)
from fuyun.domain.tenants import AuditEntry, Quotas
from fuyun.drivers.queues import messages as moves
from fuyun.drivers.queues.messages import Held
from fuyun.drivers.queues.tables import messages, queues, subscriptions
from fuyun.drivers.sql.journal import log
from fuyun.drivers.sql.sqlite import Database

_q = queues.c
_NAMED = select(_q.id, _q.namespace, _q.name, _q.spec).where(
    _q.namespace == bindparam("namespace"), _q.name == bindparam("name")
)
_ROWS = (_q.namespace, _q.name, _q.spec, _q.created_s, _q.revision, _q.messages, _q.bytes)
_USED = select(func.coalesce(func.sum(_q.messages), 0), func.coalesce(func.sum(_q.bytes), 0)).where(
    _q.namespace == bindparam("namespace")
)


class SqlQueues:
    """Queues and messages in the tables of those names."""

    def __init__(self, database: Database) -> None:
        self._db = database

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
        """See `ports.queues.QueueStore.put`."""

        def work(connection: Connection) -> Queue:
            found = _find(connection, namespace, name)
            revision = 0 if found is None else found.revision
            if expected_revision is not None and revision != expected_revision:
                raise PreconditionFailed(
                    f"queue {name!r} is at revision {revision}, not {expected_revision}"
                    if found
                    else f"there is no queue {name!r}",
                    hint="read it again and decide on what it is now", etag=f'"{revision}"' if found else "",
                )  # fmt: skip
            _check_dead_letter(connection, namespace, name, spec)
            if found is None:
                check_queues(quotas, _how_many(connection, namespace))
                made = Queue(namespace=namespace, name=name, spec=spec, created_s=now_s)
                connection.execute(insert(queues).values(_values(made)))
            else:
                _check_change(found, spec)
                made = Queue(**{**_values(found), "spec": spec, "revision": revision + 1})
                connection.execute(
                    update(queues).where(*_of(namespace, name)).values(spec=spec, revision=made.revision)
                )
            log(connection, entry)
            return made

        return await self._db.write(work)

    async def get(self, namespace: str, name: str, now_s: float) -> tuple[Queue, Statistics]:
        """See `ports.queues.QueueStore.get`."""

        def work(connection: Connection) -> tuple[Queue, Statistics]:
            held = named(connection, namespace, name)
            found = _find(connection, namespace, name)
            assert found is not None
            return found, _statistics(connection, held, now_s)

        return await self._db.read(work)

    async def list_queues(self, namespace: str, after: str = "", limit: int = 100) -> list[Queue]:
        """See `ports.queues.QueueStore.list_queues`."""
        key = _q.namespace + "/" + _q.name if namespace == "*" else _q.name
        query = select(*_ROWS).where(key > after).order_by(key).limit(limit)
        if namespace != "*":
            query = query.where(_q.namespace == namespace)
        return await self._db.read(lambda connection: [Queue(**row) for row in connection.execute(query).mappings()])

    async def delete(self, namespace: str, name: str, entry: AuditEntry | None = None) -> None:
        """See `ports.queues.QueueStore.delete`."""

        def work(connection: Connection) -> None:
            named(connection, namespace, name)
            others = select(*_ROWS).where(_q.namespace == namespace, _q.name != name)
            for row in connection.execute(others).mappings():
                if row["spec"].dead_letter == name:
                    raise Conflict(
                        f"queue {row['name']!r} gives messages up to queue {name!r}",
                        hint=f"give {row['name']!r} another dead-letter queue first, or none", queue=row["name"],
                    )  # fmt: skip
            _check_unsubscribed(connection, namespace, name)
            connection.execute(delete(queues).where(*_of(namespace, name)))
            log(connection, entry)

        await self._db.write(work)

    async def send(
        self, namespace: str, name: str, outgoing: Sequence[Outgoing], quotas: Quotas, now_s: float
    ) -> list[Sent]:
        """See `ports.queues.QueueStore.send`."""
        return await self._db.write(
            lambda connection: enter(connection, named(connection, namespace, name), outgoing, quotas, now_s)
        )

    async def receive(self, namespace: str, name: str, most: int, visibility_s: float | None, now_s: float) -> Received:
        """See `ports.queues.QueueStore.receive`."""

        def work(connection: Connection) -> Received:
            held = named(connection, namespace, name)
            dead_letter = find(connection, namespace, held.spec.dead_letter) if held.spec.dead_letter else None
            seconds = held.spec.visibility_s if visibility_s is None else visibility_s
            return moves.receive(connection, held, dead_letter, most, seconds, now_s)

        return await self._db.write(work)

    async def settle(self, namespace: str, name: str, settlings: Sequence[Settling], now_s: float) -> Settled:
        """See `ports.queues.QueueStore.settle`."""
        return await self._db.write(
            lambda connection: moves.settle(connection, named(connection, namespace, name), settlings, now_s)
        )

    async def peek(self, namespace: str, name: str, limit: int) -> list[Message]:
        """See `ports.queues.QueueStore.peek`."""
        return await self._db.read(
            lambda connection: moves.oldest(connection, named(connection, namespace, name), limit)
        )

    async def move(self, namespace: str, name: str, to: str, now_s: float) -> dict[str, int]:
        """See `ports.queues.QueueStore.move`."""

        def work(connection: Connection) -> dict[str, int]:
            held = named(connection, namespace, name)
            if to and named(connection, namespace, to).spec.fifo != held.spec.fifo:
                raise BadRequest(
                    f"of {name!r} and {to!r} only one keeps an order", hint="name a queue of the same kind", path="to"
                )
            query = select(_q.id, _q.namespace, _q.name, _q.spec).where(_q.namespace == namespace)
            homes = {row.name: Held(*row) for row in connection.execute(query) if row.name != name}
            return moves.move(connection, held, homes, to, now_s, MOVE_AT_ONCE)

        return await self._db.write(work)

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
        """See `ports.queues.QueueStore.clear`."""

        def work(connection: Connection) -> int:
            queue = named(connection, namespace, name)
            gone = moves.clear(connection, queue, sent_until_s, now_s, held, MOVE_AT_ONCE)
            log(connection, entry)
            return gone

        return await self._db.write(work)


def find(connection: Connection, namespace: str, name: str) -> Held | None:
    """The queue of that name, if there is one."""
    row = connection.execute(_NAMED, {"namespace": namespace, "name": name}).first()
    return None if row is None else Held(*row)


def named(connection: Connection, namespace: str, name: str) -> Held:
    """The queue of that name. NotFound."""
    found = find(connection, namespace, name)
    if found is None:
        raise NotFound(
            f"there is no queue {name!r} in namespace {namespace!r}", hint="list the queues, or create it",
            kind="queue", name=name,
        )  # fmt: skip
    return found


def enter(
    connection: Connection, queue: Held, outgoing: Sequence[Outgoing], quotas: Quotas, now_s: float
) -> list[Sent]:
    """Put messages into a queue, as far as the namespace's quotas reach."""
    sent, more, _ = moves.send(connection, queue, outgoing, now_s)
    if more:
        used, used_bytes = connection.execute(_USED, {"namespace": queue.namespace}).one()
        check_messages(quotas, used, used_bytes)
    return sent


def _of(namespace: str, name: str) -> Any:
    return (_q.namespace == namespace, _q.name == name)


def _values(queue: Queue) -> dict[str, Any]:
    return {field: getattr(queue, field) for field in Queue.__struct_fields__}


def _find(connection: Connection, namespace: str, name: str) -> Queue | None:
    row = connection.execute(select(*_ROWS).where(*_of(namespace, name))).mappings().first()
    return None if row is None else Queue(**row)


def _how_many(connection: Connection, namespace: str) -> int:
    return int(connection.execute(select(func.count()).where(_q.namespace == namespace)).scalar_one())


def _check_change(found: Queue, spec: QueueSpec) -> None:
    if found.spec.fifo != spec.fifo:
        raise Conflict(
            f"queue {found.name!r} was created {'with' if found.spec.fifo else 'without'} fifo, which stays",
            hint="create another queue and move the messages there",
        )


def _check_dead_letter(connection: Connection, namespace: str, name: str, spec: QueueSpec) -> None:
    if not spec.dead_letter:
        return
    target = find(connection, namespace, spec.dead_letter)
    if target is None:
        raise BadRequest(
            f"queue {name!r}: there is no queue {spec.dead_letter!r} to give messages up to",
            hint=f"create {spec.dead_letter!r} first", path="dead_letter",
        )  # fmt: skip
    if target.spec.fifo != spec.fifo:
        raise BadRequest(
            f"queue {name!r}: of it and its dead-letter queue {spec.dead_letter!r} only one keeps an order",
            hint="name a queue with the same fifo", path="dead_letter",
        )  # fmt: skip


def _check_unsubscribed(connection: Connection, namespace: str, name: str) -> None:
    s = subscriptions.c
    query = select(s.topic, s.name).where(s.namespace == namespace, s.target == f"queue:{name}").limit(1)
    found = connection.execute(query).first()
    if found is not None:
        raise Conflict(
            f"subscription {found.name!r} of topic {found.topic!r} sends to queue {name!r}",
            hint=f"end it first: fuyun topic unsubscribe {found.topic} {found.name}", topic=found.topic,
        )  # fmt: skip


def _statistics(connection: Connection, queue: Held, now_s: float) -> Statistics:
    c = messages.c
    mine = c.queue == queue.id

    def how_many(*conditions: Any) -> int:
        return int(connection.execute(select(func.count()).select_from(messages).where(mine, *conditions)).scalar_one())

    waiting = c.due_s > now_s
    first = select(c.sent_s).where(mine).order_by(c.grp, c.number).limit(1)
    if queue.spec.fifo:
        first = select(func.min(c.sent_s)).where(mine, c.due_s.is_not(None))
    oldest_s = connection.execute(first).scalar()
    return Statistics(
        ready=how_many(c.due_s <= now_s),
        in_flight=how_many(waiting, c.leased),
        delayed=how_many(waiting, ~c.leased),
        blocked=how_many(c.due_s.is_(None)),
        oldest_s=0.0 if oldest_s is None else max(0.0, now_s - oldest_s),
    )
