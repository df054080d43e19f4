"""Tables of tables, for every SQL dialect. Keys are stored as `domain.tables.encode_key` writes them."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from fuyun.domain.tables import TableSpec
from fuyun.drivers.sql.columns import Packed, metadata

tables = Table(
    "tables", metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("namespace", String(63), ForeignKey("namespaces.name", ondelete="CASCADE"), nullable=False),
    Column("name", String(63), nullable=False),
    Column("spec", Packed(TableSpec), nullable=False),
    Column("created_s", Float, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("changes", Integer, nullable=False),  # the newest version of an item
    Column("items", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    UniqueConstraint("namespace", "name"),
    sqlite_autoincrement=True,
)  # fmt: skip

items = Table(
    "table_items", metadata,
    Column("table", Integer, nullable=False),
    Column("pk", Text, nullable=False),
    Column("sk", Text, nullable=False),  # "" without a sort key
    Column("version", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("expires_s", Float),
    Column("item", LargeBinary, nullable=False),  # JSON
    PrimaryKeyConstraint("table", "pk", "sk"),
    Index("table_items_expiry", "expires_s"),
    sqlite_with_rowid=False,
)  # fmt: skip

entries = Table(
    "table_entries", metadata,
    Column("table", Integer, nullable=False),
    Column("index", String(63), nullable=False),
    Column("first", Text, nullable=False),
    Column("second", Text, nullable=False),
    Column("pk", Text, nullable=False),
    Column("sk", Text, nullable=False),
    PrimaryKeyConstraint("table", "index", "first", "second", "pk", "sk"),
    Index("table_entries_item", "table", "pk", "sk"),
    sqlite_with_rowid=False,
)  # fmt: skip
