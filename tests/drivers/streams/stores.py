"""The SQLite stores of streams in a folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fuyun.drivers.catalog.tenants import SqlTenants
from fuyun.drivers.sql.sqlite import Database
from fuyun.drivers.streams.groups import SqlGroups
from fuyun.drivers.streams.store import SqlStreams
from fuyun.testing.contracts.streams import StreamStores


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[StreamStores]:
    """The stores over `fuyun.db` in the folder."""
    database = await Database.open(folder / "fuyun.db")
    try:
        yield StreamStores(SqlStreams(database), SqlGroups(database), SqlTenants(database))
    finally:
        await database.close()
