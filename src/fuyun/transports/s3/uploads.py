"""Uploads in parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Literal

from fuyun.base import clock
from fuyun.base.checksums import ALGORITHMS
from fuyun.domain.errors import BadRequest, NotFound
from fuyun.domain.objects import MOST_PART_BYTES, Object, Selection, Upload
from fuyun.services.receiving import Claims
from fuyun.services.uploads import Chosen
from fuyun.transports.s3.answers import (
    checksum_elements,
    checksum_headers,
    class_of,
    owner,
    quoted,
    version_headers,
    xml,
)
from fuyun.transports.s3.asking import algorithm_of, details_of, range_of, write_condition
from fuyun.transports.s3.calls import Answer, Call
from fuyun.transports.s3.documents import malformed, moment, parse
from fuyun.transports.s3.listing import encoder, limit_of
from fuyun.transports.s3.objects import source_of


async def begin(call: Call) -> Answer:
    """CreateMultipartUpload."""
    algorithm = algorithm_of(call)
    wanted = algorithm or ""
    kind: Literal["FULL_OBJECT", "COMPOSITE"] = "FULL_OBJECT" if wanted == "CRC64NVME" else "COMPOSITE"
    asked = call.header("x-amz-checksum-type").upper()
    if asked == "FULL_OBJECT":
        kind = "FULL_OBJECT"
    if asked not in ("", kind) or (kind == "FULL_OBJECT" and wanted.startswith("SHA")):
        raise BadRequest(f"{wanted or 'no checksum'} has no type {asked[:40]!r}", reason="InvalidRequest")
    wish = Upload(
        id="", bucket=call.bucket, key=call.key, details=details_of(call), algorithm=algorithm, kind=kind,
        created_s=clock.wall_s(),
    )  # fmt: skip
    made = await call.services.uploads.begin(call.principal, wish)
    headers = {"x-amz-checksum-algorithm": wanted, "x-amz-checksum-type": kind} if wanted else {}
    content = {"Bucket": call.bucket, "Key": call.key, "UploadId": made.id}
    return xml("InitiateMultipartUploadResult", content, headers)


async def _upload(call: Call) -> Upload:
    return await call.services.uploads.get(call.principal, call.bucket, call.key, call.params["uploadId"])


def _number(call: Call) -> int:
    text = call.params.get("partNumber", "")
    if not text.isdigit() or len(text) > 6:
        raise BadRequest("partNumber is a number from 1 to 10000", reason="InvalidArgument")
    return int(text)


async def put_part(call: Call) -> Answer:
    """UploadPart."""
    if call.size_bytes < 0:
        raise BadRequest("Content-Length is missing", hint="say how long the body is", reason="MissingContentLength")
    upload, claims = await _upload(call), call.claims()
    if upload.algorithm and claims.algorithm not in (None, upload.algorithm):
        raise BadRequest(
            f"the upload was begun with {upload.algorithm}, this part comes with {claims.algorithm}",
            hint=f"send its {upload.algorithm}", reason="InvalidRequest",
        )  # fmt: skip
    if upload.algorithm and claims.algorithm is None:
        claims = Claims(md5=claims.md5, sha256=claims.sha256, algorithm=upload.algorithm)
    body = call.body(MOST_PART_BYTES)
    part = await call.services.uploads.put_part(call.principal, upload, _number(call), body, claims)
    told = {name: value for name, value in checksum_headers(part.checksum).items() if not name.endswith("-type")}
    return Answer(200, {"etag": quoted(part.etag), **told})


async def copy_part(call: Call) -> Answer:
    """UploadPartCopy."""
    upload = await _upload(call)
    source, holder = await source_of(call)
    span = (0, source.size_bytes)
    if text := call.header("x-amz-copy-source-range"):
        found = range_of(text, source.size_bytes)
        if found is None:
            raise BadRequest(f"{text[:60]!r} is no range", hint="write bytes=0-99", reason="InvalidArgument")
        span = found

    async def body() -> AsyncIterator[bytes]:
        async for piece in call.services.objects.read(source, *span):
            yield piece

    part = await call.services.uploads.put_part(
        call.principal, upload, _number(call), body(), Claims(algorithm=upload.algorithm)
    )
    content = {"LastModified": moment(part.created_s), "ETag": quoted(part.etag)}
    headers = {"x-amz-copy-source-version-id": source.version} if holder.versioning else {}
    return xml("CopyPartResult", content, headers)


async def complete(call: Call) -> Answer:
    """CompleteMultipartUpload."""
    node = parse(await call.document(), "CompleteMultipartUpload").only("Part")
    chosen = []
    for part in node.all("Part"):
        number = part.number("PartNumber")
        if not number:
            raise malformed("a part has no PartNumber")
        values = [part.get(f"Checksum{name}") for name in ALGORITHMS]
        chosen.append(Chosen(number=number, etag=part.get("ETag").strip('"'), checksum=next(filter(None, values), "")))
    made = await _completed(call, chosen)
    content = {
        "Location": f"/{call.bucket}/{call.key}",
        "Bucket": call.bucket,
        "Key": call.key,
        "ETag": quoted(made.etag),
        **checksum_elements(made.checksum),
    }
    holder = call.services.buckets.access(call.principal, "write objects", call.bucket)
    return xml("CompleteMultipartUploadResult", content, version_headers(holder, made))


async def _completed(call: Call, chosen: Sequence[Chosen]) -> Object:
    """The object; once more, as long as it is the newest, for whoever has not heard that it is there."""
    try:
        upload = await _upload(call)
    except NotFound as absent:
        if absent.fields.get("kind") != "upload":
            raise
        call.services.buckets.access(call.principal, "write objects", call.bucket)
        made = await call.services.uploads.find_completed(call.bucket, call.key, call.params["uploadId"])
        if made is None:
            raise
        return made
    claimed = call.header(f"x-amz-checksum-{upload.algorithm.lower()}") if upload.algorithm else ""
    return await call.services.uploads.complete(call.principal, upload, chosen, write_condition(call), claimed)


async def abort(call: Call) -> Answer:
    """AbortMultipartUpload."""
    await call.services.uploads.abort(call.principal, await _upload(call))
    return Answer(204)


async def list_parts(call: Call) -> Answer:
    """ListParts."""
    upload = await _upload(call)
    limit = limit_of(call, "max-parts")
    after = limit_of(call, "part-number-marker", 10_000) if call.params.get("part-number-marker") else 0
    found, more = await call.services.uploads.list_parts(upload, after, limit)
    namespace = call.services.buckets.access(call.principal, "read objects", call.bucket).namespace
    content = {
        "Bucket": call.bucket,
        "Key": call.key,
        "UploadId": upload.id,
        "Initiator": owner(namespace),
        "Owner": owner(namespace),
        "StorageClass": class_of(upload.details),
        "ChecksumAlgorithm": upload.algorithm,
        "ChecksumType": upload.kind if upload.algorithm else None,
        "PartNumberMarker": after,
        "NextPartNumberMarker": found[-1].number if found else 0,
        "MaxParts": limit,
        "IsTruncated": more,
        "Part": [
            {
                "PartNumber": part.number,
                "LastModified": moment(part.created_s),
                "ETag": quoted(part.etag),
                "Size": part.content.size_bytes,
                **({f"Checksum{part.checksum.algorithm}": part.checksum.value} if part.checksum else {}),
            }
            for part in found
        ],
    }
    return xml("ListPartsResult", content)


async def list_uploads(call: Call) -> Answer:
    """ListMultipartUploads."""
    write = encoder(call)
    marker, id_ = call.params.get("key-marker", ""), call.params.get("upload-id-marker", "")
    selection = Selection(
        prefix=call.params.get("prefix", ""), delimiter=call.params.get("delimiter", ""), after=marker,
        after_version=id_ if marker else "", limit=limit_of(call, "max-uploads"),
    )  # fmt: skip
    found, listing = await call.services.uploads.list_uploads(call.principal, call.bucket, selection)
    namespace = call.services.buckets.access(call.principal, "read objects", call.bucket).namespace
    content = {
        "Bucket": call.bucket,
        "KeyMarker": write(marker),
        "UploadIdMarker": selection.after_version,
        "NextKeyMarker": write(listing.next_key) if listing.more else None,
        "NextUploadIdMarker": listing.next_version if listing.more else None,
        "Prefix": write(selection.prefix),
        "Delimiter": write(selection.delimiter) or None,
        "EncodingType": call.params.get("encoding-type") or None,
        "MaxUploads": selection.limit,
        "IsTruncated": listing.more,
        "Upload": [
            {
                "Key": write(one.key),
                "UploadId": one.id,
                "Initiator": owner(namespace),
                "Owner": owner(namespace),
                "StorageClass": class_of(one.details),
                "ChecksumAlgorithm": one.algorithm,
                "ChecksumType": one.kind if one.algorithm else None,
                "Initiated": moment(one.created_s),
            }
            for one in found
        ],
        "CommonPrefixes": [{"Prefix": write(prefix)} for prefix in listing.prefixes],
    }
    return xml("ListMultipartUploadsResult", content)
