"""Pieces of answers that several operations give."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from typing import Any

from fuyun.domain.objects import Bucket, Checksum, Details, Object
from fuyun.transports.s3.calls import Answer
from fuyun.transports.s3.documents import document, moment

XML = "application/xml"
DEFAULT_TYPE = "binary/octet-stream"
#: Headers of an object that the client sets and gets back.
KEPT = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "x-amz-website-redirect-location",
)
#: Kept with an object as what it is called; all are stored and read alike, so that each promise of theirs holds.
CLASS = "x-amz-storage-class"
CLASSES = ("STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "REDUCED_REDUNDANCY", "GLACIER_IR")


def class_of(details: Details) -> str:
    """The storage class of an object."""
    return details.headers.get(CLASS, CLASSES[0])


def xml(root: str, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Answer:
    """An answer that is a document."""
    return Answer(200, {"content-type": XML, **(headers or {})}, document(root, content))


def quoted(etag: str) -> str:
    """An ETag as HTTP writes it."""
    return f'"{etag}"'


def version_headers(bucket: Bucket, found: Object) -> dict[str, str]:
    """Of a bucket that has, or had, versions."""
    return {"x-amz-version-id": found.version} if bucket.versioning else {}


def checksum_headers(checksum: Checksum | None) -> dict[str, str]:
    """What was computed, or kept, of an object."""
    if checksum is None:
        return {}
    return {f"x-amz-checksum-{checksum.algorithm.lower()}": checksum.value, "x-amz-checksum-type": checksum.kind}


def checksum_elements(checksum: Checksum | None) -> dict[str, str]:
    """The same in a document."""
    return {} if checksum is None else {f"Checksum{checksum.algorithm}": checksum.value, "ChecksumType": checksum.kind}


def described(bucket: Bucket, found: Object) -> dict[str, str]:
    """Headers that say what an object is."""
    details = found.details
    headers = {
        "content-type": DEFAULT_TYPE,
        **details.headers,
        "etag": quoted(found.etag),
        "last-modified": formatdate(found.created_s, usegmt=True),
        "accept-ranges": "bytes",
        **version_headers(bucket, found),
        **{f"x-amz-meta-{name}": value for name, value in details.metadata.items()},
    }
    if details.tags:
        headers["x-amz-tagging-count"] = str(len(details.tags))
    return headers


def owner(namespace: str) -> dict[str, str]:
    """Owners are namespaces."""
    return {"ID": namespace, "DisplayName": namespace}


def listed(found: Object, namespace: str, key: str, with_owner: bool) -> dict[str, Any]:
    """An object as a list shows it."""
    return {
        "Key": key,
        "LastModified": moment(found.created_s),
        **({} if found.marker else {"ETag": quoted(found.etag), "Size": found.size_bytes}),
        **({} if found.marker else {"StorageClass": class_of(found.details)}),
        **(
            {"ChecksumAlgorithm": found.checksum.algorithm, "ChecksumType": found.checksum.kind}
            if found.checksum
            else {}
        ),
        **({"Owner": owner(namespace)} if with_owner else {}),
    }
