"""`ports.streams.StreamStore` in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from fuyun.domain.errors import Conflict, PreconditionFailed, QuotaExceeded
from fuyun.domain.streams import (
    FEED,
    Appended,
    Appending,
    Partition,
    Position,
    Record,
    Slice,
    Snapshot,
    Stream,
    StreamSpec,
    partition_of,
)
from fuyun.domain.tenants import AuditEntry, Quotas
from fuyun.drivers.sql import streaming
from fuyun.drivers.sql.journal import log
from fuyun.drivers.sql.sqlite import Database
from fuyun.drivers.sql.streaming import keys, partitions, producers, records, snapshots, streams, versions
from fuyun.drivers.streams import trimming
from fuyun.drivers.streams.places import get_partition, offset_of


class SqlStreams:
    """Streams in the tables of `drivers.sql.streaming`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def put(
        self,
        namespace: str,
        name: str,
        spec: StreamSpec,
        quotas: Quotas,
        now_s: float,
        *,
        expected_revision: int | None = None,
        entry: AuditEntry | None = None,
    ) -> Stream:
        """See `ports.streams.StreamStore.put`."""

        def work(connection: Connection) -> Stream:
            found = streaming.find(connection, namespace, name)
            revision = 0 if found is None else found[1].revision
            if expected_revision is not None and expected_revision != revision:
                raise PreconditionFailed(
                    f"the stream is at revision {revision}, not {expected_revision}"
                    if revision
                    else "there is no such stream",
                    hint="read it again and decide on what it is now", etag=f'"{revision}"' if revision else "",
                )  # fmt: skip
            if found is None:
                _make(connection, namespace, name, spec, quotas, now_s)
            else:
                _change(connection, *found, spec)
            log(connection, entry)
            return streaming.get(connection, namespace, name)[1]

        return await self._db.write(work)

    async def get(self, namespace: str, name: str) -> tuple[Stream, list[Partition]]:
        """See `ports.streams.StreamStore.get`."""

        def work(connection: Connection) -> tuple[Stream, list[Partition]]:
            id_, stream = streaming.get(connection, namespace, name)
            rows = connection.execute(
                select(partitions).where(partitions.c.stream == id_).order_by(partitions.c.number)
            )
            return stream, [
                Partition(number=row.number, start=row.start, end=row.end, bytes=row.bytes, last_s=row.last_s)
                for row in rows
            ]

        return await self._db.read(work)

    async def list_streams(self, namespace: str, after: str = "", limit: int = 100) -> list[Stream]:
        """See `ports.streams.StreamStore.list_streams`."""
        query = select(streams).where(streams.c.namespace == namespace, streams.c.name > after)
        page = query.order_by(streams.c.name).limit(limit)
        return await self._db.read(lambda connection: [streaming.stream_of(row) for row in connection.execute(page)])

    async def delete(self, namespace: str, name: str, entry: AuditEntry | None = None) -> None:
        """See `ports.streams.StreamStore.delete`."""

        def work(connection: Connection) -> None:
            id_, _ = streaming.get(connection, namespace, name)
            connection.execute(delete(streams).where(streams.c.id == id_))
            log(connection, entry)

        await self._db.write(work)

    async def append(
        self,
        namespace: str,
        name: str,
        records: Sequence[Appending],
        quotas: Quotas,
        now_s: float,
        *,
        producer: str = "",
        sequence: int = 0,
    ) -> list[Appended]:
        """See `ports.streams.StreamStore.append`."""
        adding = sum(len(record.event.data) + len(record.key) for record in records)

        def work(connection: Connection) -> list[Appended]:
            id_, stream = streaming.get(connection, namespace, name)
            if producer and (known := _repeated(connection, id_, producer, sequence)) is not None:
                return known
            streaming.check_room(connection, namespace, adding, quotas)
            made = streaming.append(connection, id_, stream, records, now_s)
            if producer:
                which = (producers.c.stream == id_) & (producers.c.producer == producer)
                connection.execute(delete(producers).where(which))
                values = {"sequence": sequence, "answer": made, "at_s": now_s}
                connection.execute(insert(producers).values(stream=id_, producer=producer, **values))
            return made

        return await self._db.write(work)

    async def read(
        self, namespace: str, name: str, partition: int, at: Position, limit: int = 100, most_bytes: int = 2**20
    ) -> Slice:
        """See `ports.streams.StreamStore.read`."""

        def work(connection: Connection) -> Slice:
            place = get_partition(connection, namespace, name, partition)
            offset = offset_of(connection, place, at)
            query = select(records).where(records.c.partition == place.id, records.c.offset >= offset)
            found: list[Record] = []
            size = 0
            for row in connection.execute(query.order_by(records.c.offset).limit(limit)):
                size += row.size
                if found and size > most_bytes:
                    break
                found.append(_record(row, partition))
            following = found[-1].offset + 1 if found else offset
            return Slice(records=tuple(found), next=following, start=place.start, end=place.end)

        return await self._db.read(work)

    async def read_key(self, namespace: str, name: str, key: str, after: int = 0, limit: int = 100) -> list[Record]:
        """See `ports.streams.StreamStore.read_key`."""

        def work(connection: Connection) -> list[Record]:
            _, stream = streaming.get(connection, namespace, name)
            number = partition_of(key, stream.spec.partitions)
            place = get_partition(connection, namespace, name, number)
            which = (versions.c.partition == place.id) & (versions.c.key == key) & (versions.c.version > after)
            query = (
                select(records)
                .join(versions, (records.c.partition == versions.c.partition) & (records.c.offset == versions.c.offset))
                .where(which)
                .order_by(versions.c.version)
                .limit(limit)
            )
            return [_record(row, number) for row in connection.execute(query)]

        return await self._db.read(work)

    async def put_snapshot(self, namespace: str, name: str, snapshot: Snapshot) -> None:
        """See `ports.streams.StreamStore.put_snapshot`."""

        def work(connection: Connection) -> None:
            id_, _ = streaming.get(connection, namespace, name)
            reached = connection.execute(select(keys.c.version).where(_of(keys, id_, snapshot.key))).scalar() or 0
            kept = connection.execute(select(snapshots.c.version).where(_of(snapshots, id_, snapshot.key))).scalar()
            if not (kept or 0) <= snapshot.version <= reached:
                raise Conflict(
                    f"a snapshot at version {snapshot.version} of key {snapshot.key!r}, which is at {reached}"
                    + (f" and has one at {kept}" if kept else ""),
                    hint="make it of what the key's records are now", key=snapshot.key, found=reached,
                )  # fmt: skip
            connection.execute(delete(snapshots).where(_of(snapshots, id_, snapshot.key)))
            values = {"key": snapshot.key, "version": snapshot.version, "at_s": snapshot.at_s, "data": snapshot.data}
            connection.execute(insert(snapshots).values(stream=id_, **values))

        await self._db.write(work)

    async def find_snapshot(self, namespace: str, name: str, key: str) -> Snapshot | None:
        """See `ports.streams.StreamStore.find_snapshot`."""

        def work(connection: Connection) -> Snapshot | None:
            id_, _ = streaming.get(connection, namespace, name)
            row = connection.execute(select(snapshots).where(_of(snapshots, id_, key))).one_or_none()
            if row is None:
                return None
            return Snapshot(key=row.key, version=row.version, at_s=row.at_s, data=row.data)

        return await self._db.read(work)

    async def trim(self, now_s: float, most: int = 1000) -> int:
        """See `ports.streams.StreamStore.trim`."""
        due = await self._db.read(lambda connection: trimming.due(connection, now_s))
        return await self._db.write(lambda connection: trimming.trim(connection, due, now_s, most)) if due else 0


