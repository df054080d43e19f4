"""Bytes that become a content: read once, hashed as they pass, checked against what the sender claims of them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from fuyun.base.checksums import Check
from fuyun.domain.errors import BadRequest
from fuyun.domain.objects import Algorithm, Checksum, Content
from fuyun.ports.contents import ContentStore, Tap

#: Bodies up to this size are kept in the database: one commit, shared with others, instead of two more syncs of their
#: own; reading one costs no file (docs/decisions/0031-objects.md).
INLINE_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What the sender says of a body; "" and None where it says nothing. `md5` and the checksum's value are base64,
    `sha256` is hex. `value` is asked for after the body: it may stand behind it."""

    md5: str = ""
    sha256: str = ""
    algorithm: Algorithm | None = None
    value: Callable[[], str] = lambda: ""


NO_CLAIMS = Claims()


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A content that came whole. A file is held while the context of `receive` lasts."""

    content: Content
    etag: str
    checksum: Checksum | None


@asynccontextmanager
async def receive(
    contents: ContentStore, body: AsyncIterable[bytes], claims: Claims, inline_bytes: int = INLINE_BYTES
) -> AsyncIterator[Received]:
    """The content of `body`: up to `inline_bytes` as a body, else in the content store. BadRequest when it is not what
    is claimed; whatever `body` raises; StorageFull."""
    md5 = hashlib.md5(usedforsecurity=False)
    check = Check(claims.algorithm) if claims.algorithm else None
    taps: list[Tap] = [md5, *([check] if check else [])]
    async with AsyncExitStack() as stack:
        few = bytearray()
        receiver = None
        async for piece in body:
            if receiver is None:
                few += piece
                if len(few) <= inline_bytes:
                    continue
                receiver = await stack.enter_async_context(contents.receive(taps))
                piece = bytes(few)
            await receiver.write(piece)
        if receiver is not None:
            content = await receiver.finish()
        else:
            whole = bytes(few)
            for tap in taps:
                tap.update(whole)
            content = Content(digest=hashlib.sha256(whole).hexdigest(), size_bytes=len(whole), body=whole)
        _verify(claims, content, md5.digest(), check)
        checksum = Checksum(algorithm=claims.algorithm, value=check.value) if claims.algorithm and check else None
        yield Received(content=content, etag=md5.hexdigest(), checksum=checksum)


def _verify(claims: Claims, content: Content, md5: bytes, check: Check | None) -> None:
    if claims.md5 and claims.md5 != (found := base64.b64encode(md5).decode()):
        raise BadRequest(
            f"the body has Content-MD5 {found}, not {claims.md5}", hint="send it again", reason="BadDigest"
        )
    if claims.sha256 and claims.sha256 != content.digest:
        raise BadRequest(
            f"the body has SHA-256 {content.digest}, not the signed {claims.sha256}", hint="send it again",
            reason="XAmzContentSHA256Mismatch",
        )  # fmt: skip
    claimed = claims.value() if check else ""
    if check and claimed and claimed != check.value:
        raise BadRequest(
            f"the body has {check.algorithm} {check.value}, not {claimed}", hint="send it again", reason="BadDigest"
        )
