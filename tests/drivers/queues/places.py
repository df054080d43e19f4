"""The SQLite stores of a folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fuyun.drivers.catalog.tenants import SqlTenants
from fuyun.drivers.queues.store import SqlQueues
from fuyun.drivers.queues.topics import SqlTopics
from fuyun.drivers.sql.sqlite import Database
from fuyun.testing.contracts.queues import Places


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Places]:
    """The stores over `fuyun.db` in the folder."""
    database = await Database.open(folder / "fuyun.db")
    try:
        yield places_of(database)
    finally:
        await database.close()


def places_of(database: Database) -> Places:
    """The stores over an open database."""
    return Places(SqlQueues(database), SqlTopics(database), SqlTenants(database))
