"""Keeps buckets in order: removes contents that nothing names, expires what lifecycle rules say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable

import structlog

from fuyun.base import clock
from fuyun.base.tasks import Scope
from fuyun.decide.expiry import abandoned, expired
from fuyun.domain.errors import FuyunError, NotFound
from fuyun.domain.objects import Bucket, Object, Selection, Upload
from fuyun.ports.contents import ContentStore
from fuyun.ports.objects import BucketStore, ObjectStore, UploadStore, Write

_log = structlog.get_logger("fuyun.objects")

_BATCH = 500
_PAGE = 1000
#: Rules count in days; an hour late is in time.
_EVERY_S = 3600.0
#: Garbage that writes leave is collected together.
_PAUSE_S = 1.0


class Keeper:
    """One per platform."""

    def __init__(
        self, buckets: BucketStore, objects: ObjectStore, uploads: UploadStore, contents: ContentStore
    ) -> None:
        self._buckets = buckets
        self._objects = objects
        self._uploads = uploads
        self._contents = contents
        self._garbage = asyncio.Event()

    def start(self, scope: Scope) -> None:
        """Run until the scope closes: collect now and whenever `notice` was called, sweep once, expire every hour."""
        scope.start(self._collecting(), "contents")
        scope.start(self._expiring(), "lifecycle")

    def notice(self) -> None:
        """There may be garbage."""
        self._garbage.set()

    async def collect(self) -> int:
        """Remove contents that nothing names any more; bytes freed."""
        freed = 0
        while digests := await self._objects.garbage(_BATCH):
            # Marked first: what is stored again from here on loses its mark, and stays.
            self._contents.doom(digests)
            gone = await self._objects.forget(digests)
            freed += await self._contents.remove(gone)
            if len(gone) < len(digests):
                break
        return freed

    async def sweep(self) -> int:
        """Remove contents that no crash left a name for; bytes freed."""
        freed = 0
        async for digests in self._contents.scan(_BATCH):
            self._contents.doom(digests)
            known = await self._objects.known(digests)
            freed += await self._contents.remove(set(digests) - known)
            self._contents.spare(known)
        return freed

    async def expire(self, now_s: float) -> int:
        """Do what lifecycle rules say at `now_s`; how many versions and uploads went."""
        count, after = 0, ""
        while page := await self._buckets.list_buckets("*", after, _PAGE):
            for bucket in page:
                if bucket.rules.lifecycle:
                    count += await self._expire(bucket, now_s)
            after = page[-1].name
        return count

    async def _expire(self, bucket: Bucket, now_s: float) -> int:
        count = 0
        try:
            async for versions in self._keys(bucket.name):
                for found in expired(bucket.rules.lifecycle, versions, now_s):
                    # The newest goes as by any delete, but not if it was written anew since.
                    version = "" if found.latest and not found.marker else found.version
                    if version or await self._still(found):
                        await self._objects.delete(bucket.name, found.key, version, now_s, Write(operation="expire"))
                        count += 1
            for upload in await self._open_uploads(bucket.name):
                if abandoned(bucket.rules.lifecycle, upload, now_s):
                    await self._uploads.abort(upload)
                    count += 1
        except NotFound:  # deleted meanwhile
            pass
        self.notice()
        return count

    async def _still(self, found: Object) -> bool:
        try:
            now = await self._objects.get(found.bucket, found.key)
        except NotFound:
            return False
        return (now.version, now.created_s, now.etag) == (found.version, found.created_s, found.etag)

    async def _keys(self, bucket: str) -> AsyncIterator[list[Object]]:
        """Versions of each key, newest first."""
        held: list[Object] = []
        selection = Selection(limit=_PAGE)
        while True:
            page = await self._objects.list_versions(bucket, selection)
            for found in page.objects:
                if held and held[0].key != found.key:
                    yield held
                    held = []
                held.append(found)
            if not page.more:
                break
            selection = Selection(limit=_PAGE, after=page.next_key, after_version=page.next_version)
        if held:
            yield held

    async def _open_uploads(self, bucket: str) -> list[Upload]:
        found: list[Upload] = []
        selection = Selection(limit=_PAGE)
        while True:
            page, listing = await self._uploads.list_uploads(bucket, selection)
            found += page
            if not listing.more:
                return found
            selection = Selection(limit=_PAGE, after=listing.next_key, after_version=listing.next_version)

    async def _collecting(self) -> None:
        await _tried(self.sweep(), "contents could not be swept")
        while True:
            await _tried(self.collect(), "unused contents could not be removed")
            await self._garbage.wait()
            await asyncio.sleep(_PAUSE_S)
            self._garbage.clear()

    async def _expiring(self) -> None:
        while True:
            await _tried(self.expire(clock.wall_s()), "lifecycle rules could not be followed")
            await asyncio.sleep(_EVERY_S)


async def _tried(work: Awaitable[int], what: str) -> None:
    try:
        await work
    except FuyunError as error:
        _log.warning(what, error=error.detail)
