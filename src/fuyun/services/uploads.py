"""Uploads in parts: begun, filled part by part in any order, completed into one object or aborted."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from fuyun.base import checksums, clock, ids
from fuyun.domain.errors import BadRequest
from fuyun.domain.objects import (
    LEAST_PART_BYTES,
    MOST_OBJECT_BYTES,
    MOST_PARTS,
    Checksum,
    Condition,
    Listing,
    Object,
    Part,
    Selection,
    Upload,
    check_details,
    check_key,
)  # fmt: skip
from fuyun.domain.tenants import Principal
from fuyun.ports.contents import ContentStore
from fuyun.ports.objects import UploadStore, Write
from fuyun.services.objects import Objects
from fuyun.services.receiving import Claims, receive


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A part as the client names it when it completes: its ETag, and its checksum where it gives one."""

    number: int
    etag: str
    checksum: str = ""


class Uploads:
    """One per platform."""

    def __init__(
        self, objects: Objects, store: UploadStore, contents: ContentStore, least_part_bytes: int = LEAST_PART_BYTES
    ) -> None:
        """`least_part_bytes`: of every part but the last."""
        self._least_part_bytes = least_part_bytes
        self._objects = objects
        self._buckets = objects.buckets
        self._store = store
        self._contents = contents

    async def begin(self, principal: Principal, upload: Upload) -> Upload:
        """Begin an upload; its `id` and time are given here. NotFound, Forbidden, BadRequest."""
        self._buckets.access(principal, "write objects", upload.bucket)
        check_key(upload.key)
        check_details(upload.details)
        now_s = clock.wall_s()
        made = Upload(
            id=ids.new_id(now_s), bucket=upload.bucket, key=upload.key, details=upload.details,
            algorithm=upload.algorithm, kind=upload.kind, created_s=now_s,
        )  # fmt: skip
        await self._store.begin(made)
        return made

    async def get(self, principal: Principal, bucket: str, key: str, upload: str) -> Upload:
        """NotFound, Forbidden."""
        self._buckets.access(principal, "read objects", bucket)
        return await self._store.get(bucket, key, upload)

    async def put_part(
        self, principal: Principal, upload: Upload, number: int, body: AsyncIterable[bytes], claims: Claims
    ) -> Part:
        """Add or replace a part. NotFound, Forbidden, BadRequest, QuotaExceeded, StorageFull, what `body` raises."""
        holder = self._buckets.access(principal, "write objects", upload.bucket)
        if not 1 <= number <= MOST_PARTS:
            raise BadRequest(
                f"{number} is no part's number", hint=f"use 1 to {MOST_PARTS}", path="partNumber",
                reason="InvalidArgument",
            )  # fmt: skip
        # A part is never kept in the database: it is read as a piece of its object's file-like whole.
        async with receive(self._contents, body, claims, -1) as received:
            part = Part(
                number=number, content=received.content, etag=received.etag, checksum=received.checksum,
                created_s=clock.wall_s(),
            )  # fmt: skip
            await self._store.put_part(upload, part, self._buckets.quota(holder))
        self._objects.traffic.received_bytes += part.content.size_bytes
        self._objects.on_garbage()
        return part

    async def list_parts(self, upload: Upload, after: int, limit: int) -> tuple[list[Part], bool]:
        """A page of parts by number, and whether there are more."""
        found = await self._store.list_parts(upload.id, after, limit + 1)
        return found[:limit], len(found) > limit

    async def list_uploads(
        self, principal: Principal, bucket: str, selection: Selection
    ) -> tuple[list[Upload], Listing]:
        """A page of uploads by key and id. NotFound, Forbidden."""
        self._buckets.access(principal, "read objects", bucket)
        return await self._store.list_uploads(bucket, selection)

    async def complete(
        self,
        principal: Principal,
        upload: Upload,
        chosen: Sequence[Chosen],
        condition: Condition,
        claimed: str = "",
    ) -> Object:
        """Make the object of the chosen parts; others are dropped. `claimed` is the checksum of the whole as the client
        computed it. NotFound, Forbidden, PreconditionFailed, BadRequest."""
        holder = self._buckets.access(principal, "write objects", upload.bucket)
        parts = _choose({part.number: part for part in await self._store.list_parts(upload.id, 0, MOST_PARTS)}, chosen)
        _check_sizes(parts, self._least_part_bytes)
        checksum = _checksum_of(upload, parts)
        if claimed and (checksum is None or checksum.value.partition("-")[0] != claimed.partition("-")[0]):
            found = checksum.value if checksum else "none"
            raise BadRequest(
                f"the parts have checksum {found}, not {claimed}", hint="upload them again", reason="BadDigest"
            )
        md5 = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in parts), usedforsecurity=False)
        new = Object(
            bucket=upload.bucket, key=upload.key, size_bytes=sum(part.content.size_bytes for part in parts),
            etag=f"{md5.hexdigest()}-{len(parts)}", parts=tuple(part.content for part in parts),
            part_count=len(parts), checksum=checksum, details=replace(upload.details, upload=upload.id),
            created_s=clock.wall_s(),
        )  # fmt: skip
        if new.size_bytes > MOST_OBJECT_BYTES:
            raise BadRequest("the object is over 5 TiB", hint="make several of it", reason="EntityTooLarge")
        write = Write(operation="multipart", most_bytes=self._buckets.quota(holder), condition=condition)
        made = await self._store.complete(upload, new, write)
        self._objects.on_garbage()
        return made

    async def find_completed(self, bucket: str, key: str, upload: str) -> Object | None:
        """What an upload became, as long as that is the newest version of its key; else None."""
        found = await self._objects.find(bucket, key)
        return found if found is not None and found.details.upload == upload else None

    async def abort(self, principal: Principal, upload: Upload) -> None:
        """Drop the upload and its parts. NotFound, Forbidden."""
        self._buckets.access(principal, "write objects", upload.bucket)
        await self._store.abort(upload)
        self._objects.on_garbage()


