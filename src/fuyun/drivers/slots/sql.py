"""`ports.changes.SlotStore` in SQL: a slot is one row of JSON by its name."""

from __future__ import annotations

import msgspec
from sqlalchemy import Column, Connection, String, Table, Text, delete, insert, select

from fuyun.domain.postgres import Slot
from fuyun.drivers.sql.columns import metadata
from fuyun.drivers.sql.sqlite import Database

slots = Table(
    "slots", metadata,
    Column("name", String(63), primary_key=True),
    Column("slot", Text, nullable=False),
)  # fmt: skip


class SqlSlots:
    """In the table of the same name."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def list_slots(self) -> list[Slot]:
        """See `ports.changes.SlotStore.list_slots`."""
        query = select(slots.c.slot).order_by(slots.c.name)
        return await self._db.read(
            lambda connection: [msgspec.json.decode(text, type=Slot) for (text,) in connection.execute(query)]
        )

    async def put(self, slot: Slot) -> None:
        """See `ports.changes.SlotStore.put`."""

        def work(connection: Connection) -> None:
            connection.execute(delete(slots).where(slots.c.name == slot.name))
            connection.execute(insert(slots).values(name=slot.name, slot=msgspec.json.encode(slot).decode()))

        await self._db.write(work)

    async def forget(self, name: str) -> None:
        """See `ports.changes.SlotStore.forget`."""
        gone = delete(slots).where(slots.c.name == name)
        await self._db.write(lambda connection: connection.execute(gone).rowcount)
