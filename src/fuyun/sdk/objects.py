"""Objects in buckets of the namespace, at the platform's address inside the instance.

Standard library only. The function's `permissions.objects` name the buckets it may use. Bytes pass as a stream: memory
stays flat however large an object is, unless `get` is asked for all of it.
"""

from __future__ import annotations

import io
import json

from fuyun.sdk.calling import CallRefused, CallUnavailable, ask, open_answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from http.client import HTTPResponse
    from typing import Any, BinaryIO, Optional, Union

    Source = Union[bytes, bytearray, memoryview, str, BinaryIO, Iterable[bytes]]

_BLOCK_BYTES = 65536


class Stored:
    """An object without its bytes: `bucket`, `key`, `version`, `size_bytes`, `etag`, `content_type`, `metadata`, `tags`
    and `created_s` (seconds since the epoch). Lists give `key`, `size_bytes`, `etag` and `created_s` alone."""

    __slots__ = ("bucket", "content_type", "created_s", "etag", "key", "metadata", "size_bytes", "tags", "version")

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.bucket: str = told["bucket"]
        self.key: str = told["key"]
        self.version: str = told.get("version", "")
        self.size_bytes: int = told["size_bytes"]
        self.etag: str = told["etag"]
        self.content_type: str = told.get("content_type", "")
        self.metadata: dict[str, str] = told.get("metadata", {})
        self.tags: dict[str, str] = told.get("tags", {})
        self.created_s: float = told["created_s"]

    def __repr__(self) -> str:
        return f"Stored({self.bucket}/{self.key}, {self.size_bytes} bytes)"


class Reader(io.RawIOBase):
    """The bytes of an object as a file to read; `stored` says what it is of. Close it, or use `with`."""

    def __init__(self, answer: HTTPResponse) -> None:
        self._answer = answer
        told = json.loads(answer.getheader("Fuyun-Told") or "{}")
        self._left = int(answer.getheader("Content-Length") or 0)
        self.stored = Stored(told)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase`. CallUnavailable when the platform breaks off before the end."""
        from http.client import HTTPException

        if not self._left or not len(buffer):
            return 0
        try:
            size = self._answer.readinto(memoryview(buffer)[: min(len(buffer), self._left)])
        except (OSError, HTTPException) as error:
            raise self._broken() from error
        if not size:
            raise self._broken()
        self._left -= size
        return size

    def _broken(self) -> CallUnavailable:
        where = f"{self.stored.bucket}/{self.stored.key}"
        return CallUnavailable(f"{where} broke off {self._left} bytes before its end", code="unavailable")

    def close(self) -> None:
        """Read no more of it."""
        self._answer.close()
        super().close()


def put(
    bucket: str,
    key: str,
    data: Source,
    *,
    content_type: str = "",
    metadata: Optional[Mapping[str, str]] = None,
    tags: Optional[Mapping[str, str]] = None,
    if_match: str = "",
    if_absent: bool = False,
) -> Stored:
    """Write an object of bytes, a text (as UTF-8), a file open for reading, or an iterable of bytes. It is on disk, and
    its event with it, when this returns. CallRefused with the code `precondition_failed` when the newest version has
    another ETag than `if_match`, or (`if_absent`) there is one."""
    body, size = _body_of(data)
    asked = {
        "key": key, "size_bytes": size, "content_type": content_type, "metadata": dict(metadata or {}),
        "tags": dict(tags or {}), "if_match": if_match, "if_absent": if_absent,
    }  # fmt: skip
    fields = {"Fuyun-Ask": json.dumps(asked), "Content-Type": "application/octet-stream"}
    answer = open_answer("objects", bucket, "put", body, fields)
    try:
        return Stored(json.loads(answer.read()))
    finally:
        answer.close()


def get(bucket: str, key: str, start: int = 0, end: Optional[int] = None, *, version: str = "") -> bytes:
    """The bytes of an object, of `start` up to `end`, as in a slice. CallRefused with the code `not_found`."""
    with open_reader(bucket, key, start, end, version=version) as reader:
        found = bytearray()
        while piece := reader.read(_BLOCK_BYTES):
            found += piece
        return bytes(found)


def open_reader(bucket: str, key: str, start: int = 0, end: Optional[int] = None, *, version: str = "") -> Reader:
    """The same as a file to read from, which holds little of it at a time. For text or lines, wrap it:
    `io.TextIOWrapper(io.BufferedReader(reader))`."""
    asked = {"key": key, "version": version, "start": start, "end": end}
    fields = {"Content-Type": "application/json"}
    return Reader(open_answer("objects", bucket, "get", json.dumps(asked).encode(), fields))


def head(bucket: str, key: str, *, version: str = "") -> Stored:
    """What an object is, without its bytes. CallRefused with the code `not_found`."""
    return Stored(ask("objects", bucket, "head", {"key": key, "version": version}))


def exists(bucket: str, key: str) -> bool:
    """Whether there is an object of that key."""
    try:
        head(bucket, key)
    except CallRefused as error:
        if error.code == "not_found":
            return False
        raise
    return True


def list_objects(bucket: str, prefix: str = "") -> Iterator[Stored]:
    """All objects whose keys begin with `prefix`, in the order of the keys' bytes; asked for page by page."""
    after: Optional[str] = ""
    while after is not None:
        page = ask("objects", bucket, "list", {"prefix": prefix, "after": after})
        for told in page["objects"]:
            yield Stored({"bucket": bucket, **told})
        after = page["next"]


def list_prefixes(bucket: str, prefix: str = "", delimiter: str = "/") -> Iterator[str]:
    """What keys have up to the first `delimiter` behind `prefix`: the folders in a folder."""
    after: Optional[str] = ""
    while after is not None:
        page = ask("objects", bucket, "list", {"prefix": prefix, "delimiter": delimiter, "after": after})
        yield from page["prefixes"]
        after = page["next"]


def delete(bucket: str, key: str, *, version: str = "") -> bool:
    """Delete an object, or one version of it; whether there was one."""
    return bool(ask("objects", bucket, "delete", {"key": key, "version": version})["deleted"])


def copy(
    source_bucket: str,
    source_key: str,
    bucket: str,
    key: str,
    *,
    version: str = "",
    content_type: str = "",
    metadata: Optional[Mapping[str, str]] = None,
) -> Stored:
    """Copy an object, or one version of it, without reading it; the function must be allowed both buckets. What is said
    of the source is said of the copy, unless `content_type` or `metadata` is given."""
    asked: dict[str, Any] = {
        "source_bucket": source_bucket, "source_key": source_key, "source_version": version, "key": key,
    }  # fmt: skip
    if content_type or metadata is not None:
        asked.update({"describe": True, "content_type": content_type, "metadata": dict(metadata or {})})
    return Stored(ask("objects", bucket, "copy", asked))


def _body_of(data: Source) -> tuple[Any, int]:
    """What is sent, and its size where that is known, else -1."""
    if isinstance(data, str):
        data = data.encode()
    if isinstance(data, (bytes, bytearray, memoryview)):
        plain = bytes(data)
        return plain, len(plain)
    if hasattr(data, "encoding"):
        raise ValueError("the file is open for text: open it with 'rb'")
    return (_blocks(data) if hasattr(data, "read") else iter(data)), -1


def _blocks(file: Any) -> Iterator[bytes]:
    while piece := file.read(_BLOCK_BYTES):
        yield piece


__all__ = [
    "Reader",
    "Stored",
    "copy",
    "delete",
    "exists",
    "get",
    "head",
    "list_objects",
    "list_prefixes",
    "open_reader",
    "put",
]
