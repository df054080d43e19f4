"""Streams as drivers write them: their tables, and appending in the transaction of what a record tells of.

A partition's rows are clustered by offset (no row ids): appending goes to the end of a B-tree, reading is its range.
What belongs to a stream that is gone is removed in pieces by `drivers.streams`: ids are never given again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    func,
    insert,
    select,
    update,
)

from fuyun.domain.errors import Conflict, NotFound, QuotaExceeded
from fuyun.domain.events import Event
from fuyun.domain.streams import Appended, Appending, Stream, StreamSpec, partition_of
from fuyun.domain.tenants import Quotas
from fuyun.drivers.sql.columns import Packed, metadata

streams = Table(
    "streams", metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("namespace", String(63), ForeignKey("namespaces.name", ondelete="CASCADE"), nullable=False),
    Column("name", String(80), nullable=False),
    Column("spec", Packed(StreamSpec), nullable=False),
    Column("created_s", Float, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    UniqueConstraint("namespace", "name"),
    sqlite_autoincrement=True,
)  # fmt: skip

partitions = Table(
    "stream_partitions", metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("stream", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("start", Integer, nullable=False),
    Column("end", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("last_s", Float, nullable=False),
    UniqueConstraint("stream", "number"),
    sqlite_autoincrement=True,
)  # fmt: skip

records = Table(
    "stream_records", metadata,
    Column("partition", Integer, nullable=False),
    Column("offset", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("at_s", Float, nullable=False),
    Column("size", Integer, nullable=False),
    Column("event", LargeBinary, nullable=False),  # see `pack`
    PrimaryKeyConstraint("partition", "offset"),
    sqlite_with_rowid=False,
)  # fmt: skip

keys = Table(
    "stream_keys", metadata,
    Column("stream", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("version", Integer, nullable=False),
    PrimaryKeyConstraint("stream", "key"),
    sqlite_with_rowid=False,
)  # fmt: skip

versions = Table(
    "stream_versions", metadata,
    Column("partition", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("offset", Integer, nullable=False),
    PrimaryKeyConstraint("partition", "key", "version"),
    sqlite_with_rowid=False,
)  # fmt: skip

snapshots = Table(
    "stream_snapshots", metadata,
    Column("stream", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("at_s", Float, nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("stream", "key"),
    sqlite_with_rowid=False,
)  # fmt: skip

producers = Table(
    "stream_producers", metadata,
    Column("stream", Integer, nullable=False),
    Column("producer", Text, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("answer", Packed(list[Appended]), nullable=False),
    Column("at_s", Float, nullable=False),
    PrimaryKeyConstraint("stream", "producer"),
    Index("stream_producers_at", "at_s"),
    sqlite_with_rowid=False,
)  # fmt: skip

cursors = Table(
    "stream_cursors", metadata,
    Column("partition", Integer, nullable=False),
    Column("grp", String(256), nullable=False),
    Column("offset", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("owner", Text, nullable=False),
    Column("committed_s", Float, nullable=False),
    PrimaryKeyConstraint("partition", "grp"),
    sqlite_with_rowid=False,
)  # fmt: skip

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[Any, ...]).decode

_insert = insert(records)
_advance = (
    update(partitions)
    .where(partitions.c.id == bindparam("of"))
    .values(end=bindparam("to"), bytes=partitions.c.bytes + bindparam("added"), last_s=bindparam("at"))
)
_grow = update(streams).where(streams.c.id == bindparam("of")).values(bytes=streams.c.bytes + bindparam("added"))


def pack(event: Event) -> bytes:
    """An event as it is stored: the values of its fields in order, as MessagePack. A field may join at the end."""
    return _encode(msgspec.structs.astuple(event))


def unpack(data: bytes) -> Event:
    """The event again."""
    return Event(**dict(zip(Event.__struct_fields__, _decode(data))))


def find(connection: Connection, namespace: str, name: str) -> tuple[int, Stream] | None:
    """The stream with its id."""
    where = (streams.c.namespace == namespace) & (streams.c.name == name)
    row = connection.execute(select(streams).where(where)).one_or_none()
    return None if row is None else (row.id, stream_of(row))


def get(connection: Connection, namespace: str, name: str) -> tuple[int, Stream]:
    """The stream with its id. NotFound."""
    found = find(connection, namespace, name)
    if found is None:
        raise NotFound(
            f"there is no stream {name!r} in namespace {namespace!r}",
            hint="list the streams, or create it", kind="stream", name=name,
        )  # fmt: skip
    return found


def stream_of(row: Any) -> Stream:
    """A row of `streams` as what it stands for."""
    return Stream(
        namespace=row.namespace, name=row.name, spec=row.spec, created_s=row.created_s, revision=row.revision,
        bytes=row.bytes,
    )  # fmt: skip


def create(connection: Connection, namespace: str, name: str, spec: StreamSpec, now_s: float) -> None:
    """A new stream with its partitions; whoever calls has made sure that it may be."""
    values = {"namespace": namespace, "name": name, "spec": spec, "created_s": now_s, "revision": 1, "bytes": 0}
    made = connection.execute(insert(streams).values(values)).inserted_primary_key
    assert made is not None
    empty = {"stream": made[0], "start": 0, "end": 0, "bytes": 0, "last_s": 0.0}
    connection.execute(insert(partitions), [{**empty, "number": number} for number in range(spec.partitions)])


def append(
    connection: Connection, id_: int, stream: Stream, appending: Sequence[Appending], now_s: float
) -> list[Appended]:
    """Append in the transaction of `connection`, all or (with the transaction) none. Conflict for a version."""
    count = stream.spec.partitions
    numbers = [
        one.partition if one.partition is not None else partition_of(one.key or one.event.id, count)
        for one in appending
    ]
    wanted = select(partitions).where(partitions.c.stream == id_, partitions.c.number.in_(set(numbers)))
    rows = {row.number: row for row in connection.execute(wanted)}
    at_s = {number: max(now_s, row.last_s) for number, row in rows.items()}
    ends = {number: row.end for number, row in rows.items()}
    sizes = dict.fromkeys(rows, 0)
    counted = _count(connection, id_, appending) if stream.spec.versioned else [0] * len(appending)
    made, values = [], []
    for number, version, one in zip(numbers, counted, appending, strict=True):
        packed = pack(one.event)
        size = len(packed) + len(one.key)
        values.append(
            {"partition": rows[number].id, "offset": ends[number], "key": one.key, "version": version,
             "at_s": at_s[number], "size": size, "event": packed}
        )  # fmt: skip
        made.append(Appended(partition=number, offset=ends[number], version=version))
        ends[number] += 1
        sizes[number] += size
    connection.execute(_insert, values)
    if stream.spec.versioned:
        placed = [{name: value[name] for name in ("partition", "key", "version", "offset")} for value in values]
        connection.execute(insert(versions), placed)
    connection.execute(
        _advance,
        [{"of": row.id, "to": ends[n], "added": sizes[n], "at": at_s[n]} for n, row in rows.items()],
    )
    connection.execute(_grow, {"of": id_, "added": sum(sizes.values())})
    return made


def _count(connection: Connection, id_: int, appending: Sequence[Appending]) -> list[int]:
    """The version of each record; keeps what the keys are at from now on."""
    wanted = {one.key for one in appending}
    query = select(keys.c.key, keys.c.version).where(keys.c.stream == id_, keys.c.key.in_(wanted))
    at = {row.key: row.version for row in connection.execute(query)}
    known = set(at)
    counted = []
    for one in appending:
        found = at.get(one.key, 0)
        if one.expected is not None and one.expected != found:
            raise Conflict(
                f"key {one.key!r} is at version {found}, not {one.expected}",
                hint="read what was appended since, decide on it, and append again",
                key=one.key, expected=one.expected, found=found,
            )  # fmt: skip
        at[one.key] = found + 1
        counted.append(found + 1)
    moved = [{"of": id_, "named": key, "to": at[key]} for key in at.keys() & known]
    if moved:
        where = (keys.c.stream == bindparam("of")) & (keys.c.key == bindparam("named"))
        connection.execute(update(keys).where(where).values(version=bindparam("to")), moved)
    fresh = [{"stream": id_, "key": key, "version": at[key]} for key in at.keys() - known]
    if fresh:
        connection.execute(insert(keys), fresh)
    return counted


def check_room(connection: Connection, namespace: str, adding: int, quotas: Quotas) -> None:
    """QuotaExceeded when `adding` bytes more than the namespace's streams keep is too much."""
    held = connection.execute(
        select(func.coalesce(func.sum(streams.c.bytes), 0)).where(streams.c.namespace == namespace)
    ).scalar_one()
    if held + adding > quotas.stream_bytes:
        raise QuotaExceeded(
            f"streams of namespace {namespace!r} keep {held} bytes; {adding} more are over its quota",
            hint="shorten retention, delete a stream, or raise the quota", quota="stream_bytes",
            limit=quotas.stream_bytes,
        )  # fmt: skip
