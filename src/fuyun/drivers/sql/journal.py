"""The audit log's side of every write: a change and its entry are one transaction."""

from __future__ import annotations

from sqlalchemy import Column, Connection, Float, String, Table, Text, insert

from fuyun.domain.tenants import AuditEntry
from fuyun.drivers.sql.columns import metadata

audit = Table(
    "audit", metadata,
    Column("id", String(64), primary_key=True),
    Column("at_s", Float, nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("namespace", String(63), nullable=False, index=True),
    Column("action", String(64), nullable=False),
    Column("target", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("detail", Text, nullable=False),
)  # fmt: skip


def log(connection: Connection, entry: AuditEntry | None) -> None:
    """Append the entry, if there is one, in the transaction of `connection`."""
    if entry is not None:
        values = {field: getattr(entry, field) for field in AuditEntry.__struct_fields__}
        connection.execute(insert(audit).values(values))
