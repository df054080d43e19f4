"""`ports.endpoints.EndpointStore` in SQL: an endpoint is a row of JSON by namespace and name."""

from __future__ import annotations

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    ForeignKeyConstraint,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    insert,
    select,
)
from sqlalchemy import delete as delete_from

from fuyun.domain.endpoints import HttpEndpoint
from fuyun.domain.errors import NotFound
from fuyun.domain.tenants import AuditEntry
from fuyun.drivers.sql.columns import metadata
from fuyun.drivers.sql.journal import log
from fuyun.drivers.sql.sqlite import Database

endpoints = Table(
    "endpoints", metadata,
    Column("namespace", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("endpoint", Text, nullable=False),
    PrimaryKeyConstraint("namespace", "name"),
    ForeignKeyConstraint(["namespace"], ["namespaces.name"], ondelete="CASCADE"),
)  # fmt: skip
_row = endpoints.c


class SqlEndpoints:
    """In the table of the same name."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def list_endpoints(self) -> list[HttpEndpoint]:
        """See `ports.endpoints.EndpointStore.list_endpoints`."""
        query = select(_row.endpoint).order_by(_row.namespace, _row.name)
        return await self._db.read(
            lambda connection: [msgspec.json.decode(text, type=HttpEndpoint) for (text,) in connection.execute(query)]
        )

    async def put(self, endpoint: HttpEndpoint, entry: AuditEntry | None = None) -> None:
        """See `ports.endpoints.EndpointStore.put`."""
        text = msgspec.json.encode(endpoint).decode()

        def work(connection: Connection) -> None:
            connection.execute(
                delete_from(endpoints).where((_row.namespace == endpoint.namespace) & (_row.name == endpoint.name))
            )
            connection.execute(
                insert(endpoints).values(namespace=endpoint.namespace, name=endpoint.name, endpoint=text)
            )
            log(connection, entry)

        await self._db.write(work)

    async def delete(self, namespace: str, name: str, entry: AuditEntry | None = None) -> None:
        """See `ports.endpoints.EndpointStore.delete`."""
        gone = delete_from(endpoints).where((_row.namespace == namespace) & (_row.name == name))

        def work(connection: Connection) -> None:
            if not connection.execute(gone).rowcount:
                raise NotFound(
                    f"there is no endpoint {name!r}", hint="`fuyun endpoint list`", kind="endpoint", name=name
                )
            log(connection, entry)

        await self._db.write(work)
