"""Bodies in chunks: what the reader takes, and what it refuses, however it is cut."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.domain.errors import BadRequest, Forbidden, FuyunError
from fuyun.transports.s3.chunked import LINE_BYTES, Chunks
from fuyun.transports.s3.signing import EMPTY_SHA256, ChunkSigner, Signed
from tests.transports.s3.clients import Served, signed

SIGNED = Signed(
    access_key="k", payload="", signature="0" * 64, at="20260131T073000Z", scope="20260131/us-east-1/s3/aws4_request",
    key=b"key", presigned=False,
)  # fmt: skip


def mac(last: str, kind: str, *digests: str) -> str:
    text = "\n".join((f"AWS4-HMAC-SHA256-{kind}", SIGNED.at, SIGNED.scope, last, *digests))
    return hmac.digest(SIGNED.key, text.encode(), "sha256").hex()


def encoded(pieces: Sequence[bytes], trailer: bytes = b"", sign: bool = True) -> bytes:
    """As a client encodes them."""
    body, last = b"", SIGNED.signature
    for piece in (*pieces, b""):
        last = mac(last, "PAYLOAD", EMPTY_SHA256, hashlib.sha256(piece).hexdigest())
        body += f"{len(piece):x}".encode() + (f";chunk-signature={last}".encode() if sign else b"") + b"\r\n"
        body += piece + b"\r\n" if piece else b""
    if trailer:
        body += trailer + b"\r\n"
        if sign:
            signature = mac(last, "TRAILER", hashlib.sha256(trailer + b"\n").hexdigest())
            body += f"x-amz-trailer-signature:{signature}\r\n".encode()
    return body + b"\r\n"


def decode(body: bytes, cuts: Sequence[int] = (), sign: bool = True, trailer: bool = False) -> tuple[bytes, Chunks]:
    """All of it, fed in pieces that end at `cuts`."""
    chunks = Chunks(ChunkSigner(SIGNED) if sign else None, trailer)
    found, at = b"", 0
    for cut in [*sorted(cut % (len(body) + 1) for cut in cuts), len(body)]:
        found += b"".join(chunks.feed(body[at:cut]))
        at = cut
    chunks.end()
    return found, chunks


BODIES = st.lists(st.binary(min_size=1, max_size=300), max_size=5)
CUTS = st.lists(st.integers(0, 10_000), max_size=6)


@given(BODIES, CUTS, st.booleans(), st.booleans())
def test_any_cut_gives_the_same(pieces: list[bytes], cuts: list[int], sign: bool, trailer: bool) -> None:
    body = encoded(pieces, b"x-amz-checksum-crc32:AAAAAA==" if trailer else b"", sign)
    found, chunks = decode(body, cuts, sign, trailer)
    assert found == b"".join(pieces)
    assert chunks.trailers.get("x-amz-checksum-crc32") == ("AAAAAA==" if trailer else None)


@given(BODIES.filter(bool), st.integers(0, 10_000), st.integers(1, 255), CUTS)
def test_a_changed_byte_is_noticed(pieces: list[bytes], place: int, change: int, cuts: list[int]) -> None:
    body = bytearray(encoded(pieces, b"x-amz-checksum-crc32:AAAAAA=="))
    body[place % len(body)] ^= change
    try:
        found, chunks = decode(bytes(body), cuts, True, True)
    except (BadRequest, Forbidden):
        return
    # What is left are the ways to write the same number, name or end of line.
    assert (found, chunks.trailers["x-amz-checksum-crc32"]) == (b"".join(pieces), "AAAAAA==")


@given(st.binary(max_size=2000), st.booleans(), st.booleans())
def test_anything_else_is_refused(body: bytes, sign: bool, trailer: bool) -> None:
    try:
        _, chunks = decode(body, (), sign, trailer)
    except FuyunError:
        return
    assert chunks.done
    assert not sign, "nobody guesses a signature"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"5\r\nabc",
        b"5\r\nabcdefgh\r\n0\r\n\r\n",
        b"0\r\n",
        b"x" * (LINE_BYTES + 10),
        b"0\r\n\r\nmore",
        b"-1\r\n\r\n",
    ],
)
def test_broken_bodies(body: bytes) -> None:
    with pytest.raises(BadRequest) as refusal:
        decode(body, (), False, False)
    assert refusal.value.fields["reason"] == "IncompleteBody"


def test_over_the_wire(served: Served, bucket: str) -> None:
    """The declared length is held to, a signature that is missing is missed, and nothing of it is kept."""
    target = f"/{bucket}/k"
    with httpx.Client(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)) as http:

        def put(body: bytes, kind: str, length: int) -> httpx.Response:
            request = signed(
                served, "PUT", target, b"", x_amz_content_sha256=kind, x_amz_decoded_content_length=str(length)
            )
            del request.headers["content-length"]
            return http.send(httpx.Request("PUT", served.url + target, headers=request.headers, content=body))

        plain = encoded([b"hello"], b"x-amz-checksum-crc32:NhCmhg==", False)
        for body, length, code in (
            (plain, 4, "IncompleteBody"),
            (plain, 6, "IncompleteBody"),
            (plain[:-9], 5, "IncompleteBody"),
        ):
            answer = put(body, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", length)
            assert (answer.status_code, code in answer.text) == (400, True), answer.text
        answer = put(encoded([b"hello"]), "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", 5)
        assert (answer.status_code, "SignatureDoesNotMatch" in answer.text) == (403, True)
        answer = put(b"", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", 0)
        assert answer.status_code == 501
    assert "Contents" not in served.client().list_objects_v2(Bucket=bucket)
