"""`ports.streams.GroupStore` in SQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select, update

from fuyun.domain.errors import BadRequest, Conflict, NotFound
from fuyun.domain.streams import Cursor, Position
from fuyun.domain.tenants import AuditEntry
from fuyun.drivers.sql import streaming
from fuyun.drivers.sql.journal import log
from fuyun.drivers.sql.sqlite import Database
from fuyun.drivers.sql.streaming import cursors, partitions
from fuyun.drivers.streams.places import get_partition, offset_of


class SqlGroups:
    """Cursors in the table of that name."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def claim(
        self, namespace: str, name: str, group: str, partition: int, owner: str, start: Position, now_s: float
    ) -> Cursor:
        """See `ports.streams.GroupStore.claim`."""

        def work(connection: Connection) -> Cursor:
            place = get_partition(connection, namespace, name, partition)
            which = _of(place.id, group)
            taken = update(cursors).where(which).values(epoch=cursors.c.epoch + 1, owner=owner)
            if connection.execute(taken).rowcount == 0:
                offset = offset_of(connection, place, start)
                values = {"offset": offset, "epoch": 1, "owner": owner, "committed_s": now_s}
                connection.execute(insert(cursors).values(partition=place.id, grp=group, **values))
            return _cursor(connection.execute(select(cursors).where(which)).one(), partition)

        return await self._db.write(work)

    async def commit(
        self, namespace: str, name: str, group: str, partition: int, epoch: int, offset: int, now_s: float
    ) -> None:
        """See `ports.streams.GroupStore.commit`."""

        def work(connection: Connection) -> None:
            place = get_partition(connection, namespace, name, partition)
            row = connection.execute(select(cursors).where(_of(place.id, group))).one_or_none()
            if row is None:
                raise _absent(name, group)
            if row.epoch != epoch:
                raise Conflict(
                    f"partition {partition} of group {group!r} is at epoch {row.epoch}"
                    + (f", claimed by {row.owner!r}" if row.owner else "") + f"; the commit is of epoch {epoch}",
                    hint="claim it again and go on from its offset", epoch=row.epoch, owner=row.owner,
                )  # fmt: skip
            if not row.offset <= offset <= place.end:
                raise BadRequest(
                    f"offset {offset} is not between the cursor's {row.offset} and the partition's end {place.end}",
                    hint="commit what was read; `reset` goes back", path="offset",
                )  # fmt: skip
            connection.execute(update(cursors).where(_of(place.id, group)).values(offset=offset, committed_s=now_s))

        await self._db.write(work)

    async def reset(
        self, namespace: str, name: str, group: str, to: Position, now_s: float, entry: AuditEntry | None = None
    ) -> list[Cursor]:
        """See `ports.streams.GroupStore.reset`."""

        def work(connection: Connection) -> list[Cursor]:
            id_, _ = streaming.get(connection, namespace, name)
            query = select(partitions).where(partitions.c.stream == id_).order_by(partitions.c.number)
            found = []
            for place in connection.execute(query).all():
                which = _of(place.id, group)
                offset = offset_of(connection, place, to)
                changes: dict[str, Any] = {"offset": offset, "owner": "", "committed_s": now_s}
                moved = update(cursors).where(which).values(epoch=cursors.c.epoch + 1, **changes)
                if connection.execute(moved).rowcount == 0:
                    connection.execute(insert(cursors).values(partition=place.id, grp=group, epoch=1, **changes))
                found.append(_cursor(connection.execute(select(cursors).where(which)).one(), place.number))
            log(connection, entry)
            return found

        return await self._db.write(work)

    async def list_cursors(self, namespace: str, name: str, group: str = "") -> list[tuple[str, Cursor]]:
        """See `ports.streams.GroupStore.list_cursors`."""

        def work(connection: Connection) -> list[tuple[str, Cursor]]:
            id_, _ = streaming.get(connection, namespace, name)
            query = (
                select(cursors, partitions.c.number)
                .join(partitions, partitions.c.id == cursors.c.partition)
                .where(partitions.c.stream == id_)
                .order_by(cursors.c.grp, partitions.c.number)
            )
            if group:
                query = query.where(cursors.c.grp == group)
            return [(row.grp, _cursor(row, row.number)) for row in connection.execute(query)]

        return await self._db.read(work)

    async def delete_group(self, namespace: str, name: str, group: str, entry: AuditEntry | None = None) -> None:
        """See `ports.streams.GroupStore.delete_group`."""

        def work(connection: Connection) -> None:
            id_, _ = streaming.get(connection, namespace, name)
            own = select(partitions.c.id).where(partitions.c.stream == id_)
            gone = delete(cursors).where(cursors.c.partition.in_(own), cursors.c.grp == group)
            if connection.execute(gone).rowcount == 0:
                raise _absent(name, group)
            log(connection, entry)

        await self._db.write(work)


def _of(partition: int, group: str) -> ColumnElement[bool]:
    return (cursors.c.partition == partition) & (cursors.c.grp == group)


def _cursor(row: Row[Any], number: int) -> Cursor:
    return Cursor(partition=number, offset=row.offset, epoch=row.epoch, owner=row.owner, committed_s=row.committed_s)


def _absent(name: str, group: str) -> NotFound:
    return NotFound(
        f"stream {name!r} has no group {group!r}", hint="a group is there once it has claimed a partition",
        kind="group", name=group,
    )  # fmt: skip
