"""The SQLite stores of objects in a folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import select

from fuyun.domain.events import Event
from fuyun.drivers.catalog.tenants import SqlTenants
from fuyun.drivers.objects.buckets import SqlBuckets
from fuyun.drivers.objects.objects import SqlObjects
from fuyun.drivers.objects.uploads import SqlUploads
from fuyun.drivers.sql.outbox import outbox
from fuyun.drivers.sql.sqlite import Database
from fuyun.testing.contracts.objects import ObjectStores


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[ObjectStores]:
    """The stores over `fuyun.db` in the folder."""
    database = await Database.open(folder / "fuyun.db")

    async def told() -> list[tuple[str, str, str, Event]]:
        query = select(outbox.c.namespace, outbox.c.kind, outbox.c.origin, outbox.c.event).order_by(outbox.c.number)
        return await database.read(lambda connection: [tuple(row) for row in connection.execute(query)])

    try:
        yield ObjectStores(SqlBuckets(database), SqlObjects(database), SqlUploads(database), SqlTenants(database), told)
    finally:
        await database.close()
