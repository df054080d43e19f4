"""The AWS Lambda Runtime API over HTTP, for the program of one instance on its own loopback.

Source of paths, headers and answers: AWS Lambda developer guide, "Using the Lambda runtime API" and its OpenAPI
document (version 2018-06-01). What the requests do is `custom.Office`'s.
"""

from __future__ import annotations

import re
import select
import socket
import sys
import threading
from http.client import HTTPResponse, IncompleteRead, parse_headers
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer

from fuyun.runtime.jsontext import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from email.message import Message
    from typing import Any, Callable, Iterator, Optional, Protocol

    #: status, headers, body
    Answered = tuple[int, list[tuple[str, str]], bytes]

    class Office(Protocol):
        """What the requests are made of. Refusal says what is wrong with one."""

        def next(self, gone: Callable[[], bool]) -> Optional[Answered]: ...
        def respond(self, request_id: str, request: Request) -> None: ...
        def report(self, request_id: str, request: Request) -> None: ...
        def init_error(self, request: Request) -> None: ...
        @property
        def extensions(self) -> Guests: ...

    class Guests(Protocol):
        """The same for extensions; `identifier` is what `register` gave."""

        def register(self, request: Request) -> Answered: ...
        def next(self, identifier: str, gone: Callable[[], bool]) -> Optional[Answered]: ...
        def fail(self, identifier: str, phase: str, request: Request) -> None: ...


_RUNTIME, _EXTENSION = "/2018-06-01/runtime", "/2020-01-01/extension"
_INVOCATION = re.compile(_RUNTIME + r"/invocation/([^/]+)/(response|error)")
#: Paths under which an extension subscribes to logs or telemetry -> what it is told.
_TELEMETRY = {"/2020-08-15/logs": "Logs", "/2022-07-01/telemetry": "Telemetry"}
_PIECE = 64 * 1024
_JSON = [("Content-Type", "application/json")]
_ACCEPTED = b'{"status":"OK"}\n'


