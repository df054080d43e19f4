"""What outlives a stream's retention, or its stream, is removed from the front of partitions, a piece at a time."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, select, update

from fuyun.base import faults
from fuyun.domain.streams import StreamSpec
from fuyun.drivers.sql.streaming import cursors, keys, partitions, producers, records, snapshots, streams, versions

#: A producer that has been silent this long is forgotten: what it sends again then is news.
PRODUCER_S = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class Due:
    """A partition with something to remove. `spec` None: its stream is gone."""

    partition: int
    stream: int
    spec: StreamSpec | None


def due(connection: Connection, now_s: float) -> list[Due]:
    """What `trim` is to look at."""
    first = records.alias()
    oldest = (partitions.c.id == first.c.partition) & (partitions.c.start == first.c.offset)
    columns = (partitions.c.id, partitions.c.stream, partitions.c.bytes, streams.c.spec, first.c.at_s)
    joined = partitions.outerjoin(streams, streams.c.id == partitions.c.stream).outerjoin(first, oldest)
    found = []
    for row in connection.execute(select(*columns).select_from(joined)):
        spec: StreamSpec | None = row.spec
        if spec is None:
            found.append(Due(row.id, row.stream, None))
        elif row.at_s is not None and (
            (spec.retention_s and row.at_s < now_s - spec.retention_s)
            or (spec.retention_bytes and row.bytes > spec.retention_bytes)
        ):
            found.append(Due(row.id, row.stream, spec))
    old = select(producers.c.stream).where(producers.c.at_s < now_s - PRODUCER_S).limit(1)
    if connection.execute(old).first() is not None:
        found.append(Due(0, 0, None))
    return found


def trim(connection: Connection, found: list[Due], now_s: float, most: int) -> int:
    """Remove up to `most` records in the transaction of `connection`; how many, at least 1 while something is left."""
    removed = 0
    for one in found:
        if removed >= most:
            break
        if one.partition == 0:
            connection.execute(delete(producers).where(producers.c.at_s < now_s - PRODUCER_S))
        else:
            removed += _shorten(connection, one, now_s, most - removed)
    faults.point("streams.trimmed")
    return removed


def _shorten(connection: Connection, one: Due, now_s: float, most: int) -> int:
    row = connection.execute(select(partitions).where(partitions.c.id == one.partition)).one_or_none()
    if row is None:
        return 0
    query = select(records.c.offset, records.c.size, records.c.at_s, records.c.key, records.c.version)
    front = query.where(records.c.partition == one.partition).order_by(records.c.offset).limit(most)
    kept, gone = int(row.bytes), []
    for record in connection.execute(front):
        spec = one.spec
        old = spec is None or (spec.retention_s and record.at_s < now_s - spec.retention_s)
        if not old and not (spec is not None and spec.retention_bytes and kept > spec.retention_bytes):
            break
        kept -= record.size
        gone.append(record)
    if gone:
        end = gone[-1].offset + 1
        connection.execute(delete(records).where(records.c.partition == one.partition, records.c.offset < end))
        connection.execute(update(partitions).where(partitions.c.id == one.partition).values(start=end, bytes=kept))
        less = int(row.bytes) - kept
        connection.execute(update(streams).where(streams.c.id == one.stream).values(bytes=streams.c.bytes - less))
        numbered = [{"k": record.key, "v": record.version} for record in gone if record.version]
        if numbered:
            which = (versions.c.partition == one.partition) & (versions.c.key == bindparam("k"))
            connection.execute(delete(versions).where(which, versions.c.version == bindparam("v")), numbered)
    if one.spec is None and len(gone) < most:
        return max(1, len(gone) + _forget(connection, one, most - len(gone)))
    return len(gone)


def _forget(connection: Connection, one: Due, most: int) -> int:
    """Remove up to `most` rows of what a stream that is gone had besides its records, and then the partition."""
    for table, column in ((keys, keys.c.key), (snapshots, snapshots.c.key), (producers, producers.c.producer)):
        some = select(column).where(table.c.stream == one.stream).limit(most)
        if gone := connection.execute(delete(table).where(table.c.stream == one.stream, column.in_(some))).rowcount:
            return gone
    connection.execute(delete(cursors).where(cursors.c.partition == one.partition))
    connection.execute(delete(partitions).where(partitions.c.id == one.partition))
    return 0
