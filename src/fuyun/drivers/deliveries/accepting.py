"""Accepting orders in the transaction of whoever has one: many rows, few statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from fuyun.domain.deliveries import Lane, Order
from fuyun.drivers.deliveries.tables import deliveries, delivery_keys, parcels


def accept(connection: Connection, orders: Sequence[Order], now_s: float) -> list[str]:
    """See `ports.deliveries.DeliveryStore.accept`."""
    keys: dict[tuple[Lane, str], str] = {}
    found: list[str] = []
    rows: list[dict[str, Any]] = []
    bodies: list[dict[str, Any]] = []
    for order in orders:
        id_ = _by_key(connection, order, keys, now_s) if order.key else order.id
        found.append(id_)
        if id_ == order.id:
            rows.append(_row(order, now_s))
            parcel = order.parcel
            call = None if parcel.event is not None else parcel.call
            bodies.append({"id": id_, "event": parcel.event, "call": call, "body": parcel.body})
    if rows:
        connection.execute(insert(deliveries), rows)
        connection.execute(insert(parcels), bodies)
    return found


def _by_key(connection: Connection, order: Order, keys: dict[tuple[Lane, str], str], now_s: float) -> str:
    """The id of the delivery that has the order's key; from now on that is the order's own if there was none."""
    lane = (order.namespace, order.target.kind, order.target.name)
    known = keys.get((lane, order.key))
    if known is not None:
        return known
    where = (
        (delivery_keys.c.namespace == lane[0])
        & (delivery_keys.c.kind == lane[1])
        & (delivery_keys.c.name == lane[2])
        & (delivery_keys.c.key == order.key)
    )
    row = connection.execute(select(delivery_keys.c.delivery, delivery_keys.c.expires_s).where(where)).one_or_none()
    if row is not None and row.expires_s > now_s:
        keys[lane, order.key] = str(row.delivery)
        return str(row.delivery)
    if row is not None:
        connection.execute(delete(delivery_keys).where(where))
    connection.execute(
        insert(delivery_keys).values(
            namespace=lane[0], kind=lane[1], name=lane[2], key=order.key, delivery=order.id,
            expires_s=now_s + order.key_window_s,
        )
    )  # fmt: skip
    keys[lane, order.key] = order.id
    return order.id


def _row(order: Order, now_s: float) -> dict[str, Any]:
    at_s = max(now_s, order.at_s)
    return {
        "namespace": order.namespace, "id": order.id, "kind": order.target.kind, "name": order.target.name,
        "qualifier": order.target.qualifier, "state": "failed" if order.refused else "queued", "epoch": 0,
        "attempts": 0, "failures": 0, "max_attempts": order.max_attempts, "max_age_s": order.max_age_s,
        "accepted_s": now_s, "at_s": at_s, "expires_s": at_s + order.max_age_s, "on_success": order.on_success,
        "on_failure": order.on_failure, "hops": order.hops, "trail": order.trail, "origin": order.origin,
        "error": order.refused, "detail": order.detail, "invocation": "",
    }  # fmt: skip
