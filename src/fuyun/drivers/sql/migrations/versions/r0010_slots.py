"""Replication slots at servers of others."""

import sqlalchemy as sa
from alembic import op

revision = "r0010"
down_revision = "r0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "slots", sa.Column("name", sa.String(63), primary_key=True), sa.Column("slot", sa.Text, nullable=False)
    )
