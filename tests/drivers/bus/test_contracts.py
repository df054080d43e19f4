"""The SQLite driver keeps the contract of buses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from sqlalchemy import select

from fuyun.drivers.bus.archive import SqlBusArchive
from fuyun.drivers.bus.store import SqlBuses
from fuyun.drivers.catalog.tenants import SqlTenants
from fuyun.drivers.sql.outbox import outbox
from fuyun.drivers.sql.sqlite import Database
from fuyun.testing.contracts.bus import BusStoreContract, BusStores


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[BusStores]:
    """The stores over `fuyun.db` in the folder."""
    database = await Database.open(folder / "fuyun.db")

    async def posted() -> list[tuple[str, str, str, str]]:
        rows = await database.read(
            lambda connection: connection.execute(select(outbox).order_by(outbox.c.number)).all()
        )
        return [(row.namespace, row.kind, row.origin, row.event.id) for row in rows]

    try:
        yield BusStores(SqlBuses(database), SqlBusArchive(database), SqlTenants(database), posted)
    finally:
        await database.close()


class TestSqliteBuses(BusStoreContract):
    def open(self, folder: Path) -> AbstractAsyncContextManager[BusStores]:
        return opened(folder)
