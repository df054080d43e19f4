"""The tables of buses. A change needs a migration, which a test compares with them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, Column, Float, Index, Integer, PrimaryKeyConstraint, String, Table, Text
from sqlalchemy.schema import ForeignKeyConstraint

from fuyun.domain.events import Event
from fuyun.domain.transforms import Transform
from fuyun.drivers.sql.columns import Packed, metadata

buses = Table(
    "buses", metadata,
    Column("namespace", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("archive_s", Float, nullable=False),
    Column("description", Text, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("revision", Integer, nullable=False),
    PrimaryKeyConstraint("namespace", "name"),
    ForeignKeyConstraint(["namespace"], ["namespaces.name"], ondelete="CASCADE"),
)  # fmt: skip

rules = Table(
    "bus_rules", metadata,
    Column("namespace", String(63), nullable=False),
    Column("bus", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("filter", Packed(dict[str, Any]), nullable=False),
    Column("target", String(200), nullable=False),
    Column("transform", Packed(Transform)),
    Column("enabled", Boolean, nullable=False),
    Column("description", Text, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("revision", Integer, nullable=False),
    PrimaryKeyConstraint("namespace", "bus", "name"),
    ForeignKeyConstraint(["namespace", "bus"], ["buses.namespace", "buses.name"], ondelete="CASCADE"),
)  # fmt: skip

archive = Table(
    "bus_archive", metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("namespace", String(63), nullable=False),
    Column("bus", String(63), nullable=False),
    Column("at_s", Float, nullable=False),
    Column("event", Packed(Event), nullable=False),
    ForeignKeyConstraint(["namespace", "bus"], ["buses.namespace", "buses.name"], ondelete="CASCADE"),
    Index("ix_bus_archive", "namespace", "bus", "number"),
    sqlite_autoincrement=True,
)  # fmt: skip

types = Table(
    "bus_types", metadata,
    Column("namespace", String(63), nullable=False),
    Column("bus", String(63), nullable=False),
    Column("type", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("first_s", Float, nullable=False),
    Column("last_s", Float, nullable=False),
    Column("sample", Packed(Event), nullable=False),
    PrimaryKeyConstraint("namespace", "bus", "type"),
    ForeignKeyConstraint(["namespace", "bus"], ["buses.namespace", "buses.name"], ondelete="CASCADE"),
)  # fmt: skip

replays = Table(
    "bus_replays", metadata,
    Column("id", String(32), primary_key=True),
    Column("namespace", String(63), nullable=False),
    Column("bus", String(63), nullable=False),
    Column("since_s", Float, nullable=False),
    Column("until_s", Float, nullable=False),
    Column("target", String(200), nullable=False),
    Column("filter", Packed(dict[str, Any]), nullable=False),
    Column("state", String(16), nullable=False),
    Column("sent", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("created_s", Float, nullable=False),
    ForeignKeyConstraint(["namespace", "bus"], ["buses.namespace", "buses.name"], ondelete="CASCADE"),
    Index("ix_bus_replays", "namespace", "bus", "id"),
)  # fmt: skip
