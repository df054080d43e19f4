"""`ports.deliveries` in SQL."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from fuyun.domain.deliveries import (
    DEAD,
    FINISHED,
    RETRY_BEHIND_S,
    WAITING,
    Call,
    Delivery,
    Lane,
    Order,
    Parcel,
    Settlement,
    State,
)
from fuyun.domain.errors import Conflict, NotFound
from fuyun.domain.events import Target
from fuyun.domain.tenants import AuditEntry
from fuyun.drivers.deliveries.accepting import accept
from fuyun.drivers.deliveries.tables import deliveries, delivery_keys, epochs, parcels
from fuyun.drivers.sql.journal import log
from fuyun.drivers.sql.outbox import outbox
from fuyun.drivers.sql.sqlite import Database
from fuyun.ports.deliveries import DeliveryQuery, Leased, Posted, Waiting

#: Rows that one statement of `prune` deletes: other writes wait no longer than that takes.
PRUNED = 500
#: The row of `epochs` that deliveries use.
_EPOCH = "deliveries"

_row = deliveries.c
# Statements of every delivery's way, made once.
_MINE = (_row.namespace == bindparam("of_namespace")) & (_row.id == bindparam("of_id"))
_LANE = (
    (_row.namespace == bindparam("of_namespace"))
    & (_row.kind == bindparam("of_kind"))
    & (_row.name == bindparam("of_name"))
    & (_row.state == bindparam("of_state"))
)
_DUE = select(deliveries).where(_LANE & (_row.at_s <= bindparam("now_s"))).order_by(_row.at_s).limit(bindparam("most"))
_FIRST = select(func.min(_row.at_s)).where(_LANE)
_BEGIN = (
    update(deliveries)
    .where(_MINE)
    .values(state="running", epoch=bindparam("new_epoch"), attempts=_row.attempts + 1, at_s=bindparam("new_at_s"))
)
_CHANGES = ("state", "at_s", "failures", "error", "detail", "invocation")
_SETTLE = (
    update(deliveries)
    .where(_MINE & (_row.state == "running") & (_row.epoch == bindparam("of_epoch")))
    .values({name: bindparam(f"new_{name}") for name in _CHANGES})
)
_PARCELS = select(parcels).where(parcels.c.id.in_(bindparam("ids", expanding=True)))
_DROP = delete(parcels).where(parcels.c.id == bindparam("of_id"))
_DELETE = delete(deliveries).where(_MINE & _row.state.in_(FINISHED))


class SqlDeliveries:
    """Implements `ports.deliveries.DeliveryStore`, `DeliveryLedger` and `Outbox`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def take_over(self, now_s: float) -> tuple[int, list[Waiting]]:
        """See `ports.deliveries.DeliveryStore.take_over`."""

        def work(connection: Connection) -> tuple[int, list[Waiting]]:
            mine = epochs.c.name == _EPOCH
            if connection.execute(update(epochs).where(mine).values(value=epochs.c.value + 1)).rowcount == 0:
                connection.execute(insert(epochs).values(name=_EPOCH, value=1))
            epoch = int(connection.execute(select(epochs.c.value).where(mine)).scalar_one())
            left = update(deliveries).where((_row.state == "running") & (_row.epoch < epoch)).values(at_s=now_s)
            connection.execute(left.where(_row.failures == 0).values(state="queued"))
            connection.execute(left.values(state="retrying"))
            lane = (_row.namespace, _row.kind, _row.name)
            query = select(*lane, func.count(), func.min(_row.at_s)).where(_row.state.in_(WAITING)).group_by(*lane)
            found = connection.execute(query)
            return epoch, [
                Waiting(lane=(namespace, kind, name), count=n, due_s=due) for namespace, kind, name, n, due in found
            ]

        return await self._db.write(work)

    async def accept(self, orders: Sequence[Order], now_s: float, done: Sequence[int] = ()) -> list[str]:
        """See `ports.deliveries.DeliveryStore.accept`."""

        def work(connection: Connection) -> list[str]:
            if done:
                gone = delete(outbox).where(outbox.c.number == bindparam("of_number"))
                connection.execute(gone, [{"of_number": number} for number in done])
            return accept(connection, orders, now_s)

        return await self._db.write(work)

    async def lease(
        self, wanted: Sequence[tuple[Lane, int]], epoch: int, now_s: float
    ) -> tuple[list[Leased], list[Waiting]]:
        """See `ports.deliveries.DeliveryStore.lease`."""

        def work(connection: Connection) -> tuple[list[Leased], list[Waiting]]:
            _check_epoch(connection, epoch)
            rows = [row for lane, most in wanted for row in _due(connection, lane, most, now_s)]
            taken: list[Leased] = []
            if rows:
                began = [
                    {"of_namespace": row.namespace, "of_id": row.id, "new_epoch": epoch, "new_at_s": now_s}
                    for row in rows
                ]
                connection.execute(_BEGIN, began)
                contents = _parcels(connection, [row.id for row in rows])
                taken = [
                    Leased(
                        delivery=_delivery(row, state="running", attempts=row.attempts + 1, at_s=now_s),
                        parcel=contents[row.id],
                    )
                    for row in rows
                ]
            return taken, [_first(connection, lane) for lane, _ in wanted]

        return await self._db.write(work)

    async def settle(self, settlements: Sequence[Settlement], epoch: int, now_s: float) -> list[bool]:
        """See `ports.deliveries.DeliveryStore.settle`."""

        def work(connection: Connection) -> list[bool]:
            settled: list[bool] = []
            dropped: list[dict[str, Any]] = []
            follow: list[Order] = []
            for one in settlements:
                changes = {f"new_{name}": getattr(one, name) for name in _CHANGES}
                mine = {"of_namespace": one.namespace, "of_id": one.id, "of_epoch": epoch}
                changed = connection.execute(_SETTLE, changes | mine)
                settled.append(changed.rowcount == 1)
                if settled[-1]:
                    follow += one.follow
                    if one.state == "succeeded":
                        dropped.append({"of_id": one.id})
            if dropped:
                connection.execute(_DROP, dropped)
            accept(connection, follow, now_s)
            return settled

        return await self._db.write(work)

    async def get(self, namespace: str, id_: str) -> tuple[Delivery, Parcel | None]:
        """See `ports.deliveries.DeliveryLedger.get`."""

        def work(connection: Connection) -> tuple[Delivery, Parcel | None]:
            row = _find(connection, namespace, id_)
            return _delivery(row), _parcels(connection, [id_]).get(id_)

        return await self._db.read(work)

    async def list_deliveries(self, query: DeliveryQuery) -> list[Delivery]:
        """See `ports.deliveries.DeliveryLedger.list_deliveries`."""
        return await self._db.read(lambda connection: [_delivery(row) for row in _matching(connection, query)])

    async def stop(self, namespace: str, id_: str, now_s: float, entry: AuditEntry | None = None) -> Delivery:
        """See `ports.deliveries.DeliveryLedger.stop`."""

        def work(connection: Connection) -> Delivery:
            found = _delivery(_find(connection, namespace, id_))
            if found.state in FINISHED:
                raise Conflict(
                    f"delivery {id_} is {found.state} already", hint="stop what is queued, running or retrying",
                    state=found.state,
                )  # fmt: skip
            mine = (_row.namespace == namespace) & (_row.id == id_)
            connection.execute(update(deliveries).where(mine).values(state="stopped", at_s=now_s))
            connection.execute(_DROP, {"of_id": id_})
            log(connection, entry)
            return found

        return await self._db.write(work)

    async def redrive(self, query: DeliveryQuery, now_s: float, entry: AuditEntry | None = None) -> list[Delivery]:
        """See `ports.deliveries.DeliveryLedger.redrive`."""

        def work(connection: Connection) -> list[Delivery]:
            found = [_delivery(row) for row in _matching(connection, query, within=DEAD)]
            again = (
                update(deliveries)
                .where(_MINE)
                .values(state="queued", at_s=now_s, failures=0, expires_s=now_s + _row.max_age_s)
            )
            if found:
                connection.execute(again, [{"of_namespace": one.namespace, "of_id": one.id} for one in found])
                log(connection, entry)
            return found

        return await self._db.write(work)

    async def purge(self, query: DeliveryQuery, entry: AuditEntry | None = None) -> int:
        """See `ports.deliveries.DeliveryLedger.purge`."""

        def work(connection: Connection) -> int:
            gone = _delete(connection, _matching(connection, query, FINISHED))
            if gone:
                log(connection, entry)
            return gone

        return await self._db.write(work)

    async def prune(self, finished_before_s: float, dead_before_s: float, now_s: float) -> int:
        """See `ports.deliveries.DeliveryLedger.prune`."""
        old = _row.state.in_(("succeeded", "stopped")) & (_row.at_s < finished_before_s)
        old = old | (_row.state.in_(DEAD) & (_row.at_s < dead_before_s))
        query = select(_row.namespace, _row.id).where(old).limit(PRUNED)
        # What is to go is looked for beside the writer: that may take a while, and what finished stays finished.
        rows = await self._db.read(lambda connection: connection.execute(query).all())

        def work(connection: Connection) -> int:
            connection.execute(delete(delivery_keys).where(delivery_keys.c.expires_s <= now_s))
            return _delete(connection, rows)

        return await self._db.write(work)

    async def forget(self, namespace: str) -> None:
        """See `ports.deliveries.DeliveryLedger.forget`."""

        def work(connection: Connection) -> None:
            mine = select(_row.id).where(_row.namespace == namespace)
            connection.execute(delete(parcels).where(parcels.c.id.in_(mine)))
            for table in (deliveries, delivery_keys, outbox):
                connection.execute(delete(table).where(table.c.namespace == namespace))

        await self._db.write(work)

    async def peek(self, after: int, limit: int) -> list[Posted]:
        """See `ports.deliveries.Outbox.peek`."""
        query = select(outbox).where(outbox.c.number > after).order_by(outbox.c.number).limit(limit)
        return await self._db.read(lambda connection: [Posted(**row) for row in connection.execute(query).mappings()])


