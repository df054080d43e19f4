"""Tables of queues and topics, for every SQL dialect. Times are seconds since the epoch.

`messages.due_s` is NULL behind another message of the group (`decide.leases`). Order is that of `number`.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from fuyun.domain.queues import QueueSpec
from fuyun.domain.topics import SubscriptionSpec
from fuyun.drivers.sql.columns import Packed, metadata

queues = Table(
    "queues", metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("namespace", String(63), ForeignKey("namespaces.name", ondelete="CASCADE"), nullable=False),
    Column("name", String(63), nullable=False),
    Column("spec", Packed(QueueSpec), nullable=False),
    Column("created_s", Float, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("messages", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    UniqueConstraint("namespace", "name"),
    sqlite_autoincrement=True,
)  # fmt: skip

messages = Table(
    "messages", metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("queue", Integer, ForeignKey("queues.id", ondelete="CASCADE"), nullable=False),
    Column("grp", String(128), nullable=False),  # "" in a queue without order
    Column("due_s", Float),
    Column("leased", Boolean, nullable=False),
    Column("lease", Integer, nullable=False),
    Column("receives", Integer, nullable=False),
    Column("sent_s", Float, nullable=False),
    Column("size", Integer, nullable=False),
    Column("origin", String(63), nullable=False),  # the queue it was given up in
    Column("event", LargeBinary, nullable=False),  # MessagePack of `domain.events.Event`
    Index("messages_due", "queue", "due_s"),
    Index("messages_in_order", "queue", "grp", "number"),
    sqlite_autoincrement=True,
)  # fmt: skip

deduplications = Table(
    "deduplications", metadata,
    Column("queue", Integer, ForeignKey("queues.id", ondelete="CASCADE"), nullable=False),
    Column("deduplication", String(128), nullable=False),
    Column("message", Text, nullable=False),
    Column("until_s", Float, nullable=False),
    PrimaryKeyConstraint("queue", "deduplication"),
    Index("deduplications_until", "queue", "until_s"),
    sqlite_with_rowid=False,
)  # fmt: skip

topics = Table(
    "topics", metadata,
    Column("namespace", String(63), ForeignKey("namespaces.name", ondelete="CASCADE"), nullable=False),
    Column("name", String(63), nullable=False),
    Column("created_s", Float, nullable=False),
    Column("description", Text, nullable=False),
    PrimaryKeyConstraint("namespace", "name"),
)  # fmt: skip

subscriptions = Table(
    "subscriptions", metadata,
    Column("namespace", String(63), nullable=False),
    Column("topic", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("target", Text, nullable=False),  # KIND:NAME[:QUALIFIER]
    Column("spec", Packed(SubscriptionSpec), nullable=False),
    Column("created_s", Float, nullable=False),
    PrimaryKeyConstraint("namespace", "topic", "name"),
    ForeignKeyConstraint(["namespace", "topic"], ["topics.namespace", "topics.name"], ondelete="CASCADE"),
    Index("subscriptions_target", "namespace", "target"),
)  # fmt: skip
