"""The SQLite stores of tables in a folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fuyun.drivers.catalog.tenants import SqlTenants
from fuyun.drivers.sql.sqlite import Database
from fuyun.drivers.streams.store import SqlStreams
from fuyun.drivers.tables.store import SqlTables
from fuyun.testing.contracts.tables import TableStores


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[TableStores]:
    """The stores over `fuyun.db` in the folder."""
    database = await Database.open(folder / "fuyun.db")
    try:
        yield TableStores(SqlTables(database), SqlStreams(database), SqlTenants(database))
    finally:
        await database.close()
