"""What S3 calls an error, and the XML it is told in. The only table of its kind.

https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. An error's `reason` is S3's code where there is one
of just that meaning; every other error has the code of its class.
"""

from __future__ import annotations

from fuyun.domain.errors import FuyunError
from fuyun.transports.s3.documents import text
from fuyun.transports.web.statuses import status_of

#: S3's code -> HTTP status.
STATUSES: dict[str, int] = {
    "AccessDenied": 403,
    "AuthorizationHeaderMalformed": 400,
    "AuthorizationQueryParametersError": 400,
    "BadDigest": 400,
    "BadRequest": 400,
    "BucketAlreadyExists": 409,
    "BucketAlreadyOwnedByYou": 409,
    "BucketNotEmpty": 409,
    "EntityTooLarge": 400,
    "EntityTooSmall": 400,
    "IncompleteBody": 400,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidArgument": 400,
    "InvalidBucketName": 400,
    "InvalidDigest": 400,
    "InvalidPart": 400,
    "InvalidPartNumber": 416,
    "InvalidPartOrder": 400,
    "InvalidRange": 416,
    "InvalidRequest": 400,
    "InvalidStorageClass": 400,
    "InvalidTag": 400,
    "InvalidURI": 400,
    "KeyTooLongError": 400,
    "MalformedXML": 400,
    "MetadataTooLarge": 400,
    "MethodNotAllowed": 405,
    "MissingContentLength": 411,
    "NoSuchBucket": 404,
    "NoSuchBucketPolicy": 404,
    "NoSuchCORSConfiguration": 404,
    "NoSuchKey": 404,
    "NoSuchLifecycleConfiguration": 404,
    "NoSuchPublicAccessBlockConfiguration": 404,
    "NoSuchTagSet": 404,
    "NoSuchUpload": 404,
    "NoSuchVersion": 404,
    "NoSuchWebsiteConfiguration": 404,
    "NotImplemented": 501,
    "ObjectLockConfigurationNotFoundError": 404,
    "OperationAborted": 409,
    "OwnershipControlsNotFoundError": 404,
    "PreconditionFailed": 412,
    "QuotaExceeded": 403,
    "ReplicationConfigurationNotFoundError": 404,
    "RequestTimeTooSkewed": 403,
    "RequestTimeout": 400,
    "ServerSideEncryptionConfigurationNotFoundError": 404,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
    "StorageFull": 507,
    "TooManyBuckets": 400,
    "XAmzContentChecksumMismatch": 400,
    "XAmzContentSHA256Mismatch": 400,
}

#: What S3 says of a code, word by word: people and programs know it. What was found stands beside it.
_WORDS: dict[str, str] = {
    "BucketAlreadyExists": "The requested bucket name is not available. The bucket namespace is shared by all users of "
    "the system. Please select a different name and try again.",
    "BucketAlreadyOwnedByYou": "Your previous request to create the named bucket succeeded and you already own it.",
    "BucketNotEmpty": "The bucket you tried to delete is not empty",
    "EntityTooSmall": "Your proposed upload is smaller than the minimum allowed object size.",
    "InvalidRange": "The requested range is not satisfiable",
    "InvalidStorageClass": "The storage class you specified is not valid",
    "NoSuchBucket": "The specified bucket does not exist",
    "NoSuchBucketPolicy": "The bucket policy does not exist",
    "NoSuchCORSConfiguration": "The CORS configuration does not exist",
    "NoSuchKey": "The specified key does not exist.",
    "NoSuchLifecycleConfiguration": "The lifecycle configuration does not exist",
    "NoSuchPublicAccessBlockConfiguration": "The public access block configuration was not found",
    "NoSuchTagSet": "The TagSet does not exist",
    "NoSuchUpload": "The specified upload does not exist. The upload ID may be invalid, or the upload may have been "
    "aborted or completed.",
    "NoSuchVersion": "The specified version does not exist.",
    "NoSuchWebsiteConfiguration": "The specified bucket does not have a website configuration",
    "ObjectLockConfigurationNotFoundError": "Object Lock configuration does not exist for this bucket",
    "PreconditionFailed": "At least one of the pre-conditions you specified did not hold",
    "ReplicationConfigurationNotFoundError": "The replication configuration was not found",
    "ServerSideEncryptionConfigurationNotFoundError": "The server side encryption configuration was not found",
    "SignatureDoesNotMatch": "The request signature we calculated does not match the signature you provided. Check "
    "your key and signing method.",
}

#: Fields of errors -> elements in which S3 tells them.
_ELEMENTS = {
    "condition": "Condition",
    "bucket": "BucketName",
    "version": "VersionId",
    "range": "RangeRequested",
    "size_bytes": "ActualObjectSize",
}

#: Code of an error's class -> S3's code, for errors without a reason.
_CLASSES: dict[str, str] = {
    "bad_request": "InvalidRequest",
    "unauthenticated": "AccessDenied",
    "forbidden": "AccessDenied",
    "not_found": "NoSuchKey",
    "method_not_allowed": "MethodNotAllowed",
    "conflict": "OperationAborted",
    "precondition_failed": "PreconditionFailed",
    "payload_too_large": "EntityTooLarge",
    "request_timed_out": "RequestTimeout",
    "unsupported": "NotImplemented",
    "quota_exceeded": "QuotaExceeded",
    "storage_full": "StorageFull",
    "unavailable": "SlowDown",
}


def code_of(error: FuyunError) -> tuple[str, int]:
    """S3's code for an error, and the HTTP status. What the table does not know keeps its own status."""
    code = str(error.fields.get("reason") or _CLASSES.get(error.code, ""))
    if code in STATUSES:
        return code, STATUSES[code]
    return "InternalError", max(500, status_of(error))


def error_document(error: FuyunError, code: str, resource: str, id_: str) -> bytes:
    """The body that tells of it."""
    found = error.detail + (f"; {error.hint}" if error.hint else "")
    parts = {"Code": code, "Message": found, "Resource": resource, "RequestId": id_, "HostId": "fuyun"}
    if code in _WORDS:
        parts |= {"Message": _WORDS[code], "Detail": found}
    named = {"object": "Key", "bucket": "BucketName", "upload": "UploadId"}.get(str(error.fields.get("kind", "")), "")
    if named:
        parts[named] = str(error.fields.get("name", ""))
    for field, element in _ELEMENTS.items():
        if field in error.fields:
            parts[element] = str(error.fields[field])
    inner = "".join(f"<{name}>{text(value)}</{name}>" for name, value in parts.items())
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inner}</Error>'.encode()