def _check_epoch(connection: Connection, epoch: int) -> None:
    found = connection.execute(select(epochs.c.value).where(epochs.c.name == _EPOCH)).scalar_one_or_none()
    if found != epoch:
        raise Conflict(
            f"deliveries are in epoch {found}, not {epoch}: another platform has taken over",
            hint="run one platform on a data directory",
        )


def _lane(lane: Lane, state: State) -> dict[str, Any]:
    return {"of_namespace": lane[0], "of_kind": lane[1], "of_name": lane[2], "of_state": state}


def _due(connection: Connection, lane: Lane, most: int, now_s: float) -> list[Any]:
    """The next `most` of a lane that are due: of each state the earliest, merged."""
    by_state = [
        connection.execute(_DUE, {**_lane(lane, state), "now_s": now_s, "most": most}).all() for state in WAITING
    ]
    behind = {"queued": 0.0, "retrying": RETRY_BEHIND_S}
    return list(heapq.merge(*by_state, key=lambda row: row.at_s + behind[row.state]))[:most]


def _first(connection: Connection, lane: Lane) -> Waiting:
    """When the first of a lane is due."""
    found = [connection.execute(_FIRST, _lane(lane, state)).scalar_one() for state in WAITING]
    return Waiting(lane=lane, count=0, due_s=min((at_s for at_s in found if at_s is not None), default=math.inf))


