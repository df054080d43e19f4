"""`ports.triggers.TriggerStore` in SQL."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.sql.elements import ColumnElement

from fuyun.domain.deliveries import Order
from fuyun.domain.tenants import AuditEntry
from fuyun.drivers.deliveries.accepting import accept
from fuyun.drivers.deliveries.tables import triggers
from fuyun.drivers.sql.journal import log
from fuyun.drivers.sql.sqlite import Database
from fuyun.ports.triggers import TriggerState

_row = triggers.c


def _is(key: tuple[str, str, str]) -> ColumnElement[bool]:
    return (_row.namespace == key[0]) & (_row.function == key[1]) & (_row.name == key[2])


def _add(connection: Connection, key: tuple[str, str, str], paused: bool, position_s: float) -> None:
    row = {"namespace": key[0], "function": key[1], "name": key[2], "paused": paused, "position_s": position_s}
    connection.execute(insert(triggers).values(row))


class SqlTriggers:
    """In the table of the same name."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def list_states(self) -> list[TriggerState]:
        """See `ports.triggers.TriggerStore.list_states`."""
        query = select(triggers).order_by(_row.namespace, _row.function, _row.name)
        return await self._db.read(
            lambda connection: [TriggerState(**row) for row in connection.execute(query).mappings()]
        )

    async def put_paused(
        self, key: tuple[str, str, str], paused: bool, position_s: float, entry: AuditEntry | None = None
    ) -> None:
        """See `ports.triggers.TriggerStore.put_paused`."""

        def work(connection: Connection) -> None:
            if not connection.execute(update(triggers).where(_is(key)).values(paused=paused)).rowcount:
                _add(connection, key, paused, position_s)
            log(connection, entry)

        await self._db.write(work)

    async def fire(self, key: tuple[str, str, str], position_s: float, orders: Sequence[Order], now_s: float) -> bool:
        """See `ports.triggers.TriggerStore.fire`."""

        def work(connection: Connection) -> bool:
            found = connection.execute(select(_row.paused, _row.position_s).where(_is(key))).one_or_none()
            if found is None:
                _add(connection, key, False, position_s)
            elif found.paused or found.position_s >= position_s:
                return False
            else:
                connection.execute(update(triggers).where(_is(key)).values(position_s=position_s))
            accept(connection, orders, now_s)
            return True

        return await self._db.write(work)

    async def forget(self, namespace: str, function: str = "", name: str = "") -> None:
        """See `ports.triggers.TriggerStore.forget`."""
        gone = delete(triggers).where(_row.namespace == namespace)
        if function:
            gone = gone.where(_row.function == function)
        if name:
            gone = gone.where(_row.name == name)
        await self._db.write(lambda connection: connection.execute(gone).rowcount)
