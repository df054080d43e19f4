"""The outbox: events that are written in the transaction of what they tell of, and handed on from there.

A driver whose change is an event calls `emit` on the connection of its own write, so that the event exists exactly when
the change does. `ports.deliveries.DeliveryStore` takes them out in the order of `number`.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Column, Connection, Integer, String, Table, Text, insert

from fuyun.domain.events import Event
from fuyun.drivers.sql.columns import Packed, metadata
from fuyun.drivers.sql.writer import EMITTED

outbox = Table(
    "outbox", metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("namespace", String(63), nullable=False),
    Column("kind", String(16), nullable=False),  # "bucket", "table", "bus", "topic": what `origin` names
    Column("origin", Text, nullable=False),
    Column("event", Packed(Event), nullable=False),
    sqlite_autoincrement=True,
)  # fmt: skip


def emit(connection: Connection, namespace: str, kind: str, origin: str, events: Iterable[Event]) -> None:
    """Append events of the thing `origin` in the transaction of `connection`."""
    rows = [{"namespace": namespace, "kind": kind, "origin": origin, "event": event} for event in events]
    if rows:
        connection.execute(insert(outbox), rows)
        connection.info[EMITTED] = True
