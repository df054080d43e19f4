"""WSGI applications (PEP 3333) at a desk of a synchronous mode."""

from __future__ import annotations

import io
import sys

from fuyun.runtime.answers import BadAnswer, clean_headers, fixed_length
from fuyun.runtime.context import Context
from fuyun.runtime.problems import Hangup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, Optional

    from fuyun.runtime.answers import Headers
    from fuyun.runtime.calls import Call
    from fuyun.runtime.desk import Desk


def wsgi_runner(desk: Desk) -> Callable[[Call], None]:
    """A function that answers one call. It raises only Hangup and Leave."""
    app = desk.app

    def run(call: Call) -> None:
        response = Response(desk, call)
        iterable: Any = None
        try:
            call.context = Context(call.head, app.task)
            environ = environment(desk, call)
            try:
                iterable = app.call(environ, response.start)
                for data in iterable:
                    if not response.take(data):
                        break
                response.end()
            finally:
                if hasattr(iterable, "close"):
                    iterable.close()
            response.send_result()
        except BaseException as exc:
            desk.fail(call, exc)

    return run


def environment(desk: Desk, call: Call) -> dict[str, Any]:
    """The `environ` of a request."""
    head = call.head
    host = ""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": head["method"],
        "SCRIPT_NAME": _wsgi_text(head.get("base", "")),
        "PATH_INFO": _wsgi_text(head["path"]),
        "QUERY_STRING": head.get("query", ""),
        "REQUEST_URI": head.get("base", "") + head["path"] + ("?" + head["query"] if head.get("query") else ""),
        "RAW_URI": head.get("base", "") + head["path"] + ("?" + head["query"] if head.get("query") else ""),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": head.get("source", ""),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": head.get("scheme", "http"),
        "wsgi.input": Input(desk, call),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": desk.app.style == "threads",
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "fuyun.context": call.context,
    }
    for name, value in head["headers"]:
        if name == "content-type":
            key = "CONTENT_TYPE"
        elif name == "content-length":
            key = "CONTENT_LENGTH"
        else:
            if "_" in name:
                continue  # `x_y` and `x-y` would meet in one variable: a known way to smuggle headers
            key = "HTTP_" + name.upper().replace("-", "_")
            if name == "host":
                host = value
        if key in environ:
            value = environ[key] + ("; " if key == "HTTP_COOKIE" else ",") + value
        environ[key] = value
    if call.ended and "CONTENT_LENGTH" not in environ and call.body and not call.parts:
        environ["CONTENT_LENGTH"] = str(len(call.body))
    name, colon, port = host.rpartition(":")
    if not (colon and port.isdigit()):
        name, port = host, "443" if environ["wsgi.url_scheme"] == "https" else "80"
    environ["SERVER_NAME"], environ["SERVER_PORT"] = name or "localhost", port
    return environ


def _wsgi_text(path: str) -> str:
    """A percent-encoded path as PEP 3333's bytes-as-latin-1 text."""
    if "%" not in path:
        return path
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(path).decode("latin-1")


class Input(io.RawIOBase):
    """`wsgi.input`: reads the request's body as it arrives, returning room to the platform on the way."""

    def __init__(self, desk: Desk, call: Call) -> None:
        self._desk = desk
        self._call = call
        self._rest = b""
        self._over = False

    def readable(self) -> bool:
        return True

    def _more(self) -> bool:
        if not self._over:
            piece = self._desk.read(self._call)
            self._over = not piece
            self._rest += piece
        return not self._over

    def read(self, size: Optional[int] = -1) -> bytes:
        """Up to `size` bytes, fewer only at the end; all of them for a negative `size` or None."""
        if size is None or size < 0:
            pieces = [self._rest]
            self._rest = b""
            while self._more():
                pieces.append(self._rest)
                self._rest = b""
            return b"".join(pieces)
        while len(self._rest) < size and self._more():
            pass
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def readinto(self, buffer: Any) -> int:
        while not self._rest and self._more():
            pass
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def readline(self, size: Optional[int] = -1) -> bytes:
        """One line with its line feed, or up to `size` bytes of it."""
        searched = 0
        while True:
            end = self._rest.find(b"\n", searched) + 1
            if not end and size is not None and 0 <= size <= len(self._rest):
                end = size
            if end:
                break
            searched = len(self._rest)
            if not self._more():
                end = len(self._rest)
                break
        if size is not None and 0 <= size < end:
            end = size
        line, self._rest = self._rest[:end], self._rest[end:]
        return line

    def readlines(self, hint: Optional[int] = -1) -> list[bytes]:
        """All lines, or as many as hold `hint` bytes."""
        lines, size = [], 0
        for line in self:
            lines.append(line)
            size += len(line)
            if hint is not None and 0 < hint <= size:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        while True:
            line = self.readline()
            if not line:
                return
            yield line


class Response:
    """What `start_response`, `write` and the iterable make of the answer. A first piece that is the whole body leaves
    as one frame; anything else streams."""

    def __init__(self, desk: Desk, call: Call) -> None:
        self._desk = desk
        self._call = call
        self._status = 0
        self._headers: Headers = []
        self._length = -1
        self._held: Optional[bytes] = None  # the whole body, not sent yet
        self._streaming = False
        self._over = False

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        """`start_response`."""
        if exc_info:
            try:
                if self._streaming:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._status:
            raise RuntimeError("start_response was called twice without exc_info")
        code = status.partition(" ")[0]
        if len(code) != 3 or not code.isdigit():
            raise BadAnswer(f"the WSGI status {status!r:.80} does not start with three digits")
        self._status = int(code)
        self._headers = clean_headers(headers, "the response's headers")
        length = [value for name, value in self._headers if name == "content-length"]
        self._length = int(length[0]) if length and length[0].isdigit() else -1
        return self.write

    def write(self, data: bytes) -> None:
        """PEP 3333's imperative `write`: it streams at once."""
        self._stream(data)

    def take(self, data: bytes) -> bool:
        """A piece of the iterable. False when the rest may be skipped."""
        if not isinstance(data, bytes):
            raise BadAnswer(f"the WSGI application yielded a {type(data).__name__}; it must yield bytes")
        if not self._status:
            raise BadAnswer("the WSGI application yielded before it called start_response")
        if not data:
            return True
        if self._held is None and not self._streaming and len(data) == self._length:
            self._held = data
            return True
        return self._stream(data)

    def end(self) -> None:
        """The iterable is exhausted."""
        if not self._status:
            raise BadAnswer("the WSGI application returned without calling start_response")
        self._over = True

    def send_result(self) -> None:
        """Send what is held, or end the stream."""
        if self._streaming:
            self._desk.finish(self._call)
            return
        body = self._held or b""
        headers = self._headers if self._call.head["method"] == "HEAD" else fixed_length(self._headers, len(body))
        self._desk.result(self._call, (self._status, headers, body))

    def _stream(self, data: bytes) -> bool:
        if not self._status:
            raise Hangup if self._call.cancelled else BadAnswer("write was called before start_response")
        if not self._streaming:
            self._streaming = True
            self._desk.head(self._call, self._status, self._headers)
            if self._held is not None:
                data, self._held = self._held + data, None
        return self._desk.write(self._call, data)
