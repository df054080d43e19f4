"""Streams, and how far groups have read them."""

import sqlalchemy as sa
from alembic import op

revision = "r0007"
down_revision = "r0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "streams",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("created_s", sa.Float, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("namespace", "name"),
        sa.ForeignKeyConstraint(["namespace"], ["namespaces.name"], ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "stream_partitions",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("stream", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("start", sa.Integer, nullable=False),
        sa.Column("end", sa.Integer, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("last_s", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("stream", "number"),
        sqlite_autoincrement=True,
    )
    _records()
    _readers_and_writers()


def _records() -> None:
    op.create_table(
        "stream_records",
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("at_s", sa.Float, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("event", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("partition", "offset"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "stream_keys",
        sa.Column("stream", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("stream", "key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "stream_versions",
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("offset", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("partition", "key", "version"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "stream_snapshots",
        sa.Column("stream", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("at_s", sa.Float, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("stream", "key"),
        sqlite_with_rowid=False,
    )


def _readers_and_writers() -> None:
    op.create_table(
        "stream_producers",
        sa.Column("stream", sa.Integer, nullable=False),
        sa.Column("producer", sa.Text, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("at_s", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("stream", "producer"),
        sqlite_with_rowid=False,
    )
    op.create_index("stream_producers_at", "stream_producers", ["at_s"])
    op.create_table(
        "stream_cursors",
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("grp", sa.String(256), nullable=False),
        sa.Column("offset", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("committed_s", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("partition", "grp"),
        sqlite_with_rowid=False,
    )
