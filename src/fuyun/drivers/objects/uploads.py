"""`ports.objects.UploadStore` in SQL."""

from __future__ import annotations

from collections import Counter
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection, delete, insert, select

from fuyun.domain.errors import NotFound
from fuyun.domain.objects import Bucket, Content, Listing, Object, Part, Selection, Upload, absent_upload
from fuyun.drivers.objects import rows
from fuyun.drivers.objects.counting import count, drop, get_bucket, refer
from fuyun.drivers.objects.listing import page_of
from fuyun.drivers.objects.tables import parts, uploads
from fuyun.drivers.sql.sqlite import Database
from fuyun.ports.objects import Write


class SqlUploads:
    """Uploads and their parts in the tables of those names."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def begin(self, upload: Upload) -> None:
        """See `ports.objects.UploadStore.begin`."""

        def work(connection: Connection) -> None:
            get_bucket(connection, upload.bucket)
            values = {field: getattr(upload, field) for field in Upload.__struct_fields__}
            connection.execute(insert(uploads).values(values))

        await self._db.write(work)

    async def get(self, bucket: str, key: str, upload: str) -> Upload:
        """See `ports.objects.UploadStore.get`."""

        def work(connection: Connection) -> Upload:
            get_bucket(connection, bucket)
            found = _find(connection, upload)
            if found is None or (found.bucket, found.key) != (bucket, key):
                raise absent_upload(upload)
            return found

        return await self._db.read(work)

    async def list_uploads(self, bucket: str, selection: Selection) -> tuple[list[Upload], Listing]:
        """See `ports.objects.UploadStore.list_uploads`."""

        def work(connection: Connection) -> tuple[list[Upload], Listing]:
            get_bucket(connection, bucket)
            query = select(uploads).where(uploads.c.bucket == bucket)
            after = selection.after_version or None
            page = page_of(connection, query, uploads.c.key, uploads.c.id, False, selection, lambda: after)
            key, id_ = page.last if page.more else ("", "")
            listing = Listing(prefixes=tuple(page.prefixes), more=page.more, next_key=key, next_version=id_)
            return [_upload_of(row) for row in page.rows], listing

        return await self._db.read(work)

    async def put_part(self, upload: Upload, part: Part, most_bytes: int) -> None:
        """See `ports.objects.UploadStore.put_part`."""

        def work(connection: Connection) -> None:
            bucket = _holder(connection, upload)
            refer(connection, (part.content,), False)
            where = (parts.c.upload == upload.id) & (parts.c.number == part.number)
            before = connection.execute(select(parts.c.content).where(where)).scalar()
            if before is not None:
                drop(connection, (before.digest,))
                connection.execute(delete(parts).where(where))
            values = {field: getattr(part, field) for field in Part.__struct_fields__}
            values["content"] = replace(part.content, body=None)
            connection.execute(insert(parts).values(upload=upload.id, **values))
            grown = part.content.size_bytes - (before.size_bytes if before else 0)
            count(connection, bucket, 0, grown, most_bytes)

        await self._db.write(work)

    async def list_parts(self, upload: str, after: int = 0, limit: int = 1000) -> list[Part]:
        """See `ports.objects.UploadStore.list_parts`."""
        query = select(parts).where(parts.c.upload == upload, parts.c.number > after)
        query = query.order_by(parts.c.number).limit(limit)

        def work(connection: Connection) -> list[Part]:
            fields = Part.__struct_fields__
            return [Part(**{field: row[field] for field in fields}) for row in connection.execute(query).mappings()]

        return await self._db.read(work)

    async def complete(self, upload: Upload, new: Object, write: Write) -> Object:
        """See `ports.objects.UploadStore.complete`."""

        def work(connection: Connection) -> Object:
            bucket = _holder(connection, upload)
            held = _contents(connection, upload.id)
            unchosen = Counter(content.digest for content in held)
            unchosen.subtract(content.digest for content in new.parts)
            if min(unchosen.values(), default=0) < 0:
                raise NotFound(
                    "a part of the upload was replaced while it was completed", hint="list its parts, then try again",
                    kind="part", name=upload.id, reason="InvalidPart",
                )  # fmt: skip
            # What the parts held is counted again as the object's, so that the quota sees no byte twice.
            count(connection, bucket, 0, -sum(content.size_bytes for content in held))
            # So are its references: those of the chosen parts become the object's.
            made = rows.add(connection, bucket, new, write, refer_parts=False)
            drop(connection, unchosen.elements())
            connection.execute(delete(uploads).where(uploads.c.id == upload.id))
            return made

        return await self._db.write(work)

    async def abort(self, upload: Upload) -> None:
        """See `ports.objects.UploadStore.abort`."""

        def work(connection: Connection) -> None:
            bucket = _holder(connection, upload)
            held = _contents(connection, upload.id)
            drop(connection, (content.digest for content in held))
            count(connection, bucket, 0, -sum(content.size_bytes for content in held))
            connection.execute(delete(uploads).where(uploads.c.id == upload.id))

        await self._db.write(work)


def _upload_of(row: Any) -> Upload:
    return Upload(**{field: row[field] for field in Upload.__struct_fields__})


def _find(connection: Connection, upload: str) -> Upload | None:
    row = connection.execute(select(uploads).where(uploads.c.id == upload)).mappings().one_or_none()
    return None if row is None else _upload_of(row)


def _holder(connection: Connection, upload: Upload) -> Bucket:
    """The bucket of an upload that is there."""
    if _find(connection, upload.id) is None:
        raise absent_upload(upload.id)
    return get_bucket(connection, upload.bucket)


def _contents(connection: Connection, upload: str) -> list[Content]:
    return list(connection.execute(select(parts.c.content).where(parts.c.upload == upload)).scalars())
