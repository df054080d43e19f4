"""Objects: buckets of keys, versions of objects, uploads in parts. What a bucket's rules look like is in `bucketrules`.

Names of attributes follow Amazon S3's API reference (https://docs.aws.amazon.com/AmazonS3/latest/API/), whose clients
talk to us. `reason` among an error's fields is the code that S3 has for it.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from fuyun.domain.bucketrules import Rules
from fuyun.domain.errors import BadRequest, NotFound
from fuyun.domain.events import Event
from fuyun.domain.functions import Wire

#: The version of an object that was written while its bucket kept none.
NULL_VERSION = "null"
#: As in S3: bytes of a key in UTF-8, parts of an upload, bytes of a part (that is not the last, at all), of an object.
KEY_BYTES = 1024
MOST_PARTS = 10_000
LEAST_PART_BYTES = 5 * 2**20
MOST_PART_BYTES = 5 * 2**30
MOST_OBJECT_BYTES = 5 * 2**40
#: Bytes of user metadata (names and values), tags of an object and of a bucket: as in S3.
METADATA_BYTES = 2048
OBJECT_TAGS, BUCKET_TAGS = 10, 50

CREATED, DELETED = "fuyun.object.created", "fuyun.object.deleted"

_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9.-]{1,61})[a-z0-9]")
_ADDRESS = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+")

Algorithm = Literal["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]
Versioning = Literal["", "Enabled", "Suspended"]


class Checksum(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """What a client wants kept beside an object: base64 of its digest. COMPOSITE: of the digests of its parts."""

    algorithm: Algorithm
    value: str
    kind: Literal["FULL_OBJECT", "COMPOSITE"] = "FULL_OBJECT"


class Content(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """Bytes by their SHA-256. `body` holds them when they are few; else a content store does."""

    digest: str
    size_bytes: int
    body: bytes | None = None


class Details(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """What the client says of an object: headers it is served with, user metadata, tags. Names are lower-case. `upload`
    is the id of the upload that it came of, "" if none."""

    headers: dict[str, str] = {}
    metadata: dict[str, str] = {}
    tags: dict[str, str] = {}
    upload: str = ""


class Object(Wire, frozen=True, kw_only=True):
    """One version of an object. `parts` is its content in order; `part_count` is 0 unless it came in parts. A
    `marker` has no content: it says that the key was deleted here."""

    bucket: str
    key: str
    version: str = NULL_VERSION
    size_bytes: int = 0
    etag: str = ""
    parts: tuple[Content, ...] = ()
    part_count: int = 0
    checksum: Checksum | None = None
    details: Details = Details()
    created_s: float
    latest: bool = True
    marker: bool = False


class Bucket(Wire, frozen=True, kw_only=True):
    """A bucket. `objects` and `size_bytes` count every version and what uploads hold."""

    name: str
    namespace: str
    created_s: float
    region: str = "us-east-1"
    versioning: Versioning = ""
    rules: Rules = Rules()
    objects: int = 0
    size_bytes: int = 0


class Upload(Wire, frozen=True, kw_only=True):
    """An upload in parts that is neither complete nor aborted. `algorithm` and `kind`: the checksum it asks for."""

    id: str
    bucket: str
    key: str
    details: Details = Details()
    algorithm: Algorithm | None = None
    kind: Literal["FULL_OBJECT", "COMPOSITE"] = "COMPOSITE"
    created_s: float


class Part(Wire, frozen=True, kw_only=True):
    """A part that has arrived."""

    number: int
    content: Content
    etag: str
    checksum: Checksum | None = None
    created_s: float


class Condition(Wire, frozen=True, kw_only=True):
    """What must hold of the newest version for a write to happen: its ETag, or that there is none (`if_none_match`)."""

    if_match: str = ""
    if_none_match: bool = False


#: Nothing must hold; nothing is said.
ANYTHING = Condition()
NO_DETAILS = Details()


class Listing(Wire, frozen=True, kw_only=True):
    """A page of a list, in the order of keys' bytes. `next_key`, `next_version`: where the following one begins."""

    objects: tuple[Object, ...] = ()
    prefixes: tuple[str, ...] = ()
    next_key: str = ""
    next_version: str = ""
    more: bool = False


class Selection(Wire, frozen=True, kw_only=True):
    """Which keys a list shows. Keys after `after` (of that key, versions after `after_version`); keys that agree up to
    the first `delimiter` behind `prefix` are shown as one prefix."""

    prefix: str = ""
    delimiter: str = ""
    after: str = ""
    after_version: str = ""
    limit: int = 1000


