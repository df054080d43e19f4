"""What is said about objects on the wire at the address inside instances."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fuyun.domain.errors import BadRequest
from fuyun.domain.objects import Condition, Details, Listing, Object
from fuyun.domain.wire import Wire

Tags = dict[str, str]


class ObjectView(Wire, frozen=True, kw_only=True):
    """A version of an object without its bytes. `content_type` is "" where none was given."""

    bucket: str
    key: str
    version: str
    size_bytes: int
    etag: str
    content_type: str
    metadata: dict[str, str]
    tags: Tags
    created_s: float


class ListedObject(Wire, frozen=True, kw_only=True):
    """An object as a list shows it."""

    key: str
    size_bytes: int
    etag: str
    created_s: float


class Described(Wire, frozen=True, kw_only=True):
    """What is said of an object that is written. Names of metadata are lower-case."""

    content_type: str = ""
    metadata: dict[str, str] = {}
    tags: Tags = {}

    @property
    def details(self) -> Details:
        """As objects keep it."""
        headers = {"content-type": self.content_type} if self.content_type else {}
        metadata = {_field(name): _value(name, value) for name, value in self.metadata.items()}
        return Details(headers=headers, metadata=metadata, tags=self.tags)


class PutObject(Described, frozen=True, kw_only=True):
    """An object to write of the bytes that follow: `size_bytes` as far as it is known, -1 otherwise. It is written only
    if the newest version has the ETag `if_match`, or (`if_absent`) there is none."""

    key: str
    size_bytes: int = -1
    if_match: str = ""
    if_absent: bool = False

    @property
    def condition(self) -> Condition:
        """As the store checks it."""
        return Condition(if_match=self.if_match, if_none_match=self.if_absent)


class AskObject(Wire, frozen=True, kw_only=True):
    """An object, or the version of it; to be read from `start` (negative: so many bytes before the end) up to `end`."""

    key: str
    version: str = ""
    start: int = 0
    end: Annotated[int, msgspec.Meta(ge=0)] | None = None

    def span(self, size_bytes: int) -> tuple[int, int]:
        """Which of so many bytes; none where they are outside, as slices are."""
        start, end, _ = slice(self.start, self.end).indices(size_bytes)
        return start, max(start, end)


class ListObjects(Wire, frozen=True, kw_only=True):
    """A page of keys behind `after`; keys alike up to the first `delimiter` behind `prefix` are shown as one prefix."""

    prefix: str = ""
    delimiter: str = ""
    after: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1000


class FoundObjects(Wire, frozen=True, kw_only=True):
    """A page. `next` is what the following one is `after`, null at the end."""

    objects: list[ListedObject]
    prefixes: list[str]
    next: str | None


class CopyObject(Described, frozen=True, kw_only=True):
    """Where the bytes come from, and what is said of the copy where it is to `describe` itself anew."""

    key: str
    source_bucket: str
    source_key: str
    source_version: str = ""
    describe: bool = False


class Gone(Wire, frozen=True, kw_only=True):
    """What a deletion came to: whether there was anything, and the version that is gone or that marks it."""

    deleted: bool
    version: str
    marker: bool


def view_of(found: Object) -> ObjectView:
    """An object as it is told."""
    return ObjectView(
        bucket=found.bucket, key=found.key, version=found.version, size_bytes=found.size_bytes, etag=found.etag,
        content_type=found.details.headers.get("content-type", ""), metadata=found.details.metadata,
        tags=found.details.tags, created_s=found.created_s,
    )  # fmt: skip


def page_of(found: Listing) -> FoundObjects:
    """A page as it is told."""
    listed = [
        ListedObject(key=one.key, size_bytes=one.size_bytes, etag=one.etag, created_s=one.created_s)
        for one in found.objects
    ]
    return FoundObjects(objects=listed, prefixes=list(found.prefixes), next=found.next_key if found.more else None)


def _field(name: str) -> str:
    plain = name.lower()
    if not plain or not all((char.isalnum() and char.isascii()) or char in "-_." for char in plain):
        raise BadRequest(
            f"metadata {name[:64]!r} is not a name", hint="use letters, digits, '-', '_' and '.'", path="metadata"
        )
    return plain


def _value(name: str, value: str) -> str:
    if any(char < " " or char == "\x7f" for char in value):
        raise BadRequest(
            f"metadata {name[:64]!r} has a control character in its value", hint="leave it out", path="metadata"
        )
    return value
