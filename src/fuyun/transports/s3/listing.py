"""Lists of keys and versions: ListObjects, ListObjectsV2, ListObjectVersions."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from fuyun.domain.errors import BadRequest
from fuyun.domain.objects import NULL_VERSION, Listing, Selection
from fuyun.transports.s3.answers import listed, xml
from fuyun.transports.s3.calls import Answer, Call

_MOST = 1000


def limit_of(call: Call, name: str, most: int = _MOST) -> int:
    """A number of things at most. BadRequest."""
    text = call.params.get(name, "")
    if not text:
        return most
    if not text.isdigit() or len(text) > 9:
        raise BadRequest(f"{name} is {text[:40]!r}, no number", hint=f"use 0 to {most}", reason="InvalidArgument")
    return min(int(text), most)


def encoder(call: Call) -> Callable[[str], str]:
    """How keys are written: as they are, or percent-encoded for `encoding-type=url`."""
    wanted = call.params.get("encoding-type", "")
    if wanted not in ("", "url"):
        raise BadRequest(f"encoding-type {wanted[:40]!r} is not known", hint="url", reason="InvalidArgument")
    return (lambda key: quote(key, safe="/")) if wanted else (lambda key: key)


def _selection(call: Call, after: str, after_version: str = "") -> Selection:
    return Selection(
        prefix=call.params.get("prefix", ""), delimiter=call.params.get("delimiter", ""), after=after,
        after_version=after_version, limit=limit_of(call, "max-keys"),
    )  # fmt: skip


def _shared(call: Call, selection: Selection, found: Listing, write: Callable[[str], str]) -> dict[str, Any]:
    return {
        "Name": call.bucket,
        "Prefix": write(selection.prefix),
        "MaxKeys": selection.limit,
        "Delimiter": write(selection.delimiter) or None,
        "EncodingType": call.params.get("encoding-type") or None,
        "IsTruncated": found.more,
        "CommonPrefixes": [{"Prefix": write(prefix)} for prefix in found.prefixes],
    }


async def list_v1(call: Call) -> Answer:
    """ListObjects."""
    write = encoder(call)
    marker = call.params.get("marker", "")
    selection = _selection(call, marker)
    found = await call.services.objects.list_objects(call.principal, call.bucket, selection)
    namespace = call.services.buckets.access(call.principal, "read objects", call.bucket).namespace
    content = {
        **_shared(call, selection, found, write),
        "Marker": write(marker),
        "NextMarker": write(found.next_key) if found.more and selection.delimiter else None,
        "Contents": [listed(one, namespace, write(one.key), True) for one in found.objects],
    }
    return xml("ListBucketResult", content)


async def list_v2(call: Call) -> Answer:
    """ListObjectsV2."""
    write = encoder(call)
    token = call.params.get("continuation-token", "")
    if "continuation-token" in call.params and not token:
        raise BadRequest("the continuation token is empty", reason="InvalidArgument")
    start = call.params.get("start-after", "")
    selection = _selection(call, _key_of(token) if token else start)
    found = await call.services.objects.list_objects(call.principal, call.bucket, selection)
    namespace = call.services.buckets.access(call.principal, "read objects", call.bucket).namespace
    with_owner = call.params.get("fetch-owner", "") == "true"
    content = {
        **_shared(call, selection, found, write),
        "KeyCount": len(found.objects) + len(found.prefixes),
        "ContinuationToken": token or None,
        "NextContinuationToken": base64.urlsafe_b64encode(found.next_key.encode()).decode() if found.more else None,
        "StartAfter": None if token else write(start) or None,
        "Contents": [listed(one, namespace, write(one.key), with_owner) for one in found.objects],
    }
    return xml("ListBucketResult", content)


def _key_of(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError:
        raise BadRequest(
            f"{token[:60]!r} is no continuation token", hint="use NextContinuationToken", reason="InvalidArgument"
        ) from None


async def list_versions(call: Call) -> Answer:
    """ListObjectVersions."""
    write = encoder(call)
    marker, version = call.params.get("key-marker", ""), call.params.get("version-id-marker", "")
    if version and not marker:
        raise BadRequest("version-id-marker stands without key-marker", hint="send both", reason="InvalidArgument")
    selection = _selection(call, marker, version)
    found = await call.services.objects.list_versions(call.principal, call.bucket, selection)
    namespace = call.services.buckets.access(call.principal, "read objects", call.bucket).namespace
    versions: list[dict[str, Any]] = []
    markers: list[dict[str, Any]] = []
    for one in found.objects:
        shown = {
            **listed(one, namespace, write(one.key), True),
            "VersionId": one.version or NULL_VERSION,
            "IsLatest": one.latest,
        }
        (markers if one.marker else versions).append(shown)
    content = {
        **_shared(call, selection, found, write),
        "KeyMarker": write(marker),
        "VersionIdMarker": version,
        "NextKeyMarker": write(found.next_key) if found.more else None,
        "NextVersionIdMarker": found.next_version or None if found.more else None,
        "Version": versions,
        "DeleteMarker": markers,
    }
    return xml("ListVersionsResult", content)
