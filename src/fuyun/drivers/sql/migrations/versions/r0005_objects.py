"""Buckets, objects and uploads."""

import sqlalchemy as sa
from alembic import op

revision = "r0005"
down_revision = "r0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "buckets",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("created_s", sa.Float, nullable=False),
        sa.Column("region", sa.String(63), nullable=False),
        sa.Column("versioning", sa.String(16), nullable=False),
        sa.Column("rules", sa.Text, nullable=False),
        sa.Column("objects", sa.Integer, nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("name"),
        sa.ForeignKeyConstraint(["namespace"], ["namespaces.name"]),
    )
    op.create_index("ix_buckets_namespace", "buckets", ["namespace"])
    op.create_table(
        "objects",
        sa.Column("bucket", sa.String(63), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("latest", sa.Boolean, nullable=False),
        sa.Column("marker", sa.Boolean, nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("etag", sa.String(80), nullable=False),
        sa.Column("parts", sa.Text, nullable=False),
        sa.Column("part_count", sa.Integer, nullable=False),
        sa.Column("checksum", sa.Text),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("created_s", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("bucket", "key", "sequence"),
        sa.ForeignKeyConstraint(["bucket"], ["buckets.name"]),
    )
    latest = sa.text("latest")
    op.create_index(
        "objects_latest", "objects", ["bucket", "key"], unique=True, sqlite_where=latest, postgresql_where=latest
    )
    op.create_table(
        "contents",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("refs", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary),
        sa.PrimaryKeyConstraint("digest"),
    )
    garbage = sa.text("refs = 0")
    op.create_index("contents_garbage", "contents", ["digest"], sqlite_where=garbage, postgresql_where=garbage)
    _uploads()


def _uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("bucket", sa.String(63), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("algorithm", sa.String(16)),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("created_s", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["bucket"], ["buckets.name"]),
    )
    op.create_index("uploads_by_key", "uploads", ["bucket", "key", "id"])
    op.create_table(
        "parts",
        sa.Column("upload", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("etag", sa.String(80), nullable=False),
        sa.Column("checksum", sa.Text),
        sa.Column("created_s", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("upload", "number"),
        sa.ForeignKeyConstraint(["upload"], ["uploads.id"], ondelete="CASCADE"),
    )
