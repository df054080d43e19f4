"""The audit log's side of every write: a change and its entry are one transaction."""

from __future__ import annotations

from sqlalchemy import Connection, insert

from fuyun.domain.tenants import AuditEntry
from fuyun.drivers.catalog.tables import audit


def log(connection: Connection, entry: AuditEntry | None) -> None:
    """Append the entry, if there is one, in the transaction of `connection`."""
    if entry is not None:
        values = {field: getattr(entry, field) for field in AuditEntry.__struct_fields__}
        connection.execute(insert(audit).values(values))
