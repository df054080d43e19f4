"""Bodies of content encoding `aws-chunked`: chunks with or without signatures, and what stands behind them.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html and sigv4-streaming-trailers.html. Pure: bytes in,
payload out. A chunk's payload is given on before its signature can be checked; a body that fails is kept by nobody.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from fuyun.domain.errors import BadRequest
from fuyun.transports.s3.signing import ChunkSigner

#: Bytes of a chunk's first line, and of all trailing headers.
LINE_BYTES = 512
TRAILER_BYTES = 16 * 1024
_HEAD = re.compile(rb"([0-9A-Fa-f]{1,12})(?:;chunk-signature=([0-9a-f]{64}))?")


def _broken(detail: str) -> BadRequest:
    return BadRequest(f"the body is not aws-chunked: {detail}", hint="check the client", reason="IncompleteBody")


class Chunks:
    """Decodes one body. `signer` None: chunks carry no signatures. `trailers` are complete when `done`."""

    def __init__(self, signer: ChunkSigner | None, has_trailer: bool) -> None:
        self.trailers: dict[str, str] = {}
        self.done = False
        self._signer = signer
        self._has_trailer = has_trailer
        self._buffer = bytearray()
        self._left = 0  # payload bytes of the chunk under way
        self._state = self._head
        self._hash = hashlib.sha256()
        self._signature = ""
        self._trailer = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Payload that `data` completes. BadRequest, Forbidden."""
        self._buffer += data
        while not self.done:
            if self._left:
                if not self._buffer:
                    return
                piece = bytes(self._buffer[: self._left])
                del self._buffer[: len(piece)]
                self._left -= len(piece)
                if self._signer is not None:
                    self._hash.update(piece)
                yield piece
            elif not self._state():
                return
        if self._buffer:
            raise _broken("bytes follow its end")

    def end(self) -> None:
        """No more bytes come. BadRequest unless the body is complete."""
        if not self.done:
            raise _broken("it ends too early")

    def _line(self, ending: bytes, most: int) -> bytes | None:
        """The next line without its ending, or None when it is not there yet."""
        end = self._buffer.find(ending, 0, most + len(ending))
        if end < 0:
            if len(self._buffer) > most:
                raise _broken(f"a line is over {most} bytes")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + len(ending)]
        return line

    # --- states: whether they got on ---------------------------------------------------------------------------------

    def _head(self) -> bool:
        line = self._line(b"\r\n", LINE_BYTES)
        if line is None:
            return False
        found = _HEAD.fullmatch(line)
        if found is None or (self._signer is not None) != (found[2] is not None):
            raise _broken(f"{line[:40]!r} begins no chunk")
        self._left = int(found[1], 16)
        self._signature = (found[2] or b"").decode()
        self._hash = hashlib.sha256()
        if self._left:
            self._state = self._tail
        else:
            self._check()
            self._state = self._trailers if self._has_trailer else self._last
        return True

    def _tail(self) -> bool:
        if len(self._buffer) < 2:
            return False
        if self._buffer[:2] != b"\r\n":
            raise _broken("a chunk is longer than it says")
        del self._buffer[:2]
        self._check()
        self._state = self._head
        return True

    def _check(self) -> None:
        if self._signer is not None:
            self._signer.check_chunk(self._hash.hexdigest(), self._signature)

    def _last(self) -> bool:
        if self._line(b"\r\n", LINE_BYTES) is None:
            return False
        self.done = True
        return True

    def _trailers(self) -> bool:
        line = self._line(b"\n", TRAILER_BYTES)
        if line is None:
            return False
        line = line.removesuffix(b"\r")
        if not line:
            if self._signer is not None and "x-amz-trailer-signature" not in self.trailers:
                raise _broken("its trailer is not signed")
            self.done = True
            return True
        name, colon, value = (part.strip() for part in line.partition(b":"))
        key = name.decode("latin-1").lower()
        if not colon or key in self.trailers or len(self._trailer) + len(line) > TRAILER_BYTES:
            raise _broken(f"{line[:40]!r} is no trailing header, or one too many")
        self.trailers[key] = value.decode("latin-1")
        if key == "x-amz-trailer-signature":
            if self._signer is None:
                raise _broken("a signature it was not announced with")
            self._signer.check_trailer(self._trailer, self.trailers[key])
        else:
            self._trailer += key.encode() + b":" + value + b"\n"
        return True
