"""Versions of objects as rows, and the one way a version is added or taken away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace
from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from fuyun.base import clock, ids
from fuyun.domain.errors import PreconditionFailed
from fuyun.domain.objects import (
    CREATED,
    DELETED,
    NULL_VERSION,
    Bucket,
    Condition,
    Object,
    absent_object,
    event_of,
)  # fmt: skip
from fuyun.drivers.objects.counting import count, drop, refer
from fuyun.drivers.objects.tables import contents, objects
from fuyun.drivers.sql.outbox import emit
from fuyun.ports.objects import Write

_FIELDS = Object.__struct_fields__
#: Columns of an object, without `sequence`.
COLUMNS = tuple(objects.c[field] for field in _FIELDS)


@dataclass(frozen=True)
class Version:
    """A version and its place among those of its key."""

    found: Object
    sequence: int


def object_of(row: Any) -> Object:
    """A row of `COLUMNS` as an object."""
    return Object(**{field: row[field] for field in _FIELDS})


def of_key(bucket: str, key: str) -> ColumnElement[bool]:
    """Rows of one key."""
    return (objects.c.bucket == bucket) & (objects.c.key == key)


def newest(connection: Connection, bucket: str, key: str) -> Version | None:
    """The newest version, marker or not."""
    query = select(objects).where(of_key(bucket, key)).order_by(objects.c.sequence.desc()).limit(1)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else Version(object_of(row), row["sequence"])


def named(connection: Connection, bucket: str, key: str, version: str) -> Version | None:
    """The version of that name."""
    query = select(objects).where(of_key(bucket, key), objects.c.version == version)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else Version(object_of(row), row["sequence"])


def place(connection: Connection, bucket: str, key: str, version: str) -> int:
    """The sequence of a version, or the place where it was: whoever lists deletes what a page showed before asking for
    the next one. Ids of versions rise; `null` may have been anywhere: what might be older comes again."""
    found = named(connection, bucket, key, version)
    if found is not None:
        return found.sequence
    older = (objects.c.version < version) | (objects.c.version == NULL_VERSION)
    last = select(func.max(objects.c.sequence)).where(of_key(bucket, key), older)
    return int(connection.execute(last).scalar() or 0) + 1


def get(connection: Connection, bucket: str, key: str, version: str) -> Object:
    """See `ports.objects.ObjectStore.get`, of a bucket that is there."""
    found = named(connection, bucket, key, version) if version else newest(connection, bucket, key)
    if found is None:
        raise absent_object(bucket, key, version)
    if found.found.marker and not version:
        absent = absent_object(bucket, key)
        absent.fields["marker"] = found.found.version
        raise absent
    return with_body(connection, found.found)


def with_body(connection: Connection, found: Object) -> Object:
    """The object with the body of its content, where that is in the store."""
    if len(found.parts) != 1 or not found.parts[0].size_bytes:
        return found
    (content,) = found.parts
    body = connection.execute(select(contents.c.body).where(contents.c.digest == content.digest)).scalar()
    return found if body is None else replace(found, parts=(replace(content, body=body),))


def check(condition: Condition, bucket: str, key: str, last: Version | None) -> None:
    """PreconditionFailed, or NotFound where `if_match` finds no object."""
    present = last is not None and not last.found.marker
    if condition.if_none_match and present:
        raise PreconditionFailed(
            f"{bucket}/{key} exists already",
            hint="read it, or write without If-None-Match",
            condition="If-None-Match",
            reason="PreconditionFailed",
        )
    if condition.if_match:
        if last is None or not present:
            raise absent_object(bucket, key)
        if condition.if_match not in ("*", last.found.etag):
            raise PreconditionFailed(
                f"{bucket}/{key} has ETag {last.found.etag!r} now, not {condition.if_match!r}",
                hint="read it again, then try again", etag=last.found.etag, condition="If-Match",
                reason="PreconditionFailed",
            )  # fmt: skip


def add(connection: Connection, bucket: Bucket, new: Object, write: Write, refer_parts: bool = True) -> Object:
    """Make `new` the newest version of its key, with its event. Its references may be there already."""
    last = newest(connection, bucket.name, new.key)
    check(write.condition, bucket.name, new.key, last)
    if refer_parts:
        refer(connection, new.parts, write.copied)
    made = _add(connection, bucket, new, last, write)
    emit_one(connection, bucket, DELETED if made.marker else CREATED, made, write)
    return made


def _add(connection: Connection, bucket: Bucket, new: Object, last: Version | None, write: Write) -> Object:
    version = ids.new_id(new.created_s) if bucket.versioning == "Enabled" else NULL_VERSION
    made = replace(new, version=version, latest=True)
    gone = None
    if version == NULL_VERSION:
        gone = last if last and last.found.version == NULL_VERSION else None
        if gone is None and bucket.versioning:
            gone = named(connection, bucket.name, new.key, NULL_VERSION)
    if gone is not None:
        take(connection, gone)
    if last is not None and last is not gone:
        where = of_key(bucket.name, new.key) & (objects.c.sequence == last.sequence)
        connection.execute(update(objects).where(where).values(latest=False))
    values = {field: getattr(made, field) for field in _FIELDS}
    values["parts"] = tuple(replace(content, body=None) for content in made.parts)
    connection.execute(insert(objects).values(sequence=last.sequence + 1 if last else 1, **values))
    grown = made.size_bytes - (gone.found.size_bytes if gone else 0)
    count(connection, bucket, 0 if gone else 1, grown, write.most_bytes)
    return made


def take(connection: Connection, version: Version) -> None:
    """Remove a version's row and its references. What the bucket counts is the caller's."""
    where = of_key(version.found.bucket, version.found.key) & (objects.c.sequence == version.sequence)
    connection.execute(delete(objects).where(where))
    drop(connection, (content.digest for content in version.found.parts))


def crown(connection: Connection, bucket: str, key: str) -> None:
    """Make what is now the newest version the latest."""
    last = newest(connection, bucket, key)
    if last is not None and not last.found.latest:
        where = of_key(bucket, key) & (objects.c.sequence == last.sequence)
        connection.execute(update(objects).where(where).values(latest=True))


def emit_one(connection: Connection, bucket: Bucket, kind: str, found: Object, write: Write) -> None:
    """Put what happened to an object into the outbox."""
    now_s = clock.wall_s()
    event = event_of(ids.new_id(now_s), kind, bucket.namespace, found, write.operation, now_s)
    event = replace(event, hops=write.hops, trail=write.trail)
    emit(connection, bucket.namespace, "bucket", bucket.name, [event])
