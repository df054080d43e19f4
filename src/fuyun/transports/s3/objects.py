"""Operations on one object, and the deletion of many."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from msgspec.structs import replace

from fuyun.domain.errors import BadRequest, FuyunError, NotFound
from fuyun.domain.objects import (
    BUCKET_TAGS,
    MOST_PART_BYTES,
    OBJECT_TAGS,
    Bucket,
    Checksum,
    Details,
    Object,
    check_tags,
)
from fuyun.services.objects import Put, Stretch, part_of
from fuyun.transports.s3.answers import (
    CLASS,
    KEPT,
    XML,
    checksum_elements,
    checksum_headers,
    class_of,
    described,
    quoted,
    version_headers,
    xml,
)  # fmt: skip
from fuyun.transports.s3.asking import algorithm_of, check_read, copy_source, details_of, range_of, write_condition
from fuyun.transports.s3.calls import Answer, Call
from fuyun.transports.s3.documents import Node, moment, parse
from fuyun.transports.s3.errors import code_of

_REDIRECT = "x-amz-website-redirect-location"
#: Keys that one request may delete.
_MOST_KEYS = 1000
#: From this size on, the kernel sends an object's file itself.
_LEAST_FILE_BYTES = 256 * 1024
#: How often an object is looked up again that was replaced while it was opened.
_TRIES = 5


def _holder(call: Call) -> Bucket:
    return call.services.buckets.access(call.principal, "read objects", call.bucket)


async def put(call: Call) -> Answer:
    """PutObject."""
    if call.size_bytes < 0:
        raise BadRequest("Content-Length is missing", hint="say how long the body is", reason="MissingContentLength")
    order = Put(
        details=details_of(call), claims=call.claims(), condition=write_condition(call), size_bytes=call.size_bytes
    )
    made = await call.services.objects.put(call.principal, call.bucket, call.key, call.body(MOST_PART_BYTES), order)
    return Answer(200, {"etag": quoted(made.etag), **_told(call, made), **checksum_headers(made.checksum)})


def _told(call: Call, made: Object) -> dict[str, str]:
    return version_headers(call.services.buckets.access(call.principal, "write objects", call.bucket), made)


async def get(call: Call) -> Answer:
    """GetObject."""
    for attempt in range(1, _TRIES + 1):
        found = await _find(call)
        answer, span = _head_of(call, found)
        if answer.status >= 300:
            return answer
        objects = call.services.objects
        # Few bytes are sooner read than handed over.
        whole = call.zerocopy and span[1] - span[0] >= _LEAST_FILE_BYTES
        pieces = objects.stretches(found, *span) if whole else objects.read(found, *span)
        try:
            first: bytes | Stretch = await anext(pieces, b"")
        except NotFound:  # replaced between look-up and opening
            if attempt == _TRIES:
                raise
            continue
        return Answer(answer.status, answer.headers, _chained(first, pieces))
    raise AssertionError("the loop returns or raises")


async def _chained(first: bytes | Stretch, rest: AsyncIterator[bytes | Stretch]) -> AsyncIterator[bytes | Stretch]:
    yield first
    async for piece in rest:
        yield piece


async def head(call: Call) -> Answer:
    """HeadObject."""
    return _head_of(call, await _find(call))[0]


async def _find(call: Call) -> Object:
    version = call.params.get("versionId", "")
    found = await call.services.objects.get(call.principal, call.bucket, call.key, version)
    if found.marker:
        raise BadRequest(
            "this version is a delete marker", hint="delete it, or ask for another version", reason="MethodNotAllowed",
            marker=found.version,
        )  # fmt: skip
    return found


def _head_of(call: Call, found: Object) -> tuple[Answer, tuple[int, int]]:
    """The answer without its body, and which bytes that is."""
    holder = _holder(call)
    headers = described(holder, found)
    if not check_read(call.head, found):
        kept = ("etag", "last-modified", "cache-control", "expires", "x-amz-version-id")
        return Answer(304, {name: headers[name] for name in kept if name in headers}), (0, 0)
    span = range_of(call.header("range"), found.size_bytes) if call.header("range") else None
    number = call.params.get("partNumber", "")
    if number:
        if span is not None or not number.isdigit():
            raise BadRequest("partNumber is a number, without Range", reason="InvalidArgument")
        span = part_of(found, int(number[:6]))
        headers |= {"x-amz-mp-parts-count": str(found.part_count)} if found.part_count else {}
    for name in KEPT:
        if override := call.params.get(f"response-{name}"):
            headers[name] = override
    if call.header("x-amz-checksum-mode").upper() == "ENABLED" and span is None:
        headers |= checksum_headers(found.checksum)
    start, end = span or (0, found.size_bytes)
    headers["content-length"] = str(end - start)
    if span is not None and (found.size_bytes or not number):
        headers["content-range"] = f"bytes {start}-{end - 1}/{found.size_bytes}"
        return Answer(206, headers), (start, end)
    return Answer(200, headers), (start, end)


async def delete(call: Call) -> Answer:
    """DeleteObject."""
    version = call.params.get("versionId", "")
    if call.header("if-match"):
        found = await call.services.objects.get(call.principal, call.bucket, call.key, version)
        check_read(call.head, found)
    gone = await call.services.objects.delete(call.principal, call.bucket, call.key, version)
    headers = _told(call, gone) if gone is not None else {}
    if gone is not None and gone.marker:
        headers["x-amz-delete-marker"] = "true"
    return Answer(204, headers)


async def delete_many(call: Call) -> Answer:
    """DeleteObjects."""
    wanted = parse(await call.document(), "Delete").only("Object", "Quiet")
    keys = list(wanted.all("Object"))
    if not 0 < len(keys) <= _MOST_KEYS:
        raise BadRequest(f"{len(keys)} objects; name 1 to {_MOST_KEYS}", reason="MalformedXML")
    call.services.buckets.access(call.principal, "write objects", call.bucket)
    quiet = wanted.get("Quiet") == "true"
    done: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for node in keys:
        key = (node.find("Key") or node).exact
        version = node.get("VersionId")
        named = {"Key": key, **({"VersionId": version} if version else {})}
        try:
            gone = await call.services.objects.delete(call.principal, call.bucket, key, version)
        except FuyunError as error:
            code, status = code_of(error)
            if status >= 500:
                raise
            failed.append({**named, "Code": code, "Message": error.detail})
            continue
        if gone is not None and gone.marker:
            named |= {"DeleteMarker": True, "DeleteMarkerVersionId": gone.version}
        done.append(named)
    return xml("DeleteResult", {"Deleted": [] if quiet else done, "Error": failed})


async def copy(call: Call) -> Answer:
    """CopyObject."""
    source, holder = await source_of(call)
    algorithm = algorithm_of(call)
    made = await call.services.objects.copy(
        call.principal, source, call.bucket, call.key, _copied(call, source.details),
        write_condition(call), algorithm,
    )  # fmt: skip
    headers = _told(call, made)
    if holder.versioning:
        headers["x-amz-copy-source-version-id"] = source.version
    content = {
        "LastModified": moment(made.created_s),
        "ETag": quoted(made.etag),
        **checksum_elements(made.checksum),
    }
    return xml("CopyObjectResult", content, headers)


def _copied(call: Call, kept: Details) -> Details | None:
    """What is to be said of a copy; None for what is said of its source. Where the website redirects and the storage
    class are never the source's. BadRequest."""
    directive = call.header("x-amz-metadata-directive").upper() or "COPY"
    tagging = call.header("x-amz-tagging-directive").upper() or "COPY"
    if {directive, tagging} - {"COPY", "REPLACE"}:
        raise BadRequest("a directive is COPY or REPLACE", reason="InvalidArgument")
    given = details_of(call)
    own = {name: given.headers[name] for name in (CLASS, _REDIRECT) if name in given.headers}
    asked = own or call.header(CLASS) or not kept.headers.keys().isdisjoint((CLASS, _REDIRECT))
    # A version that is named may be made the newest again.
    if "REPLACE" not in (directive, tagging) and not asked and not copy_source(call)[2]:
        return None
    base = given if directive == "REPLACE" else kept
    headers = {name: value for name, value in base.headers.items() if name not in (CLASS, _REDIRECT)}
    return Details(
        headers={**headers, **own}, metadata=base.metadata, tags=given.tags if tagging == "REPLACE" else kept.tags
    )


