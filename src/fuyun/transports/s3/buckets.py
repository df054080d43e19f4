"""Operations on buckets: made, listed, deleted, found."""

from __future__ import annotations

from fuyun.domain.errors import Conflict, Unsupported
from fuyun.domain.names import DEFAULT_NAMESPACE
from fuyun.transports.s3.answers import XML, owner, xml
from fuyun.transports.s3.calls import Answer, Call
from fuyun.transports.s3.configuration import OWNERSHIP
from fuyun.transports.s3.documents import moment, parse
from fuyun.transports.s3.listing import limit_of

#: Header in which a key of the platform says whose a new bucket is; other keys say it themselves.
NAMESPACE = "fuyun-namespace"
_REGION = "us-east-1"


def _namespace(call: Call) -> str:
    own = call.principal.namespace
    return call.header(NAMESPACE) or (DEFAULT_NAMESPACE if own == "*" else own)


async def list_all(call: Call) -> Answer:
    """ListBuckets: those of the key's namespace; a key of the platform sees all."""
    limit = limit_of(call, "max-buckets", 10_000)
    namespace = call.header(NAMESPACE) or call.principal.namespace
    prefix = call.params.get("prefix", "")
    found, after = [], call.params.get("continuation-token", "")
    while page := await call.services.buckets.list_buckets(call.principal, namespace, after):
        found += [bucket for bucket in page if bucket.name.startswith(prefix)]
        after = page[-1].name
        if len(found) > limit:
            break
    content = {
        "Owner": owner(namespace),
        "Buckets": {
            "Bucket": [
                {"Name": one.name, "CreationDate": moment(one.created_s), "BucketRegion": one.region}
                for one in found[:limit]
            ]
        },
        "Prefix": prefix or None,
        "ContinuationToken": found[limit - 1].name if len(found) > limit > 0 else None,
    }
    return xml("ListAllMyBucketsResult", content)


async def create(call: Call) -> Answer:
    """CreateBucket."""
    region = _REGION
    body = await call.document()
    if body:
        node = parse(body, "CreateBucketConfiguration").only("LocationConstraint")
        region = node.get("LocationConstraint") or region
    if call.header("x-amz-object-ownership") not in ("", OWNERSHIP):
        raise Unsupported("only the bucket's owner owns objects", hint=OWNERSHIP, reason="NotImplemented")
    try:
        await call.services.buckets.create_bucket(
            call.principal, _namespace(call), call.bucket, region[:63], call.source
        )
    except Conflict as error:
        if error.fields.get("reason") != "BucketAlreadyOwnedByYou" or region != _REGION:
            raise
        # As S3 does in us-east-1: making again what one has is no error.
    return Answer(200, {"location": f"/{call.bucket}"})


async def head(call: Call) -> Answer:
    """HeadBucket."""
    found = call.services.buckets.access(call.principal, "read objects", call.bucket)
    return Answer(200, {"x-amz-bucket-region": found.region, "content-type": XML})


async def delete(call: Call) -> Answer:
    """DeleteBucket."""
    await call.services.buckets.delete_bucket(call.principal, call.bucket, call.source)
    return Answer(204)


async def location(call: Call) -> Answer:
    """GetBucketLocation: "" is us-east-1."""
    found = call.services.buckets.access(call.principal, "read", call.bucket)
    answer = xml("LocationConstraint", {})
    text = b"" if found.region == _REGION else found.region.encode()
    assert isinstance(answer.body, bytes)
    return Answer(200, answer.headers, answer.body.replace(b"></", b">" + text + b"</"))
