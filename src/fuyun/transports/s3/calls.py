"""One request as an operation sees it, and the answers it may give."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from fuyun.base.checksums import ALGORITHMS
from fuyun.base.signatures import UNSIGNED
from fuyun.domain.errors import BadRequest, RequestTimedOut, Unsupported
from fuyun.domain.tenants import Principal
from fuyun.services.buckets import Buckets
from fuyun.services.objects import Objects, Stretch
from fuyun.services.receiving import Claims
from fuyun.services.tenants import Tenants
from fuyun.services.uploads import Uploads
from fuyun.transports.s3.chunked import Chunks
from fuyun.transports.s3.documents import DOCUMENT_BYTES, check_md5
from fuyun.transports.s3.signing import ChunkSigner, Head, Signed

_STREAMING = "STREAMING-"
#: Values of x-amz-content-sha256 that announce chunks -> (chunks are signed, a trailer follows).
_STREAMS = {
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD": (True, False),
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": (True, True),
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER": (False, True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What S3 calls. `domain` is behind `BUCKET.s3.` and `BUCKET.s3-website.` in host names."""

    tenants: Tenants
    buckets: Buckets
    objects: Objects
    uploads: Uploads
    domain: str = "localhost"
    body_idle_s: float = 20.0  # a client may pause that long while sending


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer. `body` is bytes, or pieces (of files, where the call has `zerocopy`) whose sum `content-length` in
    `headers` says."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | AsyncIterator[bytes | Stretch] = b""


@dataclass(slots=True, kw_only=True)
class Call:
    """A request whose signature was verified. `key` is "" when it is about a bucket; `bucket` too when it is not."""

    services: Services
    head: Head
    params: Mapping[str, str]
    bucket: str
    key: str
    principal: Principal
    signed: Signed
    source: str
    id: str
    receive: Receive
    zerocopy: bool = False  # whether the server sends files
    chunks: Chunks | None = None

    def header(self, name: str) -> str:
        """A header's value; "" when it is missing."""
        return self.head.header(name)

    @property
    def size_bytes(self) -> int:
        """Bytes of payload the request declares; -1 when it does not."""
        text = self.header("x-amz-decoded-content-length") if self._streams else self.header("content-length")
        return int(text) if text.isdigit() and len(text) < 16 else -1

    @property
    def _streams(self) -> bool:
        return self.signed.payload.startswith(_STREAMING)

    async def document(self) -> bytes:
        """The whole of a small body, checked against what it is signed and sent with."""
        body = bytearray()
        async for piece in self.body(DOCUMENT_BYTES):
            body += piece
        whole = bytes(body)
        check_md5(whole, self.header("content-md5"))
        if self._hashed and hashlib.sha256(whole).hexdigest() != self.signed.payload:
            raise BadRequest("the body does not have the SHA-256 it is signed with", reason="XAmzContentSHA256Mismatch")
        return whole

    @property
    def _hashed(self) -> bool:
        return not self._streams and self.signed.payload != UNSIGNED

    def claims(self) -> Claims:
        """What the request says of its body. BadRequest."""
        md5 = self.header("content-md5")
        if md5 and (len(md5) != 24 or not md5.endswith("==")):
            raise BadRequest("Content-MD5 is no base64 of 16 bytes", hint="correct or drop it", reason="InvalidDigest")
        algorithm, value = self._checksum()
        return Claims(
            md5=md5, sha256=self.signed.payload if self._hashed else "", algorithm=algorithm,
            value=lambda: value or self._trailing(algorithm),
        )  # fmt: skip

    def _checksum(self) -> tuple[Any, str]:
        """The algorithm the body is to be checked with, and the checksum where it stands among the headers."""
        given = [name for name in ALGORITHMS if self.header(f"x-amz-checksum-{name.lower()}")]
        trailing = self.header("x-amz-trailer").lower().strip()
        announced = [name for name in ALGORITHMS if trailing == f"x-amz-checksum-{name.lower()}"]
        if len(given) + len(announced) > 1:
            raise BadRequest("more than one checksum is given", hint="give one", reason="InvalidRequest")
        if trailing and not announced:
            raise BadRequest(f"trailer {trailing[:60]!r} is not known", reason="InvalidRequest")
        wanted = self.header("x-amz-sdk-checksum-algorithm").upper()
        if given or announced:
            name = (given or announced)[0]
            return name, self.header(f"x-amz-checksum-{name.lower()}") if given else ""
        if wanted and wanted not in ALGORITHMS:
            raise BadRequest(f"{wanted[:40]!r} is no checksum", hint=", ".join(ALGORITHMS), reason="InvalidRequest")
        return wanted or None, ""

    def _trailing(self, algorithm: str | None) -> str:
        if self.chunks is None or algorithm is None:
            return ""
        return self.chunks.trailers.get(f"x-amz-checksum-{algorithm.lower()}", "")

    async def body(self, most_bytes: int) -> AsyncIterator[bytes]:
        """The payload as it arrives, out of its chunks. BadRequest when it is over `most_bytes` or not what it says."""
        if self.size_bytes > most_bytes:
            raise _too_large(most_bytes)
        chunks = self.chunks = self._decoder()
        taken = 0
        async for data in self._arriving():
            for piece in chunks.feed(data) if chunks else (data,):
                taken += len(piece)
                if taken > most_bytes:
                    raise _too_large(most_bytes)
                yield piece
        if chunks:
            chunks.end()
            if taken != self.size_bytes:
                raise BadRequest(
                    f"{taken} bytes came, x-amz-decoded-content-length says {self.size_bytes}", reason="IncompleteBody"
                )

    def _decoder(self) -> Chunks | None:
        if not self._streams:
            return None
        known = _STREAMS.get(self.signed.payload)
        if known is None:
            raise Unsupported(f"{self.signed.payload[:60]} is not supported", hint="sign with Signature Version 4")
        signed, trailer = known
        return Chunks(ChunkSigner(self.signed) if signed else None, trailer)

    async def _arriving(self) -> AsyncIterator[bytes]:
        idle_s = self.services.body_idle_s
        while True:
            try:
                async with asyncio.timeout(idle_s):
                    message = await self.receive()
            except TimeoutError:
                raise RequestTimedOut(f"no byte of the body arrived for {idle_s:g} s", hint="send it at once") from None
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            if body := message.get("body", b""):
                yield body
            if not message.get("more_body", False):
                return


def _too_large(most_bytes: int) -> BadRequest:
    return BadRequest(f"the body is over {most_bytes} bytes", hint="upload it in parts", reason="EntityTooLarge")


def place_of(host: str, path: str, domain: str) -> tuple[str, str]:
    """Bucket and key of a request: of the path, or of the host name `BUCKET.s3.DOMAIN` and the path. BadRequest."""
    try:
        plain = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise BadRequest("the path is not UTF-8", hint="encode keys as UTF-8", reason="InvalidURI") from None
    bucket = named_by_host(host, f".s3.{domain}")
    if bucket:
        return bucket, plain[1:]
    bucket, _, key = plain[1:].partition("/")
    return bucket, key


def named_by_host(host: str, ending: str) -> str:
    """The bucket that a host name ending in `ending` names; "" when it does not."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.lower()
    return name.removesuffix(ending) if name.endswith(ending) else ""
