"""From headers to structs: details of an object, conditions, ranges; and refusals of what is not supported."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

from fuyun.base.checksums import ALGORITHMS
from fuyun.domain.errors import BadRequest, Forbidden, PreconditionFailed, Unsupported
from fuyun.domain.objects import Algorithm, Condition, Details, Object, check_tags
from fuyun.transports.s3.answers import CLASS, CLASSES, KEPT
from fuyun.transports.s3.calls import Call
from fuyun.transports.s3.signing import Head

_META = "x-amz-meta-"
#: ACLs that say what is the case here: the namespace that owns the bucket may do everything, nobody else anything.
_OWN_ACLS = ("", "private", "bucket-owner-full-control")
#: Headers that ask for what is not there; doing without would betray who asks.
_REFUSED = (
    "x-amz-server-side-encryption",
    "x-amz-object-lock",
    "x-amz-grant-",
    "x-amz-bucket-namespace",
    "x-amz-copy-source-server-side-encryption",
    "x-amz-write-offset-bytes",
)
#: Storage classes whose objects cannot be read before they are restored.
_ARCHIVES = ("GLACIER", "DEEP_ARCHIVE", "SNOW", "OUTPOSTS")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def check_supported(call: Call) -> None:
    """Unsupported for a header that asks for what is not supported; Forbidden when another owner is expected."""
    for name, value in call.head.headers:
        if not name.startswith("x-amz-"):
            continue
        if name.startswith(_REFUSED):
            raise Unsupported(f"{name} is not supported", hint="leave it out", reason="NotImplemented")
        if name == "x-amz-acl" and value not in _OWN_ACLS:
            raise Unsupported(
                f"ACL {value[:60]!r} is not supported", hint="access follows keys and their roles: fuyun key create",
                reason="NotImplemented",
            )  # fmt: skip
        if name == CLASS:
            _check_class(value)
        if name == "x-amz-expected-bucket-owner" and call.bucket:
            owner = call.services.buckets.access(call.principal, "read", call.bucket).namespace
            if value != owner:
                raise Forbidden("the bucket has another owner than is expected", reason="AccessDenied")


def _check_class(name: str) -> None:
    if name in _ARCHIVES:
        raise Unsupported(
            f"storage class {name} is not supported", hint=f"use one of {', '.join(CLASSES)}", reason="NotImplemented"
        )
    if name not in CLASSES:
        raise BadRequest(
            f"storage class {name[:60]!r} is not known", hint=", ".join(CLASSES), reason="InvalidStorageClass"
        )


def details_of(call: Call) -> Details:
    """What the request says of the object it writes. BadRequest."""
    headers = {name: call.header(name) for name in KEPT if call.header(name)}
    coding = headers.get("content-encoding", "")
    if "aws-chunked" in coding:  # how the body came, not what it is
        rest = ",".join(part.strip() for part in coding.split(",") if part.strip().lower() != "aws-chunked")
        headers |= {"content-encoding": rest}
        headers = {name: value for name, value in headers.items() if value}
    if call.header(CLASS) not in ("", CLASSES[0]):
        headers[CLASS] = call.header(CLASS)
    metadata: dict[str, str] = {}
    for name, value in call.head.headers:
        if name.startswith(_META):
            known = metadata.get(name[len(_META) :])
            metadata[name[len(_META) :]] = value if known is None else f"{known},{value}"
    return Details(headers=headers, metadata=metadata, tags=_tags_of(call.header("x-amz-tagging")))


def _tags_of(text: str) -> dict[str, str]:
    pairs = parse_qsl(text, keep_blank_values=True)
    if len(dict(pairs)) != len(pairs):
        raise BadRequest("a tag stands twice", hint="give each once", reason="InvalidTag")
    return check_tags(dict(pairs), 10)


def algorithm_of(call: Call) -> Algorithm | None:
    """The checksum that a copy or an upload asks for. BadRequest."""
    wanted: Any = call.header("x-amz-checksum-algorithm").upper()
    if wanted and wanted not in ALGORITHMS:
        raise BadRequest(f"{wanted[:40]!r} is no checksum", hint=", ".join(ALGORITHMS), reason="InvalidRequest")
    return wanted or None


def write_condition(call: Call) -> Condition:
    """If-Match and If-None-Match of a write. Unsupported for what S3 does not take either."""
    none_match, match = call.header("if-none-match"), call.header("if-match")
    if none_match and none_match.strip('"') != "*":
        raise Unsupported("If-None-Match of a write takes * only", hint="use If-None-Match: *", reason="NotImplemented")
    return Condition(if_match=match.strip('"'), if_none_match=bool(none_match))


def check_read(head: Head, found: Object, prefix: str = "") -> bool:
    """Whether the object is to be sent; False: it is what the client has (304). PreconditionFailed. RFC 9110,
    section 13.2.2; `prefix` is that of a copy's source, where every no is a failure."""
    match, none_match = head.header(f"{prefix}if-match"), head.header(f"{prefix}if-none-match")
    since, unless = head.header(f"{prefix}if-modified-since"), head.header(f"{prefix}if-unmodified-since")
    if match:
        if not _matches(match, found.etag):
            raise _failed(found, f"{prefix}If-Match")
    elif unless and (at_s := _time_of(unless)) is not None and int(found.created_s) > at_s:
        raise _failed(found, f"{prefix}If-Unmodified-Since")
    same = False
    if none_match:
        same = _matches(none_match, found.etag)
    elif since and (at_s := _time_of(since)) is not None:
        same = int(found.created_s) <= at_s
    if same and prefix:
        raise _failed(found, f"{prefix}{'If-None-Match' if none_match else 'If-Modified-Since'}")
    return not same


def _matches(header: str, etag: str) -> bool:
    return any(one.strip().removeprefix("W/").strip('"') in ("*", etag) for one in header.split(","))


def _failed(found: Object, name: str) -> PreconditionFailed:
    return PreconditionFailed(
        f"{name} does not hold of {found.bucket}/{found.key}", hint="read it again", etag=found.etag,
        condition=name, reason="PreconditionFailed",
    )  # fmt: skip


def _time_of(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError):
        return None  # RFC 9110: a date that is none is ignored


def range_of(text: str, size: int) -> tuple[int, int] | None:
    """(start, end) of a Range header; None when there is none, or one that RFC 9110 lets a server ignore. BadRequest
    when nothing of the object is in it."""
    found = _RANGE.fullmatch(text.strip())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        start, end = max(0, size - int(found[2])), size
        empty = not int(found[2]) or not size
    else:
        start, end = int(found[1]), min(int(found[2]) + 1, size) if found[2] else size
        if found[2] and int(found[2]) < start:
            return None
        empty = start >= size
    if empty:
        raise BadRequest(
            f"range {text[:60]!r} is outside of {size} bytes", hint="ask for bytes it has", reason="InvalidRange",
            size_bytes=size, range=text[:60],
        )  # fmt: skip
    return start, end


def copy_source(call: Call) -> tuple[str, str, str]:
    """Bucket, key and version that x-amz-copy-source names. BadRequest."""
    text, _, query = call.header("x-amz-copy-source").partition("?versionId=")
    bucket, _, key = unquote(text).removeprefix("/").partition("/")
    if not bucket or not key:
        raise BadRequest("x-amz-copy-source names no object", hint="write BUCKET/KEY", reason="InvalidArgument")
    return bucket, key, query
