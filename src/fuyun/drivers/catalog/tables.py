"""The catalog's tables, for every SQL dialect. A change needs a migration in `drivers/sql/migrations/versions`, which
a test compares with them.

Times are seconds since the epoch; structures are JSON. `counters` outlives what it counts: a number, once given, is
never given again, not even after its function or alias was deleted.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Float,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)  # fmt: skip

from fuyun.domain.functions import Artifact, FunctionSpec, Weight
from fuyun.domain.tenants import Quotas
from fuyun.drivers.sql.columns import Packed, metadata

namespaces = Table(
    "namespaces", metadata,
    Column("name", String(63), primary_key=True),
    Column("quotas", Packed(Quotas), nullable=False),
    Column("created_s", Float, nullable=False),
    Column("revision", Integer, nullable=False),
)  # fmt: skip

counters = Table(
    "counters", metadata,
    Column("namespace", String(63), nullable=False),
    Column("function", String(63), nullable=False),
    Column("kind", String(80), nullable=False),  # "version", "draft", "alias:NAME"; "layer" of a layer
    Column("value", Integer, nullable=False),
    PrimaryKeyConstraint("namespace", "function", "kind"),
    sqlite_with_rowid=False,
)  # fmt: skip

functions = Table(
    "functions", metadata,
    Column("namespace", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("last_version", Integer, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("updated_s", Float, nullable=False),
    PrimaryKeyConstraint("namespace", "name"),
    ForeignKeyConstraint(["namespace"], ["namespaces.name"]),
)  # fmt: skip

versions = Table(
    "versions", metadata,
    Column("namespace", String(63), nullable=False),
    Column("function", String(63), nullable=False),
    Column("number", Integer, nullable=False),  # 0 is the draft
    Column("spec", Packed(FunctionSpec), nullable=False),
    Column("code", Packed(Artifact), nullable=False),
    Column("layers", Packed(tuple[Artifact, ...]), nullable=False),
    Column("created_s", Float, nullable=False),
    Column("description", Text, nullable=False),
    Column("revision", Integer, nullable=False),  # of the draft; of a number: the draft's revision it froze
    PrimaryKeyConstraint("namespace", "function", "number"),
    ForeignKeyConstraint(["namespace", "function"], ["functions.namespace", "functions.name"], ondelete="CASCADE"),
)  # fmt: skip

aliases = Table(
    "aliases", metadata,
    Column("namespace", String(63), nullable=False),
    Column("function", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("weights", Packed(tuple[Weight, ...]), nullable=False),
    Column("previous", Packed(tuple[Weight, ...]), nullable=False),
    Column("sticky_header", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("updated_s", Float, nullable=False),
    PrimaryKeyConstraint("namespace", "function", "name"),
    ForeignKeyConstraint(["namespace", "function"], ["functions.namespace", "functions.name"], ondelete="CASCADE"),
)  # fmt: skip

layers = Table(
    "layers", metadata,
    Column("namespace", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("number", Integer, nullable=False),
    Column("content", Packed(Artifact), nullable=False),
    Column("created_s", Float, nullable=False),
    Column("description", Text, nullable=False),
    PrimaryKeyConstraint("namespace", "name", "number"),
    ForeignKeyConstraint(["namespace"], ["namespaces.name"], ondelete="CASCADE"),
)  # fmt: skip

keys = Table(
    "keys", metadata,
    Column("id", String(64), primary_key=True),
    Column("namespace", String(63), nullable=False, index=True),  # "*" is the platform's own
    Column("role", String(32), nullable=False),
    Column("name", Text, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("expires_s", Float),
    Column("token_sha256", LargeBinary(32), nullable=False, unique=True),
)  # fmt: skip

secrets = Table(
    "secrets", metadata,
    Column("namespace", String(63), nullable=False),
    Column("name", String(255), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    PrimaryKeyConstraint("namespace", "name"),
    ForeignKeyConstraint(["namespace"], ["namespaces.name"], ondelete="CASCADE"),
)  # fmt: skip
