"""Buckets, objects and uploads, durably. Bytes that are not few are `ports.contents`'.

A write that changes an object puts its event into the outbox in the same transaction, so that an object is visible
exactly when its event exists. Same durability and errors as `ports.catalog.Catalog`. Every content that a write names
without a `body` must be held in the content store until the write has returned, unless an object or a part that is
there names it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fuyun.domain.objects import ANYTHING, Bucket, Condition, Content, Details, Listing, Object, Part, Selection, Upload
from fuyun.domain.tenants import AuditEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """How an object is written. `operation` is what its event says; `most_bytes` is the namespace's quota of bytes in
    buckets, -1 is any; `copied` marks contents that are there already because an object names them. `hops` and `trail`
    are its event's."""

    operation: str
    most_bytes: int = -1
    condition: Condition = ANYTHING
    copied: bool = False
    hops: int = 0
    trail: str = ""


class BucketStore(Protocol):
    """Buckets. Names are unique on the platform."""

    async def create(self, bucket: Bucket, most: int, entry: AuditEntry | None = None) -> None:
        """Conflict when the name is taken (field `owner` says whether by this namespace), QuotaExceeded when the
        namespace has `most` buckets, NotFound when there is no such namespace."""
        ...

    async def find(self, name: str) -> Bucket | None:
        """The bucket, or None."""
        ...

    async def list_buckets(self, namespace: str, after: str = "", limit: int = 1000) -> list[Bucket]:
        """A page of the namespace's buckets ("*": of all), by name, after the name `after`."""
        ...

    async def change(self, name: str, change: Callable[[Bucket], Bucket], entry: AuditEntry | None = None) -> Bucket:
        """The bucket as `change` makes it of the one that is there, in one transaction: its versioning and rules are
        kept, all else of it is not `change`'s. NotFound."""
        ...

    async def delete(self, name: str, entry: AuditEntry | None = None) -> None:
        """With the uploads that are under way, whose parts are garbage then. NotFound; Conflict while it holds a
        version of an object."""
        ...


class ObjectStore(Protocol):
    """Objects and their versions. In a bucket with versioning `Enabled` a write adds a version; otherwise it replaces
    the one called `null`."""

    async def put(self, new: Object, write: Write) -> Object:
        """Make `new` the newest version of its key; its `version` and `latest` are the store's to give. NotFound
        (bucket, or a copied content), PreconditionFailed, QuotaExceeded."""
        ...

    async def get(self, bucket: str, key: str, version: str = "") -> Object:
        """A version, or the newest ("") unless that is a marker. A content that is kept in the store has its `body`.
        NotFound with `kind` bucket or object; the field `marker` is the version of the marker that hides it."""
        ...

    async def list_objects(self, bucket: str, selection: Selection) -> Listing:
        """Newest versions that are no markers. NotFound when there is no such bucket."""
        ...

    async def list_versions(self, bucket: str, selection: Selection) -> Listing:
        """All versions and markers; of one key the newest first. NotFound when there is no such bucket."""
        ...

    async def delete(self, bucket: str, key: str, version: str, now_s: float, write: Write) -> Object | None:
        """Without `version`: as the bucket's versioning has it: the marker that was made, or the version that is gone.
        With it: that version, for good. None when there was nothing, which is no error. Of `write` its event alone
        counts. NotFound (bucket)."""
        ...

    async def describe(self, bucket: str, key: str, version: str, change: Callable[[Details], Details]) -> Object:
        """Change a version's details in one transaction. NotFound as `get`."""
        ...

    async def garbage(self, limit: int) -> list[str]:
        """Digests that nothing names any more."""
        ...

    async def forget(self, digests: Sequence[str]) -> frozenset[str]:
        """Strike those off that still nothing names; these. What they were may be removed from the content store."""
        ...

    async def known(self, digests: Sequence[str]) -> frozenset[str]:
        """Those of them that the store knows, garbage or not."""
        ...


class UploadStore(Protocol):
    """Uploads in parts."""

    async def begin(self, upload: Upload) -> None:
        """NotFound when there is no such bucket."""
        ...

    async def get(self, bucket: str, key: str, upload: str) -> Upload:
        """NotFound."""
        ...

    async def list_uploads(self, bucket: str, selection: Selection) -> tuple[list[Upload], Listing]:
        """A page of the bucket's uploads by key and id (`after`, `after_version`), prefixes and where it goes on.
        NotFound when there is no such bucket."""
        ...

    async def put_part(self, upload: Upload, part: Part, most_bytes: int) -> None:
        """Add a part, or replace the one of its number. NotFound (upload), QuotaExceeded."""
        ...

    async def list_parts(self, upload: str, after: int = 0, limit: int = 1000) -> list[Part]:
        """A page of parts by number, after the number `after`."""
        ...

    async def complete(self, upload: Upload, new: Object, write: Write) -> Object:
        """As `ObjectStore.put` of an object whose contents are parts of the upload, which ends in the same transaction.
        NotFound (upload, or a part that was replaced since)."""
        ...

    async def abort(self, upload: Upload) -> None:
        """End the upload; its parts are garbage. NotFound."""
        ...


def contents_of(found: Object) -> tuple[Content, ...]:
    """What of `found` a content store holds."""
    return tuple(content for content in found.parts if content.body is None and content.size_bytes)