def _find(connection: Connection, namespace: str, id_: str) -> Any:
    row = connection.execute(select(deliveries).where((_row.namespace == namespace) & (_row.id == id_))).one_or_none()
    if row is None:
        raise NotFound(
            f"there is no delivery {id_!r} in namespace {namespace!r}", kind="delivery", name=id_,
            hint="`fuyun async list` shows them; finished ones are kept for a while only",
        )  # fmt: skip
    return row


def _matching(connection: Connection, query: DeliveryQuery, within: tuple[State, ...] = ()) -> list[Any]:
    wanted = select(deliveries).where(_row.namespace == query.namespace)
    states = [state for state in query.states or within if not within or state in within]
    if states or within:
        wanted = wanted.where(_row.state.in_(states))
    if query.kind:
        wanted = wanted.where(_row.kind == query.kind)
    if query.name:
        wanted = wanted.where(_row.name == query.name)
    if query.ids:
        wanted = wanted.where(_row.id.in_(query.ids))
    if query.trail:
        wanted = wanted.where((_row.trail == query.trail) | (_row.id == query.trail))
    if query.after:
        wanted = wanted.where(_row.id > query.after)
    return list(connection.execute(wanted.order_by(_row.id).limit(query.limit)).all())


def _parcels(connection: Connection, ids: list[str]) -> dict[str, Parcel]:
    return {
        row.id: Parcel(event=row.event, call=row.call or Call(), body=row.body)
        for row in connection.execute(_PARCELS, {"ids": ids})
    }


def _delete(connection: Connection, rows: Sequence[Any]) -> int:
    """Delete those of `rows` that are finished still; how many."""
    gone = [
        {"of_id": row.id}
        for row in rows
        if connection.execute(_DELETE, {"of_namespace": row.namespace, "of_id": row.id}).rowcount
    ]
    if gone:
        connection.execute(_DROP, gone)
    return len(gone)


def _delivery(row: Any, **changes: Any) -> Delivery:
    target = Target(kind=row.kind, name=row.name, qualifier=row.qualifier)
    values = {field: getattr(row, field) for field in Delivery.__struct_fields__ if field != "target"}
    return Delivery(target=target.text, **values | changes)