async def source_of(call: Call) -> tuple[Object, Bucket]:
    """The object a copy is of, with its bucket. NotFound, Forbidden, PreconditionFailed."""
    bucket, key, version = copy_source(call)
    found = await call.services.objects.get(call.principal, bucket, key, version)
    if found.marker:
        raise BadRequest("the source is a delete marker", hint="copy another version", reason="InvalidRequest")
    check_read(call.head, found, "x-amz-copy-source-")
    return found, call.services.buckets.access(call.principal, "read objects", bucket)


async def attributes(call: Call) -> Answer:
    """GetObjectAttributes."""
    found = await _find(call)
    wanted = {name.strip() for name in call.header("x-amz-object-attributes").split(",")}
    known: dict[str, Any] = {
        "ETag": found.etag,
        "Checksum": _whole(found.checksum),
        "ObjectParts": {"TotalPartsCount": found.part_count} if found.part_count else None,
        "StorageClass": class_of(found.details),
        "ObjectSize": found.size_bytes,
    }
    if not wanted <= set(known):
        raise BadRequest(
            "x-amz-object-attributes names what is not known", hint=", ".join(known), reason="InvalidArgument"
        )
    headers = described(_holder(call), found)
    told = {name: value for name, value in headers.items() if name in ("last-modified", "x-amz-version-id")}
    content = {name: value for name, value in known.items() if name in wanted}
    return xml("GetObjectAttributesResponse", content, told)


