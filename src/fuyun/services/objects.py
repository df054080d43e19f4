"""Objects: written, read, copied, listed and deleted, for whoever may.

A write is durable, visible and told (`fuyun.object.created`, `fuyun.object.deleted`) in one transaction; a content is
on the disk before, and held until then, so that nobody collects it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from dataclasses import asdict, dataclass, field
from typing import BinaryIO

from msgspec.structs import replace

from fuyun.base import clock
from fuyun.base.checksums import Check
from fuyun.domain.errors import BadRequest, NotFound, QuotaExceeded
from fuyun.domain.objects import (
    ANYTHING,
    NO_DETAILS,
    Algorithm,
    Bucket,
    Checksum,
    Condition,
    Details,
    Listing,
    Object,
    Selection,
    check_details,
    check_key,
)  # fmt: skip
from fuyun.domain.tenants import Principal
from fuyun.ports.contents import ContentStore
from fuyun.ports.objects import ObjectStore, Write, contents_of
from fuyun.services.buckets import Buckets
from fuyun.services.gauges import S3Traffic
from fuyun.services.receiving import NO_CLAIMS, Claims, receive

#: Bytes read from a file at once, in a thread.
READ_BYTES = 256 * 1024
#: A body that says it is larger is held against the quota before it is read.
_ASK_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """An object to write: what is claimed of its body, its details, what must hold. `size_bytes` as declared, or -1."""

    details: Details = NO_DETAILS
    claims: Claims = NO_CLAIMS
    condition: Condition = ANYTHING
    size_bytes: int = -1


@dataclass(frozen=True, slots=True)
class Stretch:
    """`size_bytes` bytes of an open file from `start` on."""

    file: BinaryIO
    start: int
    size_bytes: int


@dataclass(slots=True)
class Traffic:
    """Since the start: what was asked, by operation, and the bytes that came and went."""

    operations: dict[str, int] = field(default_factory=dict)
    received_bytes: int = 0
    sent_bytes: int = 0

    def gauge(self) -> S3Traffic:
        """For `/metrics`."""
        return S3Traffic(**asdict(self))


class Objects:
    """One per platform. `on_garbage` is called when a write may have left contents that nothing names."""

    def __init__(self, buckets: Buckets, store: ObjectStore, contents: ContentStore) -> None:
        self.buckets = buckets
        self.traffic = Traffic()
        self.on_garbage: Callable[[], None] = lambda: None
        self._store = store
        self._contents = contents

    async def put(self, principal: Principal, bucket: str, key: str, body: AsyncIterable[bytes], put: Put) -> Object:
        """Write an object of the bytes of `body`. NotFound, Forbidden, BadRequest, PreconditionFailed, QuotaExceeded,
        StorageFull, and what `body` raises: nothing is left of it then."""
        holder = self.buckets.access(principal, "write objects", bucket)
        check_key(key)
        check_details(put.details)
        await self.check_room(holder, put.size_bytes)
        async with receive(self._contents, self._counted(body), put.claims) as received:
            new = Object(
                bucket=bucket, key=key, size_bytes=received.content.size_bytes, etag=received.etag,
                parts=(received.content,), checksum=received.checksum, details=put.details, created_s=clock.wall_s(),
            )  # fmt: skip
            write = _write(principal, "put", self.buckets.quota(holder), put.condition)
            made = await self._store.put(new, write)
        self.on_garbage()
        return made

    async def get(self, principal: Principal | None, bucket: str, key: str, version: str = "") -> Object:
        """An object with its small body, if that is what it has; see `read`. NotFound, Forbidden."""
        self.buckets.access(principal, "read objects", bucket)
        return await self._store.get(bucket, key, version)

    async def stretches(self, found: Object, start: int, end: int) -> AsyncGenerator[bytes | Stretch, None]:
        """As `read`, but of files not what is in them: they are open until the next one is asked for."""
        position = 0
        for content in found.parts:
            first, last = max(start - position, 0), min(end - position, content.size_bytes)
            position += content.size_bytes
            if first >= last:
                continue
            self.traffic.sent_bytes += last - first
            if content.body is not None:
                yield content.body[first:last]
                continue
            file = await self._contents.open(content)
            try:
                yield Stretch(file, first, last - first)
            finally:
                file.close()

    async def read(self, found: Object, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Its bytes from `start` up to `end`. Raises before the first piece when they are gone: the object was replaced
        or deleted since it was looked up."""
        position = 0
        for content in found.parts:
            first, last = max(start - position, 0), min(end - position, content.size_bytes)
            position += content.size_bytes
            if first >= last:
                continue
            if content.body is not None:
                self.traffic.sent_bytes += last - first
                yield content.body[first:last]
                continue
            file = await self._contents.open(content)
            try:
                await asyncio.to_thread(file.seek, first)
                while first < last:
                    piece = await asyncio.to_thread(file.read, min(READ_BYTES, last - first))
                    if not piece:
                        raise NotFound(
                            f"content {content.digest[:12]} is cut short", kind="content", name=content.digest
                        )
                    first += len(piece)
                    self.traffic.sent_bytes += len(piece)
                    yield piece
            finally:
                file.close()

    async def find(self, bucket: str, key: str) -> Object | None:
        """The newest version, or None; who asks was checked."""
        try:
            return await self._store.get(bucket, key)
        except NotFound:
            return None

    async def copy(
        self,
        principal: Principal,
        source: Object,
        bucket: str,
        key: str,
        details: Details | None,
        condition: Condition,
        algorithm: Algorithm | None = None,
    ) -> Object:
        """Write an object of another's contents without reading them, unless a checksum is asked for that the source
        does not have; `details` None keeps the source's. As `put`; NotFound too when the source was replaced
        meanwhile."""
        holder = self.buckets.access(principal, "write objects", bucket)
        check_key(key)
        kept = details is None
        new = replace(
            source, bucket=bucket, key=key, created_s=clock.wall_s(),
            details=replace(source.details if details is None else check_details(details), upload=""),
            parts=tuple(replace(content, body=None) for content in source.parts),
        )  # fmt: skip
        if kept and (source.bucket, source.key) == (bucket, key) and source.latest:
            raise BadRequest(
                f"{bucket}/{key} would be copied to itself unchanged", hint="change its metadata, or copy elsewhere",
                reason="InvalidRequest",
            )  # fmt: skip
        if algorithm is not None and (source.checksum is None or source.checksum.algorithm != algorithm):
            check = Check(algorithm)
            async for piece in self.read(source, 0, source.size_bytes):
                await asyncio.to_thread(check.update, piece)
            new = replace(new, checksum=Checksum(algorithm=algorithm, value=check.value))
        write = _write(principal, "copy", self.buckets.quota(holder), condition, copied=True)
        made = await self._store.put(new, write)
        self.on_garbage()
        return made

    async def list_objects(self, principal: Principal, bucket: str, selection: Selection) -> Listing:
        """A page of keys. NotFound, Forbidden."""
        self.buckets.access(principal, "read objects", bucket)
        return await self._store.list_objects(bucket, selection)

    async def list_versions(self, principal: Principal, bucket: str, selection: Selection) -> Listing:
        """A page of versions. NotFound, Forbidden."""
        self.buckets.access(principal, "read objects", bucket)
        return await self._store.list_versions(bucket, selection)

    async def delete(self, principal: Principal, bucket: str, key: str, version: str = "") -> Object | None:
        """Delete an object or one version of it; what went, or the marker that came. NotFound (bucket), Forbidden."""
        self.buckets.access(principal, "write objects", bucket)
        gone = await self._store.delete(bucket, check_key(key), version, clock.wall_s(), _write(principal, "delete"))
        if gone is not None and contents_of(gone):
            self.on_garbage()
        return gone

    async def set_tags(self, principal: Principal, bucket: str, key: str, version: str, tags: dict[str, str]) -> Object:
        """Replace an object's tags. NotFound, Forbidden, BadRequest."""
        self.buckets.access(principal, "write objects", bucket)
        check_details(Details(tags=tags))
        return await self._store.describe(bucket, key, version, lambda details: replace(details, tags=tags))

    async def check_room(self, holder: Bucket, size_bytes: int) -> None:
        """QuotaExceeded when a body of `size_bytes` cannot fit into its namespace: before it is read."""
        limit = self.buckets.quota(holder)
        if size_bytes > _ASK_BYTES and size_bytes > limit:
            raise QuotaExceeded(
                f"{size_bytes} bytes are over what buckets of namespace {holder.namespace!r} may hold: {limit}",
                hint="ask the operator for more: object_bytes", quota="object_bytes", limit=limit,
            )  # fmt: skip

    async def _counted(self, body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        async for piece in body:
            self.traffic.received_bytes += len(piece)
            yield piece


def _write(
    principal: Principal, operation: str, most_bytes: int = -1, condition: Condition = ANYTHING, copied: bool = False
) -> Write:
    """How `principal` writes: what a function writes follows from its invocation."""
    return Write(
        operation=operation, most_bytes=most_bytes, condition=condition, copied=copied,
        hops=principal.hops, trail=principal.trail,
    )  # fmt: skip


def part_of(found: Object, number: int) -> tuple[int, int]:
    """Where part `number` of an object begins and ends. BadRequest when it has no such part."""
    sizes = [content.size_bytes for content in found.parts] if found.part_count else [found.size_bytes]
    if not 1 <= number <= len(sizes):
        raise BadRequest(
            f"{found.bucket}/{found.key} has {len(sizes)} parts, no part {number}", hint="ask for one of them",
            reason="InvalidPartNumber",
        )  # fmt: skip
    start = sum(sizes[: number - 1])
    return start, start + sizes[number - 1]
