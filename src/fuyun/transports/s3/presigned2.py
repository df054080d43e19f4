"""Signature Version 2 of presigned addresses, verified: what boto3 and older clients make unless told otherwise.

https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html, "Query string request authentication".
Only addresses are taken that way: whoever signs headers can sign them by Version 4. Pure, as `signing`.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Sequence
from urllib.parse import unquote, unquote_plus

from fuyun.base.signatures import UNSIGNED
from fuyun.domain.errors import BadRequest
from fuyun.transports.s3.signing import HOISTED, LONGEST_S, SKEW_S, Head, Signed, refusal

#: Parameters whose values are part of what is signed: they change what is asked.
_SIGNED = frozenset({
    "accelerate", "acl", "analytics", "cors", "defaultObjectAcl", "delete", "inventory", "lifecycle", "location",
    "logging", "metrics", "notification", "object-lock", "partNumber", "policy", "replication", "requestPayment",
    "response-cache-control", "response-content-disposition", "response-content-encoding",
    "response-content-language", "response-content-type", "response-expires", "restore", "select", "select-type",
    "storageClass", "tagging", "torrent", "uploadId", "uploads", "versionId", "versioning", "versions", "website",
})  # fmt: skip
#: Those that change only which page of a list is shown, and what clients say of themselves: not signed, as in S3.
_FREE = frozenset({
    "AWSAccessKeyId", "Signature", "Expires", "list-type", "prefix", "delimiter", "marker", "max-keys", "encoding-type",
    "continuation-token", "start-after", "fetch-owner", "key-marker", "version-id-marker", "upload-id-marker",
    "max-uploads", "part-number-marker", "max-parts", "x-id", "content-type", "content-md5",
})  # fmt: skip
_SPACES = re.compile(r"\s+")


def is_presigned2(names: set[str]) -> bool:
    """Whether an address with parameters of these names is presigned by Signature Version 2."""
    return {"AWSAccessKeyId", "Signature"} <= names


def verify2(
    head: Head, pairs: Sequence[tuple[str, str]], secret_of: Callable[[str], str], now_s: float, host_bucket: str
) -> Signed:
    """Who made the address. Forbidden or BadRequest. `head` is that of `signing.with_hoisted`; `host_bucket` the bucket
    that the host names, "" if none."""
    fields = dict(pairs)
    expires = fields.get("Expires", "")
    if not expires.isdigit() or len(expires) > 12:
        raise BadRequest(
            "Expires is missing or wrong: seconds since the epoch", hint="make a new address",
            reason="AuthorizationQueryParametersError",
        )  # fmt: skip
    if int(expires) < now_s:
        raise refusal("AccessDenied", f"the URL expired at {expires}, seconds since the epoch", "make a new one")
    if int(expires) > now_s + LONGEST_S + SKEW_S:
        raise refusal("AccessDenied", f"the URL is good for more than {LONGEST_S} s", "make one that is good for less")
    free = [name for name, _ in pairs if name not in _SIGNED and name not in _FREE and not name.startswith(HOISTED)]
    if free:  # else whoever has the address could ask for more than it is for
        raise refusal("AccessDenied", f"parameter {free[0][:60]!r} is not signed", "use Signature Version 4")
    access_key = fields["AWSAccessKeyId"]
    secret = secret_of(access_key).encode()
    # Clients sign a bucket's path with a slash at its end, or as they send it.
    paths = dict.fromkeys((head.path, head.path if head.path.count("/") > 1 else f"{head.path}/"))
    texts = [_string_to_sign(head, f"/{host_bucket}{path}" if host_bucket else path, expires) for path in paths]
    wanted = [base64.b64encode(hmac.digest(secret, text.encode("utf-8", "surrogateescape"), "sha1")) for text in texts]
    sent = fields["Signature"].encode("utf-8", "replace")
    if not any([hmac.compare_digest(one, sent) for one in wanted]):  # noqa: C419 - all of them, whichever it is
        raise refusal(
            "SignatureDoesNotMatch", "the signature is not the one this request has with that key's secret",
            "send just the Content-Type, Content-MD5 and x-amz- headers that the address was made for",
        )  # fmt: skip
    return Signed(
        access_key=access_key, payload=UNSIGNED, signature="", at="", scope="", key=b"", presigned=True
    )  # fmt: skip


def _string_to_sign(head: Head, resource: str, expires: str) -> str:
    amz: dict[str, list[str]] = {}
    for name, value in head.headers:
        if name.startswith("x-amz-"):
            amz.setdefault(name, []).append(_SPACES.sub(" ", value.strip()))
    lines = [f"{name}:{','.join(values)}" for name, values in sorted(amz.items())]
    signed = sorted((pair for pair in _raw_pairs(head.query) if pair[0] in _SIGNED), key=lambda pair: pair[0])
    if signed:
        named = (name if value is None else f"{name}={unquote(value)}" for name, value in signed)
        resource += "?" + "&".join(named)
    return "\n".join([head.method, head.header("content-md5"), head.header("content-type"), expires, *lines, resource])


def _raw_pairs(query: str) -> list[tuple[str, str | None]]:
    """Names with their values as they came; None for one that has no `=`."""
    found: list[tuple[str, str | None]] = []
    for item in query.split("&"):
        name, sign, value = item.partition("=")
        if name:
            found.append((unquote_plus(name), value if sign else None))
    return found
