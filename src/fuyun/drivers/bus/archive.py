"""`ports.bus.BusArchive` in SQL."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select, update

from fuyun.domain.bus import Archived, Replay, TypeSeen
from fuyun.domain.events import Event
from fuyun.domain.tenants import AuditEntry
from fuyun.drivers.bus.store import get_bus
from fuyun.drivers.bus.tables import archive, buses, replays, types
from fuyun.drivers.sql.journal import log
from fuyun.drivers.sql.outbox import emit
from fuyun.drivers.sql.sqlite import Database

#: Types that one bus remembers; a publisher of made-up names fills no disk.
MOST_TYPES = 1000


class SqlBusArchive:
    """Events in `bus_archive`, `bus_types` and the outbox, replays in `bus_replays`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def publish(self, namespace: str, bus: str, events: Sequence[Event], now_s: float) -> None:
        """See `ports.bus.BusArchive.publish`."""

        def work(connection: Connection) -> None:
            found = get_bus(connection, namespace, bus)
            emit(connection, namespace, "bus", bus, events)
            if found.archive_s > 0:
                rows = [{"namespace": namespace, "bus": bus, "at_s": now_s, "event": event} for event in events]
                connection.execute(insert(archive), rows)
            for event in events:
                _count(connection, namespace, bus, event, now_s)

        if events:
            await self._db.write(work)

    async def read(
        self, namespace: str, bus: str, since_s: float, until_s: float, after: int = 0, limit: int = 100
    ) -> list[Archived]:
        """See `ports.bus.BusArchive.read`."""
        query = (
            select(archive.c.number, archive.c.at_s, archive.c.event)
            .where(archive.c.namespace == namespace, archive.c.bus == bus, archive.c.number > after)
            .where(archive.c.at_s >= since_s, archive.c.at_s < until_s)
            .order_by(archive.c.number)
            .limit(limit)
        )
        return await self._db.read(lambda connection: [Archived(**row) for row in connection.execute(query).mappings()])

    async def prune(self, now_s: float, limit: int = 1000) -> int:
        """See `ports.bus.BusArchive.prune`."""
        old = (
            select(archive.c.number)
            .join(buses, (buses.c.namespace == archive.c.namespace) & (buses.c.name == archive.c.bus))
            .where(archive.c.at_s < now_s - buses.c.archive_s)
            .limit(limit)
        )

        def work(connection: Connection) -> int:
            return connection.execute(delete(archive).where(archive.c.number.in_(old))).rowcount

        return await self._db.write(work)

    async def list_types(self, namespace: str, bus: str, after: str = "", limit: int = 100) -> list[TypeSeen]:
        """See `ports.bus.BusArchive.list_types`."""
        query = (
            select(types.c.type, types.c.count, types.c.first_s, types.c.last_s, types.c.sample)
            .where(types.c.namespace == namespace, types.c.bus == bus, types.c.type > after)
            .order_by(types.c.type)
            .limit(limit)
        )

        def work(connection: Connection) -> list[TypeSeen]:
            get_bus(connection, namespace, bus)
            return [TypeSeen(**row) for row in connection.execute(query).mappings()]

        return await self._db.read(work)

    async def put_replay(self, replay: Replay, entry: AuditEntry | None = None) -> None:
        """See `ports.bus.BusArchive.put_replay`."""

        def work(connection: Connection) -> None:
            _put(connection, replay)
            log(connection, entry)

        await self._db.write(work)

    async def list_replays(self, namespace: str, bus: str) -> list[Replay]:
        """See `ports.bus.BusArchive.list_replays`."""
        query = select(replays).order_by(replays.c.id.desc())

        def work(connection: Connection) -> list[Replay]:
            if namespace == "*":
                found = query.where(replays.c.state == "running")
            else:
                get_bus(connection, namespace, bus)
                found = query.where(replays.c.namespace == namespace, replays.c.bus == bus).limit(100)
            return [Replay(**row) for row in connection.execute(found).mappings()]

        return await self._db.read(work)

    async def repeat(self, replay: Replay, events: Sequence[Event]) -> None:
        """See `ports.bus.BusArchive.repeat`."""

        def work(connection: Connection) -> None:
            if _put(connection, replay):
                emit(connection, replay.namespace, "bus", replay.bus, events)

        await self._db.write(work)


def _put(connection: Connection, replay: Replay) -> bool:
    """Write it down; False, with nothing changed, when it was stopped."""
    values = {field: getattr(replay, field) for field in Replay.__struct_fields__}
    state = connection.execute(select(replays.c.state).where(replays.c.id == replay.id)).scalar_one_or_none()
    if state == "stopped":
        return False
    if state is None:
        get_bus(connection, replay.namespace, replay.bus)
        connection.execute(insert(replays).values(values))
    else:
        connection.execute(update(replays).where(replays.c.id == replay.id).values(values))
    return True


def _count(connection: Connection, namespace: str, bus: str, event: Event, now_s: float) -> None:
    where = (types.c.namespace == namespace) & (types.c.bus == bus)
    change = update(types).where(where, types.c.type == event.type)
    seen = connection.execute(change.values(count=types.c.count + 1, last_s=now_s, sample=event)).rowcount
    if not seen and len(connection.execute(select(types.c.type).where(where).limit(MOST_TYPES)).all()) < MOST_TYPES:
        values = {"namespace": namespace, "bus": bus, "type": event.type, "count": 1}
        connection.execute(insert(types).values(**values, first_s=now_s, last_s=now_s, sample=event))
