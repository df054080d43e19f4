"""Tables of deliveries and of the states of triggers.

A delivery's row is small and changes with every attempt; its parcel stands apart, written once and deleted once.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    text,
)

from fuyun.domain.deliveries import Call
from fuyun.domain.events import Event
from fuyun.drivers.sql.columns import Packed, metadata

deliveries = Table(
    "deliveries", metadata,
    Column("namespace", String(63), nullable=False),
    Column("id", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("name", String(63), nullable=False),
    Column("qualifier", String(63), nullable=False),
    Column("state", String(16), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("max_age_s", Float, nullable=False),
    Column("accepted_s", Float, nullable=False),
    Column("at_s", Float, nullable=False),
    Column("expires_s", Float, nullable=False),
    Column("on_success", Text, nullable=False),
    Column("on_failure", Text, nullable=False),
    Column("hops", Integer, nullable=False),
    Column("trail", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("error", String(64), nullable=False),
    Column("detail", Text, nullable=False),
    Column("invocation", String(64), nullable=False),
    PrimaryKeyConstraint("namespace", "id"),
    Index("deliveries_by_lane", "namespace", "kind", "name", "state", "at_s"),
    Index("deliveries_running", "epoch", sqlite_where=text("state = 'running'"),
          postgresql_where=text("state = 'running'")),
    Index("deliveries_by_trail", "namespace", "trail", sqlite_where=text("trail <> ''"),
          postgresql_where=text("trail <> ''")),
    sqlite_with_rowid=False,
)  # fmt: skip

parcels = Table(
    "parcels", metadata,
    Column("id", String(64), primary_key=True),
    Column("event", Packed(Event)),
    Column("call", Packed(Call)),
    Column("body", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)  # fmt: skip

delivery_keys = Table(
    "delivery_keys", metadata,
    Column("namespace", String(63), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("name", String(63), nullable=False),
    Column("key", Text, nullable=False),
    Column("delivery", String(64), nullable=False),
    Column("expires_s", Float, nullable=False, index=True),
    PrimaryKeyConstraint("namespace", "kind", "name", "key"),
    sqlite_with_rowid=False,
)  # fmt: skip

epochs = Table(
    "epochs", metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Integer, nullable=False),
)  # fmt: skip

triggers = Table(
    "triggers", metadata,
    Column("namespace", String(63), nullable=False),
    Column("function", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("paused", Boolean(create_constraint=False), nullable=False),
    Column("position_s", Float, nullable=False),
    PrimaryKeyConstraint("namespace", "function", "name"),
    sqlite_with_rowid=False,
)  # fmt: skip