def _whole(checksum: Checksum | None) -> dict[str, str] | None:
    """As attributes show it: without the number of parts behind it, which stands beside it."""
    if checksum is None:
        return None
    return checksum_elements(replace(checksum, value=checksum.value.partition("-")[0]))


async def get_tags(call: Call) -> Answer:
    """GetObjectTagging."""
    found = await _find(call)
    return xml("Tagging", tag_set(found.details.tags), _told(call, found) if found.version != "null" else {})


async def put_tags(call: Call) -> Answer:
    """PutObjectTagging."""
    tags = tags_of(parse(await call.document(), "Tagging"), OBJECT_TAGS)
    found = await _find(call)
    made = await call.services.objects.set_tags(call.principal, call.bucket, call.key, found.version, tags)
    return Answer(200, _told(call, made))


async def delete_tags(call: Call) -> Answer:
    """DeleteObjectTagging."""
    found = await _find(call)
    made = await call.services.objects.set_tags(call.principal, call.bucket, call.key, found.version, {})
    return Answer(204, _told(call, made))


def tag_set(tags: dict[str, str]) -> dict[str, Any]:
    """Tags as a document holds them."""
    return {"TagSet": {"Tag": [{"Key": name, "Value": value} for name, value in tags.items()]}}


def tags_of(node: Node, most: int = BUCKET_TAGS) -> dict[str, str]:
    """The tags of a `Tagging` document. BadRequest."""
    node.only("TagSet")
    held = [(tag.get("Key"), tag.get("Value")) for found in node.all("TagSet") for tag in found.all("Tag")]
    if len(dict(held)) != len(held):
        raise BadRequest("a tag stands twice", hint="give each once", reason="InvalidTag")
    return check_tags(dict(held), most)


async def get_acl(call: Call) -> Answer:
    """GetObjectAcl, GetBucketAcl: the one ACL there is."""
    if call.key:
        await _find(call)
    namespace = _holder(call).namespace
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<AccessControlPolicy xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Owner><ID>{namespace}</ID><DisplayName>{namespace}</DisplayName></Owner><AccessControlList><Grant>"
        '<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">'
        f"<ID>{namespace}</ID><DisplayName>{namespace}</DisplayName></Grantee><Permission>FULL_CONTROL</Permission>"
        "</Grant></AccessControlList></AccessControlPolicy>"
    )
    return Answer(200, {"content-type": XML}, body.encode())


async def put_acl(call: Call) -> Answer:
    """PutObjectAcl, PutBucketAcl: only the one there is (others were refused before); documents are not read."""
    if not call.header("x-amz-acl"):
        raise BadRequest(
            "ACLs by document are not supported", hint="access follows keys and their roles", reason="NotImplemented"
        )
    if call.key:
        await _find(call)
    call.services.buckets.access(call.principal, "write objects", call.bucket)
    return Answer()