def _of(table: Any, id_: int, key: str) -> ColumnElement[bool]:
    found: ColumnElement[bool] = (table.c.stream == id_) & (table.c.key == key)
    return found


def _record(row: Row[Any], partition: int) -> Record:
    return Record(
        partition=partition, offset=row.offset, key=row.key, version=row.version, at_s=row.at_s,
        event=streaming.unpack(row.event),
    )  # fmt: skip


def _make(connection: Connection, namespace: str, name: str, spec: StreamSpec, quotas: Quotas, now_s: float) -> None:
    own = streams.c.namespace == namespace
    count = connection.execute(
        select(func.count()).select_from(streams).where(own, ~streams.c.name.startswith(FEED))
    ).scalar_one()
    if count >= quotas.streams:
        raise QuotaExceeded(
            f"namespace {namespace!r} has {count} streams", hint="delete one, or raise the quota", quota="streams",
            limit=quotas.streams,
        )  # fmt: skip
    streaming.create(connection, namespace, name, spec, now_s)


def _change(connection: Connection, id_: int, stream: Stream, spec: StreamSpec) -> None:
    for field in ("partitions", "versioned"):
        old, new = getattr(stream.spec, field), getattr(spec, field)
        if old != new:
            raise Conflict(
                f"{field} of stream {stream.name!r} is {old} and cannot become {new}",
                hint="create another stream and copy the records", path=field,
            )  # fmt: skip
    changed = update(streams).where(streams.c.id == id_).values(spec=spec, revision=streams.c.revision + 1)
    connection.execute(changed)


def _repeated(connection: Connection, id_: int, producer: str, sequence: int) -> list[Appended] | None:
    """What the append was answered with, if it is the producer's newest; None when it is news."""
    query = select(producers.c.sequence, producers.c.answer)
    row = connection.execute(query.where(producers.c.stream == id_, producers.c.producer == producer)).one_or_none()
    if row is None or sequence > row.sequence:
        return None
    if sequence < row.sequence:
        raise Conflict(
            f"producer {producer!r} is at sequence {row.sequence}; {sequence} was sent before",
            hint="count on from there: it was appended then, or given up", producer=producer, found=row.sequence,
        )  # fmt: skip
    answer: list[Appended] = row.answer
    return answer