def check_bucket(name: str) -> str:
    """`name` itself, or BadRequest unless it is a bucket's: S3's rules, so that it is a host name as well."""
    if not _BUCKET.fullmatch(name) or ".." in name or _ADDRESS.fullmatch(name):
        raise BadRequest(
            f"{name[:80]!r} is not a bucket's name",
            hint="use 3 to 63 of a-z, 0-9, '-' and '.', with a letter or digit at both ends, and no IP address",
            path="bucket", reason="InvalidBucketName",
        )  # fmt: skip
    return name


def check_key(key: str) -> str:
    """`key` itself, or BadRequest unless it is 1 to 1024 bytes of UTF-8 that XML can hold or escape, without NUL."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise BadRequest("the key is not UTF-8", hint="encode it as UTF-8", path="key", reason="InvalidURI") from None
    if size > KEY_BYTES:
        raise BadRequest(
            f"the key has {size} bytes; the most is {KEY_BYTES}",
            hint="shorten it",
            path="key",
            reason="KeyTooLongError",
        )
    if not key or "\0" in key:
        raise BadRequest("a key is 1 character or more, none of them NUL", path="key", reason="InvalidArgument")
    return key


def check_details(details: Details) -> Details:
    """`details` itself, or BadRequest when metadata or tags are over S3's bounds."""
    size = sum(len(name.encode()) + len(value.encode()) for name, value in details.metadata.items())
    if size > METADATA_BYTES:
        raise BadRequest(
            f"the metadata has {size} bytes; the most is {METADATA_BYTES}",
            hint="keep what is longer in an object of its own", reason="MetadataTooLarge",
        )  # fmt: skip
    check_tags(details.tags, OBJECT_TAGS)
    return details


def check_tags(tags: dict[str, str], most: int) -> dict[str, str]:
    """`tags` itself, or BadRequest: up to `most`, names up to 128 and values up to 256 characters."""
    if len(tags) > most:
        raise BadRequest(f"{len(tags)} tags; the most is {most}", hint="use fewer", path="tags", reason="BadRequest")
    for name, value in tags.items():
        if not 0 < len(name) <= 128 or len(value) > 256:
            raise BadRequest(
                f"tag {name[:128]!r} is not 1 to 128 characters with a value up to 256", path="tags",
                hint="shorten it", reason="InvalidTag",
            )  # fmt: skip
        if name.lower().startswith("aws:"):
            raise BadRequest(
                f"tag {name!r} begins with aws:, which S3 keeps for itself", hint="rename it", path="tags",
                reason="InvalidTag",
            )  # fmt: skip
    return tags


def absent_bucket(name: str) -> NotFound:
    """The error for a bucket that is not there."""
    return NotFound(
        f"there is no bucket {name!r}", hint="create it, or list the buckets", kind="bucket", name=name,
        reason="NoSuchBucket",
    )  # fmt: skip


def absent_object(bucket: str, key: str, version: str = "") -> NotFound:
    """The error for an object, or one version of it, that is not there."""
    if version:
        return NotFound(
            f"{bucket}/{key} has no version {version!r}", hint="list the object's versions", kind="object",
            name=key, version=version, reason="NoSuchVersion",
        )  # fmt: skip
    return NotFound(
        f"there is no object {key!r} in bucket {bucket!r}", hint="list the bucket's objects", kind="object", name=key,
        reason="NoSuchKey",
    )  # fmt: skip


def absent_upload(upload: str) -> NotFound:
    """The error for an upload that is not there (any more)."""
    return NotFound(
        f"there is no upload {upload[:64]!r}", hint="it was completed or aborted, or never begun", kind="upload",
        name=upload[:64], reason="NoSuchUpload",
    )  # fmt: skip


def event_of(id_: str, kind: str, namespace: str, found: Object, operation: str, now_s: float) -> Event:
    """What happened to an object, as an event of its bucket."""
    data = {
        "bucket": found.bucket,
        "key": found.key,
        "version": found.version,
        "operation": operation,
        **({} if found.marker else {"size_bytes": found.size_bytes, "etag": found.etag}),
        **({"content_type": found.details.headers["content-type"]} if "content-type" in found.details.headers else {}),
    }
    return Event(
        id=id_, source=f"/{namespace}/bucket/{found.bucket}", type=kind, subject=found.key, time_s=now_s,
        data=msgspec.json.encode(data),
    )  # fmt: skip
