"""Deliveries and the states of triggers."""

import sqlalchemy as sa
from alembic import op

revision = "r0004"
down_revision = "r0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _deliveries()
    _around_them()


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("qualifier", sa.String(63), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("max_age_s", sa.Float, nullable=False),
        sa.Column("accepted_s", sa.Float, nullable=False),
        sa.Column("at_s", sa.Float, nullable=False),
        sa.Column("expires_s", sa.Float, nullable=False),
        sa.Column("on_success", sa.Text, nullable=False),
        sa.Column("on_failure", sa.Text, nullable=False),
        sa.Column("hops", sa.Integer, nullable=False),
        sa.Column("trail", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("error", sa.String(64), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("invocation", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("deliveries_by_lane", "deliveries", ["namespace", "kind", "name", "state", "at_s"])
    running, trails = sa.text("state = 'running'"), sa.text("trail <> ''")
    op.create_index("deliveries_running", "deliveries", ["epoch"], sqlite_where=running, postgresql_where=running)
    op.create_index(
        "deliveries_by_trail", "deliveries", ["namespace", "trail"], sqlite_where=trails, postgresql_where=trails
    )


def _around_them() -> None:
    op.create_table(
        "parcels",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("event", sa.Text),
        sa.Column("call", sa.Text),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "delivery_keys",
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("delivery", sa.String(64), nullable=False),
        sa.Column("expires_s", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("namespace", "kind", "name", "key"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_delivery_keys_expires_s", "delivery_keys", ["expires_s"])
    op.create_table(
        "epochs",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "triggers",
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("function", sa.String(63), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("position_s", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("namespace", "function", "name"),
        sqlite_with_rowid=False,
    )
