"""The SQLite stores of a folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import select

from fuyun.domain.events import Event
from fuyun.drivers.deliveries.sql import SqlDeliveries
from fuyun.drivers.deliveries.triggers import SqlTriggers
from fuyun.drivers.sql.journal import audit
from fuyun.drivers.sql.outbox import emit
from fuyun.drivers.sql.sqlite import Database
from fuyun.testing.contracts.deliveries import DeliveryStores


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[DeliveryStores]:
    """The stores over `fuyun.db` in the folder."""
    database = await Database.open(folder / "fuyun.db")

    async def post(event: Event) -> None:
        await database.write(lambda connection: emit(connection, "default", "bucket", "photos", [event]))

    async def audited() -> list[str]:
        query = select(audit.c.action).order_by(audit.c.id)
        return await database.read(lambda connection: list(connection.execute(query).scalars()))

    store = SqlDeliveries(database)
    try:
        yield DeliveryStores(store, store, SqlTriggers(database), post, audited)
    finally:
        await database.close()
