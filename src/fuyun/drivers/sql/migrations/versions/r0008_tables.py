"""Tables, their items and indexes."""

import sqlalchemy as sa
from alembic import op

revision = "r0008"
down_revision = "r0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tables",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("created_s", sa.Float, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("changes", sa.Integer, nullable=False),
        sa.Column("items", sa.Integer, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("namespace", "name"),
        sa.ForeignKeyConstraint(["namespace"], ["namespaces.name"], ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "table_items",
        sa.Column("table", sa.Integer, nullable=False),
        sa.Column("pk", sa.Text, nullable=False),
        sa.Column("sk", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("expires_s", sa.Float),
        sa.Column("item", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("table", "pk", "sk"),
        sqlite_with_rowid=False,
    )
    op.create_index("table_items_expiry", "table_items", ["expires_s"])
    op.create_table(
        "table_entries",
        sa.Column("table", sa.Integer, nullable=False),
        sa.Column("index", sa.String(63), nullable=False),
        sa.Column("first", sa.Text, nullable=False),
        sa.Column("second", sa.Text, nullable=False),
        sa.Column("pk", sa.Text, nullable=False),
        sa.Column("sk", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("table", "index", "first", "second", "pk", "sk"),
        sqlite_with_rowid=False,
    )
    op.create_index("table_entries_item", "table_entries", ["table", "pk", "sk"])
