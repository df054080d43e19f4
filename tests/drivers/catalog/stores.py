"""The SQLite stores of a folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fuyun.drivers.catalog.functions import SqlCatalog
from fuyun.drivers.catalog.layers import SqlLayers
from fuyun.drivers.catalog.tenants import SqlTenants
from fuyun.drivers.sql.sqlite import Database
from fuyun.testing.contracts.catalog import Stores


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Stores]:
    """The stores over `fuyun.db` in the folder."""
    database = await Database.open(folder / "fuyun.db")
    try:
        yield Stores(SqlCatalog(database), SqlTenants(database), SqlLayers(database))
    finally:
        await database.close()