def _choose(held: dict[int, Part], chosen: Sequence[Chosen]) -> list[Part]:
    numbers = [one.number for one in chosen]
    if not numbers:
        raise BadRequest("no part is named", hint="name each part by number and ETag", reason="MalformedXML")
    if any(first >= second for first, second in itertools.pairwise(numbers)):
        raise BadRequest("the parts are not in rising order", hint="sort them by number", reason="InvalidPartOrder")
    parts: list[Part] = []
    for one in chosen:
        part = held.get(one.number)
        if part is None or part.etag != one.etag:
            what = "was not uploaded" if part is None else f"has ETag {part.etag!r}, not {one.etag!r}"
            raise BadRequest(f"part {one.number} {what}", hint="list the parts", reason="InvalidPart")
        if one.checksum and (part.checksum is None or part.checksum.value != one.checksum):
            raise BadRequest(
                f"part {one.number} has another checksum than {one.checksum}",
                hint="list the parts",
                reason="InvalidPart",
            )
        parts.append(part)
    return parts


def _check_sizes(parts: Sequence[Part], least_bytes: int) -> None:
    for part in parts[:-1]:
        if part.content.size_bytes < least_bytes:
            raise BadRequest(
                f"part {part.number} has {part.content.size_bytes} bytes and is not last: {least_bytes} at least",
                hint="upload larger parts", reason="EntityTooSmall",
            )  # fmt: skip


def _checksum_of(upload: Upload, parts: Sequence[Part]) -> Checksum | None:
    """Of the whole, when every part has one of the upload's algorithm."""
    algorithm = upload.algorithm
    if algorithm is None:
        return None
    values: list[tuple[str, int]] = []
    for part in parts:
        if part.checksum is None or part.checksum.algorithm != algorithm:
            raise BadRequest(
                f"part {part.number} has no {algorithm}", hint=f"upload every part with its {algorithm}",
                reason="InvalidPart",
            )  # fmt: skip
        values.append((part.checksum.value, part.content.size_bytes))
    if upload.kind == "FULL_OBJECT":
        return Checksum(algorithm=algorithm, value=checksums.combined(algorithm, values), kind="FULL_OBJECT")
    value = checksums.composite(algorithm, (one for one, _ in values))
    return Checksum(algorithm=algorithm, value=value, kind="COMPOSITE")
