"""Signature Version 4, verified: in the Authorization header, in a presigned URL, and of chunks of a body.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html. Pure: the time and the secret of a
key are passed in. Comparisons take the same time whatever differs.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import quote, unquote_plus, unquote_to_bytes

from fuyun.base.signatures import ALGORITHM, UNSIGNED, canonical_request, mac, signature, signing_key, stamp
from fuyun.domain.errors import BadRequest, Forbidden, FuyunError, Unauthenticated

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
#: A request may be that old, or from that far in the future; a presigned URL may be good for that long. As in S3.
SKEW_S = 900.0
LONGEST_S = 604_800

#: Beginning of parameters that stand for headers.
HOISTED = "x-amz-"

_CREDENTIAL = re.compile(r"([^/\s]{1,128})/([0-9]{8})/([A-Za-z0-9-]{1,64})/([a-z0-9-]{1,32})/aws4_request")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_SPACES = re.compile(r" +")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A request without its body. `path` and `query` are as they came, percent-encoded; header names lower-case."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]

    def header(self, name: str) -> str:
        """The header's value; "" when it is missing."""
        return next((value for known, value in self.headers if known == name), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A verified request: by which key, what it says of its body, and what its chunks are signed with."""

    access_key: str
    payload: str
    signature: str
    at: str
    scope: str
    key: bytes
    presigned: bool


def pairs_of(query: str) -> list[tuple[str, str]]:
    """The parameters of a query string in order, decoded; one without a value has ""."""
    found = []
    for item in query.split("&"):
        if item:
            name, _, value = item.partition("=")
            found.append((unquote_plus(name, errors="surrogateescape"), unquote_plus(value, errors="surrogateescape")))
    return found


def with_hoisted(head: Head, pairs: Sequence[tuple[str, str]]) -> Head:
    """The request with the headers that its presigned address holds as parameters, as S3 takes them: those that begin
    with `x-amz-`, unless they are sent."""
    known = {name for name, _ in head.headers}
    hoisted = [(name, value) for name, value in pairs if name.startswith(HOISTED) and name not in known]
    return replace(head, headers=[*head.headers, *hoisted]) if hoisted else head


def refusal(reason: str, detail: str, hint: str = "") -> FuyunError:
    """A request that proves nothing."""
    return Forbidden(detail, hint=hint or "check the access key, the secret and the clock", reason=reason)


def verify(head: Head, secret_of: Callable[[str], str], now_s: float) -> Signed:
    """Who signed the request. Unauthenticated when nobody did, Forbidden or BadRequest saying what is wrong.
    `secret_of` raises for a key that is not known."""
    scheme, _, rest = head.header("authorization").partition(" ")
    pairs = pairs_of(head.query)
    names = {name for name, _ in pairs}
    if scheme == ALGORITHM:
        if "X-Amz-Signature" in names:
            raise _malformed("the request is signed twice, by header and by query", "use one of them")
        return _by_header(head, pairs, rest, secret_of, now_s)
    if "X-Amz-Algorithm" in names or "X-Amz-Signature" in names:
        return _by_query(head, pairs, secret_of, now_s)
    if scheme or "Signature" in names:
        raise _malformed("the request is not signed with Signature Version 4", f"sign it with {ALGORITHM}")
    raise Unauthenticated("the request is not signed", hint="use an access key: fuyun key s3 ID", reason="AccessDenied")


def _malformed(detail: str, hint: str) -> BadRequest:
    return BadRequest(detail, hint=hint, reason="AuthorizationHeaderMalformed")


def _by_header(
    head: Head, pairs: list[tuple[str, str]], text: str, secret_of: Callable[[str], str], now_s: float
) -> Signed:
    fields = dict(item.strip().partition("=")[::2] for item in text.split(","))
    at = head.header("x-amz-date") or _iso(head.header("date"))
    if abs(_seconds(at) - now_s) > SKEW_S:
        raise refusal(
            "RequestTimeTooSkewed",
            f"the request was made at {at}; here it is {stamp(now_s)}",
            "set the client's clock",
        )
    payload = head.header("x-amz-content-sha256")
    if not payload:
        raise BadRequest(
            "x-amz-content-sha256 is missing",
            hint="send the body's SHA-256 or UNSIGNED-PAYLOAD",
            reason="InvalidRequest",
        )
    parts = _Parts(fields.get("Credential", ""), fields.get("SignedHeaders", ""), fields.get("Signature", ""), at)
    return _check(head, pairs, parts, payload, secret_of, False)


def _by_query(head: Head, pairs: list[tuple[str, str]], secret_of: Callable[[str], str], now_s: float) -> Signed:
    fields = dict(pairs)
    if fields.get("X-Amz-Algorithm") != ALGORITHM:
        raise _query("X-Amz-Algorithm", f"only {ALGORITHM} is known")
    at, lasts = fields.get("X-Amz-Date", ""), fields.get("X-Amz-Expires", "")
    if not lasts.isdigit() or not 0 < int(lasts[:9]) <= LONGEST_S:
        raise _query("X-Amz-Expires", f"seconds from 1 to {LONGEST_S}")
    begun_s = _seconds(at)
    if now_s > begun_s + int(lasts):
        raise refusal("AccessDenied", f"the URL was good until {stamp(begun_s + int(lasts))}", "make a new one")
    if begun_s - now_s > SKEW_S:
        raise refusal("AccessDenied", "the URL is not valid yet", "set the clock of who made it")
    payload = fields.get("X-Amz-Content-Sha256") or head.header("x-amz-content-sha256") or UNSIGNED
    signed = [pair for pair in pairs if pair[0] != "X-Amz-Signature"]
    parts = _Parts(
        fields.get("X-Amz-Credential", ""), fields.get("X-Amz-SignedHeaders", ""), fields.get("X-Amz-Signature", ""), at
    )
    return _check(head, signed, parts, payload, secret_of, True)


def _query(name: str, wanted: str) -> BadRequest:
    return BadRequest(f"{name} is missing or wrong: {wanted}", reason="AuthorizationQueryParametersError")


@dataclass(frozen=True, slots=True)
class _Parts:
    credential: str
    names: str
    signature: str
    at: str


def _check(
    head: Head, pairs: list[tuple[str, str]], parts: _Parts, payload: str, secret_of: Callable[[str], str],
    presigned: bool,
) -> Signed:  # fmt: skip
    found = _CREDENTIAL.fullmatch(parts.credential)
    if found is None or not _SIGNATURE.fullmatch(parts.signature):
        raise _malformed("the credential or the signature is not of Signature Version 4", "check the client")
    access_key, day, region, service = found.groups()
    if service != "s3" or day != parts.at[:8]:
        raise _malformed(f"the credential is for {service} on {day}", f"sign for s3 on {parts.at[:8]}")
    names = parts.names.split(";")
    known = dict.fromkeys(name for name, _ in head.headers)
    # Else whoever has an address that is good for a write could make a copy of another object of it.
    unsigned = [
        name for name in known if name.startswith("x-amz-") and name not in names and name != "x-amz-content-sha256"
    ]
    if "host" not in names or unsigned:
        raise refusal("AccessDenied", f"header {(unsigned or ['host'])[0]!r} is not signed", "sign it")
    scope = f"{day}/{region}/{service}/aws4_request"
    key = signing_key(secret_of(access_key), day, region, service)
    values = {name: ",".join(_values(head, name)) for name in names}
    # Clients sign the path as S3 writes it, or as they have sent it; they differ where they escape less than S3.
    paths = dict.fromkeys((quote(unquote_to_bytes(head.path), safe="/~") or "/", head.path))
    canonical = [canonical_request(head.method, path, pairs, values, payload) for path in paths]
    if not any(hmac.compare_digest(signature(key, parts.at, scope, text), parts.signature) for text in canonical):
        raise refusal("SignatureDoesNotMatch", "the signature is not the one this request has with that key's secret")
    return Signed(
        access_key=access_key, payload=payload, signature=parts.signature, at=parts.at, scope=scope, key=key,
        presigned=presigned,
    )  # fmt: skip


def _values(head: Head, name: str) -> list[str]:
    return [_SPACES.sub(" ", value.strip()) for known, value in head.headers if known == name]


def _seconds(at: str) -> float:
    try:
        return datetime.strptime(at, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise refusal("AccessDenied", f"{at[:40]!r} is no time like 20260131T120000Z", "send X-Amz-Date") from None


def _iso(date: str) -> str:
    """An HTTP date as Signature Version 4 writes it; "" when it is none."""
    try:
        return datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").strftime("%Y%m%dT%H%M%SZ")
    except ValueError:
        return ""


class ChunkSigner:
    """Follows the signatures of a body's chunks, each of which covers the one before it."""

    def __init__(self, signed: Signed) -> None:
        self._signed = signed
        self._last = signed.signature

    def check_chunk(self, digest: str, signature: str) -> None:
        """Forbidden unless `signature` is that of the next chunk, whose SHA-256 is `digest`."""
        self._check(f"{ALGORITHM}-PAYLOAD", (EMPTY_SHA256, digest), signature)

    def check_trailer(self, text: bytes, signature: str) -> None:
        """Forbidden unless `signature` is that of the trailer `text` (lines `name:value`)."""
        self._check(f"{ALGORITHM}-TRAILER", (hashlib.sha256(text).hexdigest(),), signature)

    def _check(self, kind: str, digests: tuple[str, ...], signature: str) -> None:
        signed = self._signed
        wanted = mac(signed.key, "\n".join((kind, signed.at, signed.scope, self._last, *digests))).hex()
        if not hmac.compare_digest(wanted.encode(), signature.encode("utf-8", "replace")):
            raise refusal("SignatureDoesNotMatch", "a chunk of the body does not have the signature it is sent with")
        self._last = wanted
