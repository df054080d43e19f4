"""`ports.objects.ObjectStore` in SQL."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from msgspec.structs import replace
from sqlalchemy import Connection, delete, select, update

from fuyun.domain.objects import (
    DELETED,
    NULL_VERSION,
    Bucket,
    Details,
    Listing,
    Object,
    Selection,
)  # fmt: skip
from fuyun.drivers.objects import rows
from fuyun.drivers.objects.counting import count, get_bucket
from fuyun.drivers.objects.listing import Page, page_of
from fuyun.drivers.objects.tables import contents, objects
from fuyun.drivers.sql.sqlite import Database
from fuyun.ports.objects import Write


class SqlObjects:
    """Objects in the table of that name, small bodies in `contents`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def put(self, new: Object, write: Write) -> Object:
        """See `ports.objects.ObjectStore.put`."""
        return await self._db.write(
            lambda connection: rows.add(connection, get_bucket(connection, new.bucket), new, write)
        )

    async def get(self, bucket: str, key: str, version: str = "") -> Object:
        """See `ports.objects.ObjectStore.get`."""

        def work(connection: Connection) -> Object:
            get_bucket(connection, bucket)
            return rows.get(connection, bucket, key, version)

        return await self._db.read(work)

    async def list_objects(self, bucket: str, selection: Selection) -> Listing:
        """See `ports.objects.ObjectStore.list_objects`."""

        def work(connection: Connection) -> Listing:
            get_bucket(connection, bucket)
            query = select(objects).where(objects.c.bucket == bucket, objects.c.latest, ~objects.c.marker)
            key, second = objects.c.key, objects.c.sequence
            return _listing(page_of(connection, query, key, second, True, selection, lambda: None))

        return await self._db.read(work)

    async def list_versions(self, bucket: str, selection: Selection) -> Listing:
        """See `ports.objects.ObjectStore.list_versions`."""

        def work(connection: Connection) -> Listing:
            get_bucket(connection, bucket)
            query = select(objects).where(objects.c.bucket == bucket)

            def sequence() -> int | None:
                if not selection.after_version:
                    return None
                return rows.place(connection, bucket, selection.after, selection.after_version)

            key, second = objects.c.key, objects.c.sequence
            return _listing(page_of(connection, query, key, second, True, selection, sequence))

        return await self._db.read(work)

    async def delete(self, bucket: str, key: str, version: str, now_s: float, write: Write) -> Object | None:
        """See `ports.objects.ObjectStore.delete`."""

        def work(connection: Connection) -> Object | None:
            holder = get_bucket(connection, bucket)
            if version:
                return _delete_version(connection, holder, key, version, write)
            if not holder.versioning:
                return _delete_version(connection, holder, key, NULL_VERSION, write)
            marker = Object(bucket=bucket, key=key, created_s=now_s, marker=True)
            return rows.add(connection, holder, marker, dataclasses.replace(write, most_bytes=-1))

        return await self._db.write(work)

    async def describe(self, bucket: str, key: str, version: str, change: Callable[[Details], Details]) -> Object:
        """See `ports.objects.ObjectStore.describe`."""

        def work(connection: Connection) -> Object:
            get_bucket(connection, bucket)
            found = rows.get(connection, bucket, key, version)
            made = replace(found, details=change(found.details))
            where = rows.of_key(bucket, key) & (objects.c.version == found.version)
            connection.execute(update(objects).where(where).values(details=made.details))
            return made

        return await self._db.write(work)

    async def garbage(self, limit: int) -> list[str]:
        """See `ports.objects.ObjectStore.garbage`."""
        query = select(contents.c.digest).where(contents.c.refs == 0).limit(limit)
        return await self._db.read(lambda connection: list(connection.execute(query).scalars()))

    async def forget(self, digests: Sequence[str]) -> frozenset[str]:
        """See `ports.objects.ObjectStore.forget`."""
        gone = delete(contents).where(contents.c.digest.in_(list(digests)), contents.c.refs == 0)
        return await self._db.write(
            lambda connection: frozenset(connection.execute(gone.returning(contents.c.digest)).scalars())
        )

    async def known(self, digests: Sequence[str]) -> frozenset[str]:
        """See `ports.objects.ObjectStore.known`."""
        query = select(contents.c.digest).where(contents.c.digest.in_(list(digests)))
        return await self._db.read(lambda connection: frozenset(connection.execute(query).scalars()))


def _delete_version(connection: Connection, bucket: Bucket, key: str, version: str, write: Write) -> Object | None:
    found = rows.named(connection, bucket.name, key, version)
    if found is None:
        return None
    rows.take(connection, found)
    rows.crown(connection, bucket.name, key)
    count(connection, bucket, -1, -found.found.size_bytes)
    rows.emit_one(connection, bucket, DELETED, found.found, write)
    return found.found


def _listing(page: Page) -> Listing:
    found = tuple(rows.object_of(row) for row in page.rows)
    key, sequence = page.last
    version = found[-1].version if found and sequence != "" else ""
    return Listing(
        objects=found, prefixes=tuple(page.prefixes), more=page.more,
        next_key=key if page.more else "", next_version=version if page.more else "",
    )  # fmt: skip
