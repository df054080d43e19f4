"""Queues and topics."""

import sqlalchemy as sa
from alembic import op

revision = "r0006"
down_revision = "r0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _queues()
    _topics()


def _queues() -> None:
    op.create_table(
        "queues",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("created_s", sa.Float, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("messages", sa.Integer, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["namespace"], ["namespaces.name"], ondelete="CASCADE"),
        sa.UniqueConstraint("namespace", "name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "messages",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("queue", sa.Integer, nullable=False),
        sa.Column("grp", sa.String(128), nullable=False),
        sa.Column("due_s", sa.Float),
        sa.Column("leased", sa.Boolean, nullable=False),
        sa.Column("lease", sa.Integer, nullable=False),
        sa.Column("receives", sa.Integer, nullable=False),
        sa.Column("sent_s", sa.Float, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("origin", sa.String(63), nullable=False),
        sa.Column("event", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.ForeignKeyConstraint(["queue"], ["queues.id"], ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_index("messages_due", "messages", ["queue", "due_s"])
    op.create_index("messages_in_order", "messages", ["queue", "grp", "number"])
    op.create_table(
        "deduplications",
        sa.Column("queue", sa.Integer, nullable=False),
        sa.Column("deduplication", sa.String(128), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("until_s", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("queue", "deduplication"),
        sa.ForeignKeyConstraint(["queue"], ["queues.id"], ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    op.create_index("deduplications_until", "deduplications", ["queue", "until_s"])


def _topics() -> None:
    op.create_table(
        "topics",
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("created_s", sa.Float, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("namespace", "name"),
        sa.ForeignKeyConstraint(["namespace"], ["namespaces.name"], ondelete="CASCADE"),
    )
    op.create_table(
        "subscriptions",
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("topic", sa.String(63), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("created_s", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("namespace", "topic", "name"),
        sa.ForeignKeyConstraint(["namespace", "topic"], ["topics.namespace", "topics.name"], ondelete="CASCADE"),
    )
    op.create_index("subscriptions_target", "subscriptions", ["namespace", "target"])
