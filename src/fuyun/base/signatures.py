"""Signature Version 4 as both sides compute it.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"


@lru_cache(maxsize=256)
def signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    """What signs for a day, a region and a service."""
    key = mac(f"AWS4{secret}".encode(), day)
    for text in (region, service, "aws4_request"):
        key = mac(key, text)
    return key


def mac(key: bytes, text: str) -> bytes:
    """HMAC-SHA256."""
    return hmac.digest(key, text.encode("utf-8", "surrogateescape"), "sha256")


def signature(key: bytes, at: str, scope: str, canonical: str) -> str:
    """Of a canonical request."""
    digest = hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
    return mac(key, "\n".join((ALGORITHM, at, scope, digest))).hex()


def canonical_request(
    method: str, path: str, pairs: Iterable[tuple[str, str]], headers: Mapping[str, str], payload: str
) -> str:
    """`path` is encoded, `pairs` (of the query) are not; `headers` are those that are signed, in their order."""
    encoded = sorted((_encode(name), _encode(value)) for name, value in pairs)
    query = "&".join(f"{name}={value}" for name, value in encoded)
    named = [f"{name}:{value}" for name, value in headers.items()]
    return "\n".join((method, path, query, *named, "", ";".join(headers), payload))


def stamp(at_s: float) -> str:
    """A time as signatures have it: 20260131T073000Z."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y%m%dT%H%M%SZ")


def presigned(method: str, url: str, access: Sequence[str], lasts_s: int, now_s: float) -> str:
    """`url` (whose path is encoded, without a query) with a signature by `access` (key, secret, region) for S3."""
    key, secret, region = access
    at = stamp(now_s)
    scope = f"{at[:8]}/{region}/s3/aws4_request"
    parts = urlsplit(url)
    pairs = {
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{key}/{scope}",
        "X-Amz-Date": at,
        "X-Amz-Expires": str(lasts_s),
        "X-Amz-SignedHeaders": "host",
    }
    canonical = canonical_request(method, parts.path, pairs.items(), {"host": parts.netloc}, UNSIGNED)
    found = signature(signing_key(secret, at[:8], region, "s3"), at, scope, canonical)
    query = "&".join(f"{name}={_encode(value)}" for name, value in pairs.items())
    return f"{url}?{query}&X-Amz-Signature={found}"


def _encode(text: str) -> str:
    return quote(text.encode("utf-8", "surrogateescape"), safe="~")
