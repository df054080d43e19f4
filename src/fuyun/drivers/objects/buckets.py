"""`ports.objects.BucketStore` in SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from fuyun.domain.errors import Conflict, NotFound, QuotaExceeded
from fuyun.domain.objects import Bucket
from fuyun.domain.tenants import AuditEntry
from fuyun.drivers.objects.counting import bucket_of, drop, get_bucket
from fuyun.drivers.objects.tables import buckets, objects, parts, uploads
from fuyun.drivers.sql.columns import metadata
from fuyun.drivers.sql.journal import log
from fuyun.drivers.sql.sqlite import Database


class SqlBuckets:
    """Buckets in the table of that name."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def create(self, bucket: Bucket, most: int, entry: AuditEntry | None = None) -> None:
        """See `ports.objects.BucketStore.create`."""

        def work(connection: Connection) -> None:
            namespaces = metadata.tables["namespaces"]
            known = select(namespaces.c.name).where(namespaces.c.name == bucket.namespace)
            if connection.execute(known).first() is None:
                raise NotFound(
                    f"there is no namespace {bucket.namespace!r}", hint="create it first", kind="namespace",
                    name=bucket.namespace,
                )  # fmt: skip
            taken = connection.execute(select(buckets.c.namespace).where(buckets.c.name == bucket.name)).scalar()
            if taken is not None:
                own = taken == bucket.namespace
                raise Conflict(
                    f"bucket {bucket.name!r} exists already" + ("" if own else ", in another namespace"),
                    hint="choose another name; names of buckets are unique on the platform", kind="bucket",
                    name=bucket.name, reason="BucketAlreadyOwnedByYou" if own else "BucketAlreadyExists",
                )  # fmt: skip
            mine = select(func.count()).select_from(buckets).where(buckets.c.namespace == bucket.namespace)
            if (held := int(connection.execute(mine).scalar_one())) >= most:
                raise QuotaExceeded(
                    f"namespace {bucket.namespace!r} has {held} buckets; its quota is {most}",
                    hint="delete one, or ask the operator for more: buckets", quota="buckets", limit=most,
                    reason="TooManyBuckets",
                )  # fmt: skip
            connection.execute(insert(buckets).values(_values(bucket)))
            log(connection, entry)

        await self._db.write(work)

    async def find(self, name: str) -> Bucket | None:
        """See `ports.objects.BucketStore.find`."""

        def work(connection: Connection) -> Bucket | None:
            row = connection.execute(select(buckets).where(buckets.c.name == name)).mappings().one_or_none()
            return None if row is None else bucket_of(row)

        return await self._db.read(work)

    async def list_buckets(self, namespace: str, after: str = "", limit: int = 1000) -> list[Bucket]:
        """See `ports.objects.BucketStore.list_buckets`."""
        query = select(buckets).where(buckets.c.name > after).order_by(buckets.c.name).limit(limit)
        if namespace != "*":
            query = query.where(buckets.c.namespace == namespace)
        return await self._db.read(lambda connection: [bucket_of(row) for row in connection.execute(query).mappings()])

    async def change(self, name: str, change: Callable[[Bucket], Bucket], entry: AuditEntry | None = None) -> Bucket:
        """See `ports.objects.BucketStore.change`."""

        def work(connection: Connection) -> Bucket:
            made = change(get_bucket(connection, name))
            connection.execute(
                update(buckets).where(buckets.c.name == name).values(versioning=made.versioning, rules=made.rules)
            )
            log(connection, entry)
            return made

        return await self._db.write(work)

    async def delete(self, name: str, entry: AuditEntry | None = None) -> None:
        """See `ports.objects.BucketStore.delete`."""

        def work(connection: Connection) -> None:
            get_bucket(connection, name)
            if connection.execute(select(objects.c.key).where(objects.c.bucket == name).limit(1)).first() is not None:
                raise Conflict(
                    f"bucket {name!r} still holds objects", hint="delete every version of its objects first",
                    kind="bucket", name=name, reason="BucketNotEmpty",
                )  # fmt: skip
            under_way = select(uploads.c.id).where(uploads.c.bucket == name)
            held = connection.execute(select(parts.c.content).where(parts.c.upload.in_(under_way))).scalars().all()
            drop(connection, (content.digest for content in held))
            connection.execute(delete(uploads).where(uploads.c.bucket == name))
            connection.execute(delete(buckets).where(buckets.c.name == name))
            log(connection, entry)

        await self._db.write(work)


def _values(bucket: Bucket) -> dict[str, Any]:
    return {field: getattr(bucket, field) for field in Bucket.__struct_fields__}
