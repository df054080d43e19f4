"""Buses."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "r0009"
down_revision = "r0008"
branch_labels = None
depends_on = None


def _of_bus() -> tuple[sa.Column[Any], sa.Column[Any], sa.ForeignKeyConstraint]:
    return (
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("bus", sa.String(63), nullable=False),
        sa.ForeignKeyConstraint(["namespace", "bus"], ["buses.namespace", "buses.name"], ondelete="CASCADE"),
    )


def upgrade() -> None:
    op.create_table(
        "buses",
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("archive_s", sa.Float, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("created_s", sa.Float, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("namespace", "name"),
        sa.ForeignKeyConstraint(["namespace"], ["namespaces.name"], ondelete="CASCADE"),
    )
    op.create_table(
        "bus_rules",
        *_of_bus(),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("filter", sa.Text, nullable=False),
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("transform", sa.Text),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("created_s", sa.Float, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("namespace", "bus", "name"),
    )
    op.create_table(
        "bus_archive",
        sa.Column("number", sa.Integer, nullable=False),
        *_of_bus(),
        sa.Column("at_s", sa.Float, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_bus_archive", "bus_archive", ["namespace", "bus", "number"])
    op.create_table(
        "bus_types",
        *_of_bus(),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("first_s", sa.Float, nullable=False),
        sa.Column("last_s", sa.Float, nullable=False),
        sa.Column("sample", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("namespace", "bus", "type"),
    )
    op.create_table(
        "bus_replays",
        sa.Column("id", sa.String(32), nullable=False),
        *_of_bus(),
        sa.Column("since_s", sa.Float, nullable=False),
        sa.Column("until_s", sa.Float, nullable=False),
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("filter", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("sent", sa.Integer, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("created_s", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_bus_replays", "bus_replays", ["namespace", "bus", "id"])