class Refusal(Exception):
    """The request is not possible: HTTP status, `errorType`, and as text the `errorMessage`."""

    def __init__(self, status: int, error_type: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type


class Broken(Exception):
    """The body of a request broke off."""


class Request:
    """Headers and body of a request. The body is read once, by `read` or `pieces`; `trailers` come after it."""

    def __init__(self, headers: Message, source: Any) -> None:
        self.headers = headers
        self.trailers: Optional[Message] = None
        self._source = source
        self._pieces = self._read()
        self._left = -1 if "chunked" in headers.get("transfer-encoding", "").lower() else _length(headers)

    def pieces(self) -> Iterator[bytes]:
        """What is left of the body, as it arrives. Broken."""
        return self._pieces

    def _read(self) -> Iterator[bytes]:
        try:
            yield from self._chunks() if self._left < 0 else self._counted()
        except (OSError, IncompleteRead, ValueError) as error:
            raise Broken(f"the body broke off: {error}") from None

    def read(self, limit_bytes: int) -> tuple[bytes, int]:
        """The body and its length; of one over the limit only its beginning, the rest is read and dropped. Broken."""
        kept, size = bytearray(), 0
        for piece in self.pieces():
            size += len(piece)
            if size <= limit_bytes:
                kept += piece
        return bytes(kept), size

    def drop(self) -> None:
        """Read what is left of the body, so that the connection can be used again. Broken."""
        for _ in self.pieces():
            pass

    def _counted(self) -> Iterator[bytes]:
        while self._left:
            piece = self._source.read1(min(self._left, _PIECE))
            if not piece:
                raise Broken(f"the body broke off {self._left} bytes before its end")
            self._left -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        reader = _Chunks(self._source)
        while piece := reader.read1(_PIECE):
            yield piece
        self.trailers = reader.trailers
        self._left = 0


class _Kept:
    """A connection's file, as a socket would give it, that stays open."""

    def __init__(self, source: Any) -> None:
        self.read1, self.readline, self.read = source.read1, source.readline, source.read
        self.flush = lambda: None

    def makefile(self, _mode: str) -> _Kept:
        return self

    def close(self) -> None:
        """The connection goes on."""


class _Chunks(HTTPResponse):
    """The standard library's reader of chunked bodies, for a request, which it has none for."""

    def __init__(self, source: Any) -> None:
        super().__init__(_Kept(source))  # type: ignore[arg-type]
        self.chunked = True
        self.chunk_left = None
        self.trailers: Optional[Message] = None

    def _read_and_discard_trailer(self) -> None:
        self.trailers = parse_headers(self.fp)


def _length(headers: Message) -> int:
    text = headers.get("content-length", "0")
    if not text.isdigit():
        raise Refusal(400, "InvalidRequest", f"content-length is {text!r}")
    return int(text)


class Handler(BaseHTTPRequestHandler):
    """One connection of the program's."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "Fuyun", ""
    wbufsize = -1
    disable_nagle_algorithm = True
    server: Api

    def log_message(self, format: str, *args: Any) -> None:
        """The program's requests are its own business."""

    def handle_expect_100(self) -> bool:
        """Answer at once: the client waits for it."""
        proceed = super().handle_expect_100()
        self.wfile.flush()
        return proceed

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_GET  # noqa: N815  (names that http.server looks for)

    def _answer(self) -> None:
        try:
            request = Request(self.headers, self.rfile)
            try:
                found = self._route(request)
            finally:
                request.drop()
        except Refusal as refusal:
            body = dumps({"errorMessage": str(refusal), "errorType": refusal.error_type})
            found = refusal.status, _JSON, body
        except Broken:
            found = None
        if found is None:
            self.close_connection = True
            return
        status, headers, body = found
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _route(self, request: Request) -> Optional[Answered]:
        office, path = self.server.office, self.path.partition("?")[0].rstrip("/")
        asked = self.command, path
        found = _INVOCATION.fullmatch(path)
        if asked == ("GET", _RUNTIME + "/invocation/next"):
            return office.next(self._gone)
        if found is not None and self.command == "POST":
            act = office.respond if found[2] == "response" else office.report
            act(found[1], request)
        elif asked == ("POST", _RUNTIME + "/init/error"):
            office.init_error(request)
        elif path.startswith(_EXTENSION + "/"):
            return self._route_extension(request, path[len(_EXTENSION) + 1 :])
        elif self.command == "PUT" and path in _TELEMETRY:
            kind = _TELEMETRY[path]
            told = {"errorMessage": f"{kind} API is not supported", "errorType": f"{kind}.NotSupported"}
            return 202, _JSON, dumps(told)
        else:
            raise Refusal(404, "NotFound", f"there is no {self.command} {path}")
        return 202, _JSON, _ACCEPTED

    def _route_extension(self, request: Request, path: str) -> Optional[Answered]:
        guests, identifier = self.server.office.extensions, self.headers.get("Lambda-Extension-Identifier", "")
        if (self.command, path) == ("POST", "register"):
            return guests.register(request)
        if (self.command, path) == ("GET", "event/next"):
            return guests.next(identifier, self._gone)
        if self.command == "POST" and path in ("init/error", "exit/error"):
            guests.fail(identifier, path.partition("/")[0], request)
            return 202, _JSON, _ACCEPTED
        raise Refusal(404, "NotFound", f"there is no {self.command} {_EXTENSION}/{path}")

    def _gone(self) -> bool:
        """Whether the client has closed the connection."""
        if not select.select([self.connection], [], [], 0)[0]:
            return False
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return True


class Api(ThreadingTCPServer):
    """The server: a thread for every connection."""

    daemon_threads, block_on_close, allow_reuse_address, request_queue_size = True, False, True, 128

    def __init__(self, office: Office, port: int) -> None:
        """Listen at once. OSError."""
        self.office = office
        super().__init__(("127.0.0.1", port), Handler)
        self.address = "{}:{}".format(*self.server_address)

    def start(self) -> None:
        """Serve in threads until the process ends."""
        threading.Thread(target=self._serve, name="fuyun-api", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self.handle_request()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none; a defect of ours is shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)
