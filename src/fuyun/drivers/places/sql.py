"""`ports.places.PlaceStore` in SQL."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Column, Connection, PrimaryKeyConstraint, String, Table, Text, delete, insert, select
from sqlalchemy.sql.elements import ColumnElement

from fuyun.drivers.sql.columns import metadata
from fuyun.drivers.sql.sqlite import Database
from fuyun.ports.places import Key

places = Table(
    "places", metadata,
    Column("namespace", String(63), nullable=False),
    Column("function", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("place", Text, nullable=False),
    PrimaryKeyConstraint("namespace", "function", "name"),
)  # fmt: skip
_row = places.c


def _is(key: Key) -> ColumnElement[bool]:
    return (_row.namespace == key[0]) & (_row.function == key[1]) & (_row.name == key[2])


class SqlPlaces:
    """In the table of the same name."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def list_places(self) -> dict[Key, Any]:
        """See `ports.places.PlaceStore.list_places`."""
        query = select(_row.namespace, _row.function, _row.name, _row.place)
        return await self._db.read(
            lambda connection: {
                (namespace, function, name): msgspec.json.decode(place)
                for namespace, function, name, place in connection.execute(query)
            }
        )

    async def put(self, key: Key, place: Any) -> None:
        """See `ports.places.PlaceStore.put`."""
        text = msgspec.json.encode(place).decode()

        def work(connection: Connection) -> None:
            connection.execute(delete(places).where(_is(key)))
            values = dict(zip(("namespace", "function", "name", "place"), (*key, text), strict=True))
            connection.execute(insert(places).values(values))

        await self._db.write(work)

    async def forget(self, key: Key) -> None:
        """See `ports.places.PlaceStore.forget`."""
        await self._db.write(lambda connection: connection.execute(delete(places).where(_is(key))).rowcount)
