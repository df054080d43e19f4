"""One HTTP/1.1 connection to a program: a request out, its answer in, and whether another may follow."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any, Final, Protocol, final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from fuyun.domain.errors import BadResponse, FuyunError
from fuyun.drivers.instances.lines import Line

#: Longest head of an answer, as long as the gateway's own limit for requests.
HEAD_BYTES: Final = 65536
#: Interim answers (100, 103) before the final one.
_INTERIM: Final = 16
_BODYLESS: Final = (204, 304)

# How the end of an answer's body is known.
_FRAMED: Final = 0  # by its length or its chunks: the parser tells
_CLOSED: Final = 1  # by the end of the connection
_NONE: Final = 2  # there is none


class Asker(Protocol):
    """The call whose answer is awaited."""

    method: str
    upgrade: bool

    def on_answer(self, upstream: Upstream, pieces: list[bytes], complete: bool) -> None:
        """What came in one reading; the head is `upstream.status` and `upstream.headers`."""
        ...

    def on_closed(self, upstream: Upstream, error: OSError | None) -> None:
        """The connection ended before the answer did."""
        ...

    def on_unusable(self, upstream: Upstream, error: FuyunError) -> None:
        """What came is no answer."""
        ...

    def on_flushed(self, size_bytes: int) -> None:
        """So much of the request left."""
        ...


@final
class Upstream:
    """Carries one call at a time. `fresh`: no call was carried before. `on_idle_end` is told when a connection that
    carries none was closed by the program, or said something unasked."""

    def __init__(self, sock: socket.socket, on_idle_end: Callable[[Upstream], None]) -> None:
        self.call: Asker | None = None
        self.fresh = True
        self.reusable = False  # after the answer
        self.raw = False  # it is a tunnel now
        self.answering = False  # a byte of the answer has come
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.idle: asyncio.TimerHandle | None = None
        self._on_idle_end = on_idle_end
        self._parser: Any = HttpResponseParser(self)
        self._head = self._complete = False
        self._size = self._interim = 0
        self._framing = _FRAMED
        self._pieces: list[bytes] = []
        self._found: FuyunError | None = None
        self.line = Line(sock, self._on_data, self._on_end, self._on_flushed)

    def carry(self, call: Asker, *pieces: bytes) -> None:
        """Send a request's beginning; `call` hears of what becomes of it."""
        self.call = call
        self.answering = self._head = self._complete = self.reusable = False
        self._size = self._interim = 0
        self.line.write(*pieces)

    def release(self) -> None:
        """The call is over."""
        self.call = None
        self.fresh = False

    def close(self) -> None:
        """End the connection; nobody hears of it."""
        self.call = None
        if self.idle is not None:
            self.idle.cancel()
        self.line.close()
        self._parser = None  # it holds this object's callbacks

    # --- the connection

    def _on_flushed(self, size_bytes: int) -> None:
        if self.call is not None:
            self.call.on_flushed(size_bytes)

    def _on_data(self, data: bytes) -> None:
        call = self.call
        if call is None:
            self._on_idle_end(self)
            return
        if self.raw:
            call.on_answer(self, [data], False)
            return
        self.answering = True
        if not self._head:
            self._size += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._switch(data[upgrade.args[0] :])
        except HttpParserError as error:
            if not (self._complete and self._found is None):  # else: what follows the last answer is not looked at
                self._found = self._found or BadResponse(
                    f"the program's answer is not HTTP/1.1: {error}", hint="look at what it sends, e.g. with curl"
                )
            self.reusable = False
        if not self._head and self._size > HEAD_BYTES:
            self._found = self._found or _too_long()
        if self._found is not None:
            call.on_unusable(self, self._found)
        elif self._head:
            pieces, self._pieces = self._pieces, []
            if not self._complete:
                self.line.acknowledge()
            call.on_answer(self, pieces, self._complete)

    def _switch(self, rest: bytes) -> None:
        """The parser stopped behind a 101."""
        self._head, self.raw, self._complete = True, True, False
        if rest:
            self._pieces.append(rest)

    def _on_end(self, error: OSError | None) -> None:
        call = self.call
        self.reusable = False
        if call is None:
            self._on_idle_end(self)
        elif self.raw or (self._head and self._framing == _CLOSED and error is None):
            call.on_answer(self, [], True)
        else:
            call.on_closed(self, error)

    # --- the parser

    def on_message_begin(self) -> None:
        """An answer begins; a second one, unasked, makes the connection useless."""
        if self._complete:
            self.reusable = False
        else:
            self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head; trailers are dropped."""
        if not self._head:
            self.headers.append((name.decode("latin-1"), value.decode("latin-1").strip(" \t")))

    def on_headers_complete(self) -> None:
        """The head is here."""
        call, parser = self.call, self._parser
        if call is None or self._complete:
            self.reusable = False
            return
        self.status = status = parser.get_status_code()
        if 100 <= status < 200:
            self._interim += 1
            if status == 101 and not (call.upgrade and parser.should_upgrade()):
                self._found = BadResponse("the program switched protocols (101) though nobody asked it to")
            elif status != 101 and self._interim > _INTERIM:
                self._found = BadResponse(f"the program sent more than {_INTERIM} interim answers")
            return
        self._head = True
        self._framing = self._framing_of(status, call.method)
        unknown = self._framing == _NONE and status not in _BODYLESS  # HEAD, of which the parser does not know
        self.reusable = parser.should_keep_alive() and not unknown
        self._complete = unknown

    def _framing_of(self, status: int, method: str) -> int:
        if method == "HEAD" or status in _BODYLESS:
            return _NONE
        coding = [value.lower() for name, value in self.headers if name.lower() == "transfer-encoding"]
        if coding and coding != ["chunked"]:
            self._found = BadResponse(
                f"the program answered with Transfer-Encoding {', '.join(coding)!r}", hint="send chunked, or a length"
            )
        framed = coding or any(name.lower() == "content-length" for name, _ in self.headers)
        return _FRAMED if framed else _CLOSED

    def on_body(self, chunk: bytes) -> None:
        """A piece of the body."""
        if not self._complete:
            self._pieces.append(chunk)

    def on_message_complete(self) -> None:
        """The answer is complete, unless it was an interim one."""
        if self._head:
            self._complete = True


def unreachable(port: int, error: int | OSError | None) -> FuyunError:
    """The error of a connection that could not be made."""
    number = error if isinstance(error, int) else error.errno if error is not None else errno.ECONNRESET
    reason = errno.errorcode.get(number or 0, "closed")
    return BadResponse(
        f"the program takes no connections on port {port} any more ({reason})",
        hint="keep the server listening on $PORT for as long as the instance lives; see what it printed: `fuyun logs`",
    )


def _too_long() -> FuyunError:
    return BadResponse(f"the head of the program's answer is over {HEAD_BYTES} bytes", hint="send fewer headers")
