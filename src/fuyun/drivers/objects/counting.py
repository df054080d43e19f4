"""What every write to buckets shares: references to contents, and what a bucket counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from fuyun.domain.errors import NotFound, QuotaExceeded
from fuyun.domain.objects import Bucket, Content, absent_bucket
from fuyun.drivers.objects.tables import buckets, contents


def bucket_of(row: Any) -> Bucket:
    """A row as a bucket."""
    return Bucket(**row)


def get_bucket(connection: Connection, name: str) -> Bucket:
    """NotFound when absent."""
    row = connection.execute(select(buckets).where(buckets.c.name == name)).mappings().one_or_none()
    if row is None:
        raise absent_bucket(name)
    return bucket_of(row)


def count(connection: Connection, bucket: Bucket, objects: int, size_bytes: int, most_bytes: int = -1) -> None:
    """Add to what the bucket counts. QuotaExceeded when it grows and its namespace has over `most_bytes` then."""
    if size_bytes > 0 and most_bytes >= 0:
        query = select(func.coalesce(func.sum(buckets.c.size_bytes), 0)).where(buckets.c.namespace == bucket.namespace)
        held = int(connection.execute(query).scalar_one())
        if held + size_bytes > most_bytes:
            raise QuotaExceeded(
                f"namespace {bucket.namespace!r} holds {held} of {most_bytes} bytes; {size_bytes} do not fit",
                hint="delete objects, or ask the operator for more: object_bytes", quota="object_bytes",
                limit=most_bytes,
            )  # fmt: skip
    if objects or size_bytes:
        connection.execute(
            update(buckets)
            .where(buckets.c.name == bucket.name)
            .values(objects=buckets.c.objects + objects, size_bytes=buckets.c.size_bytes + size_bytes)
        )


def refer(connection: Connection, named: Iterable[Content], copied: bool) -> None:
    """One more reference to each. NotFound when one that is `copied` is not there."""
    for content in named:
        more = update(contents).where(contents.c.digest == content.digest)
        if copied:
            more = more.where(contents.c.refs > 0)
        values: dict[str, Any] = {"refs": contents.c.refs + 1}
        if content.body is not None:
            values["body"] = content.body
        if connection.execute(more.values(values)).rowcount:
            continue
        if copied:
            raise NotFound(
                f"content {content.digest[:12]} is gone", hint="what it belonged to was deleted or replaced meanwhile",
                kind="content", name=content.digest,
            )  # fmt: skip
        connection.execute(
            insert(contents).values(digest=content.digest, size_bytes=content.size_bytes, refs=1, body=content.body)
        )


def drop(connection: Connection, digests: Iterable[str]) -> None:
    """One reference less to each. A body that nothing names goes at once; a file's digest stays as garbage."""
    for digest in digests:
        where = contents.c.digest == digest
        connection.execute(update(contents).where(where).values(refs=contents.c.refs - 1))
        connection.execute(delete(contents).where(where, contents.c.refs == 0, contents.c.body.is_not(None)))
