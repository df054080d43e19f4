"""Which operation a request asks for: by what it names (service, bucket or object), method and sub-resource."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fuyun.domain.errors import MethodNotAllowed, NotFound, Unsupported
from fuyun.transports.s3 import buckets, configuration, listing, objects, uploads
from fuyun.transports.s3.calls import Answer, Call

Operation = Callable[[Call], Awaitable[Answer]]

#: (level, method, sub-resource) -> operation.
OPERATIONS: dict[tuple[str, str, str], Operation] = {
    ("service", "GET", ""): buckets.list_all,
    ("bucket", "PUT", ""): buckets.create,
    ("bucket", "HEAD", ""): buckets.head,
    ("bucket", "DELETE", ""): buckets.delete,
    ("bucket", "GET", ""): listing.list_v1,
    ("bucket", "GET", "list-type"): listing.list_v2,
    ("bucket", "GET", "versions"): listing.list_versions,
    ("bucket", "GET", "uploads"): uploads.list_uploads,
    ("bucket", "POST", "delete"): objects.delete_many,
    ("bucket", "GET", "location"): buckets.location,
    ("bucket", "GET", "acl"): objects.get_acl,
    ("bucket", "PUT", "acl"): objects.put_acl,
    ("bucket", "GET", "versioning"): configuration.get_versioning,
    ("bucket", "PUT", "versioning"): configuration.put_versioning,
    ("bucket", "GET", "cors"): configuration.get_cors,
    ("bucket", "PUT", "cors"): configuration.put_cors,
    ("bucket", "DELETE", "cors"): configuration.delete_cors,
    ("bucket", "GET", "tagging"): configuration.get_tags,
    ("bucket", "PUT", "tagging"): configuration.put_tags,
    ("bucket", "DELETE", "tagging"): configuration.delete_tags,
    ("bucket", "GET", "website"): configuration.get_website,
    ("bucket", "PUT", "website"): configuration.put_website,
    ("bucket", "DELETE", "website"): configuration.delete_website,
    ("bucket", "GET", "lifecycle"): configuration.get_lifecycle,
    ("bucket", "PUT", "lifecycle"): configuration.put_lifecycle,
    ("bucket", "DELETE", "lifecycle"): configuration.delete_lifecycle,
    ("bucket", "GET", "notification"): configuration.get_notifications,
    ("bucket", "PUT", "notification"): configuration.put_notifications,
    ("bucket", "GET", "logging"): configuration.get_nothing,
    ("bucket", "GET", "accelerate"): configuration.get_nothing,
    ("bucket", "GET", "requestPayment"): configuration.get_payer,
    ("bucket", "GET", "ownershipControls"): configuration.get_ownership,
    ("bucket", "PUT", "ownershipControls"): configuration.put_ownership,
    ("object", "PUT", ""): objects.put,
    ("object", "PUT", "copy"): objects.copy,
    ("object", "GET", ""): objects.get,
    ("object", "HEAD", ""): objects.head,
    ("object", "DELETE", ""): objects.delete,
    ("object", "GET", "attributes"): objects.attributes,
    ("object", "GET", "tagging"): objects.get_tags,
    ("object", "PUT", "tagging"): objects.put_tags,
    ("object", "DELETE", "tagging"): objects.delete_tags,
    ("object", "GET", "acl"): objects.get_acl,
    ("object", "PUT", "acl"): objects.put_acl,
    ("object", "POST", "uploads"): uploads.begin,
    ("object", "PUT", "uploadId"): uploads.put_part,
    ("object", "PUT", "uploadId+copy"): uploads.copy_part,
    ("object", "POST", "uploadId"): uploads.complete,
    ("object", "DELETE", "uploadId"): uploads.abort,
    ("object", "GET", "uploadId"): uploads.list_parts,
}

#: What S3 says a bucket does not have that never had one -> (its code, what that is).
ABSENT: dict[str, tuple[str, str]] = {
    "policy": ("NoSuchBucketPolicy", "policy"),
    "policyStatus": ("NoSuchBucketPolicy", "policy"),
    "encryption": ("ServerSideEncryptionConfigurationNotFoundError", "encryption"),
    "replication": ("ReplicationConfigurationNotFoundError", "replication"),
    "object-lock": ("ObjectLockConfigurationNotFoundError", "object lock"),
    "publicAccessBlock": ("NoSuchPublicAccessBlockConfiguration", "public access block"),
}

#: Query parameters that name a sub-resource: with one that has no row above, the operation is not supported.
SUBRESOURCES = (
    "uploadId", "uploads", "list-type", "versions", "delete", "location", "acl", "versioning", "cors", "tagging",
    "website", "lifecycle", "notification", "attributes", *ABSENT, "accelerate", "analytics", "intelligent-tiering",
    "inventory", "ownershipControls", "legal-hold", "logging", "metadataTable", "metrics", "requestPayment", "restore",
    "retention", "select", "session", "torrent", "append", "renameObject",
)  # fmt: skip


async def _nothing(call: Call) -> Answer:
    """Deleting what no bucket has: it is gone."""
    call.services.buckets.access(call.principal, "deploy", call.bucket)
    return Answer(204)


def operation_of(call: Call) -> Operation:
    """The operation. Unsupported, MethodNotAllowed; NotFound for a configuration that no bucket has here."""
    level = "object" if call.key else "bucket" if call.bucket else "service"
    sub = next((name for name in SUBRESOURCES if name in call.params), "")
    method = call.head.method
    if call.header("x-amz-copy-source") and method == "PUT" and sub in ("", "uploadId"):
        sub = "uploadId+copy" if sub else "copy"
    found = OPERATIONS.get((level, method, sub))
    if found is not None:
        return found
    if level == "bucket" and method == "GET" and sub in ABSENT:
        call.services.buckets.access(call.principal, "read", call.bucket)
        reason, what = ABSENT[sub]
        raise NotFound(
            f"bucket {call.bucket!r} has no {what}", hint="it is not supported here", bucket=call.bucket, reason=reason
        )
    if level == "bucket" and method == "DELETE" and sub in ABSENT:
        return _nothing
    if sub or (method == "POST" and level != "service"):
        raise Unsupported(
            f"{method} with {sub or 'a form'} is not supported", hint="docs/guide/objects.md says what is",
            reason="NotImplemented",
        )  # fmt: skip
    raise MethodNotAllowed(f"a {level} has no {method}", hint="check the request", reason="MethodNotAllowed")
