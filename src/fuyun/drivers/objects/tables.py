"""The tables of objects, for every SQL dialect. A change needs a migration in `drivers/sql/migrations/versions`.

Keys are compared by their bytes (SQLite's BINARY; collation "C" elsewhere), which is the order S3 lists them in.
`contents.refs` counts the versions and parts that name a digest. At 0 it is garbage: the file goes first from here,
then from the disk (`ports.objects.ObjectStore.forget`).
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    text,
)  # fmt: skip

from fuyun.domain.bucketrules import Rules
from fuyun.domain.objects import Checksum, Content, Details
from fuyun.drivers.sql.columns import Packed, metadata

buckets = Table(
    "buckets", metadata,
    Column("name", String(63), primary_key=True),
    Column("namespace", String(63), nullable=False, index=True),
    Column("created_s", Float, nullable=False),
    Column("region", String(63), nullable=False),
    Column("versioning", String(16), nullable=False),
    Column("rules", Packed(Rules), nullable=False),
    Column("objects", Integer, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    ForeignKeyConstraint(["namespace"], ["namespaces.name"]),
)  # fmt: skip

objects = Table(
    "objects", metadata,
    Column("bucket", String(63), nullable=False),
    Column("key", Text, nullable=False),
    Column("sequence", Integer, nullable=False),  # rises with each version of the key
    Column("version", String(32), nullable=False),
    Column("latest", Boolean, nullable=False),
    Column("marker", Boolean, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("etag", String(80), nullable=False),
    Column("parts", Packed(tuple[Content, ...]), nullable=False),
    Column("part_count", Integer, nullable=False),
    Column("checksum", Packed(Checksum)),
    Column("details", Packed(Details), nullable=False),
    Column("created_s", Float, nullable=False),
    PrimaryKeyConstraint("bucket", "key", "sequence"),
    ForeignKeyConstraint(["bucket"], ["buckets.name"]),
    Index("objects_latest", "bucket", "key", unique=True, sqlite_where=text("latest"), postgresql_where=text("latest")),
)  # fmt: skip

contents = Table(
    "contents", metadata,
    Column("digest", String(64), primary_key=True),
    Column("size_bytes", Integer, nullable=False),
    Column("refs", Integer, nullable=False),
    Column("body", LargeBinary),
    Index("contents_garbage", "digest", sqlite_where=text("refs = 0"), postgresql_where=text("refs = 0")),
)  # fmt: skip

uploads = Table(
    "uploads", metadata,
    Column("id", String(32), primary_key=True),
    Column("bucket", String(63), nullable=False),
    Column("key", Text, nullable=False),
    Column("details", Packed(Details), nullable=False),
    Column("algorithm", String(16)),
    Column("kind", String(16), nullable=False),
    Column("created_s", Float, nullable=False),
    ForeignKeyConstraint(["bucket"], ["buckets.name"]),
    Index("uploads_by_key", "bucket", "key", "id"),
)  # fmt: skip

parts = Table(
    "parts", metadata,
    Column("upload", String(32), nullable=False),
    Column("number", Integer, nullable=False),
    Column("content", Packed(Content), nullable=False),
    Column("etag", String(80), nullable=False),
    Column("checksum", Packed(Checksum)),
    Column("created_s", Float, nullable=False),
    PrimaryKeyConstraint("upload", "number"),
    ForeignKeyConstraint(["upload"], ["uploads.id"], ondelete="CASCADE"),
)  # fmt: skip
