"""The answer to one request: written as it comes, acknowledged to the flight only as the client takes it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from fuyun.base.ids import new_id
from fuyun.domain.errors import BadResponse, Forbidden, FuyunError, Unauthenticated
from fuyun.services.invoking import Flight
from fuyun.services.routes import Route
from fuyun.transports.gateway.answers import (
    BODYLESS,
    JSON_HEAD,
    check_status,
    write_fields,
    write_problem,
)

if TYPE_CHECKING:
    from fuyun.transports.gateway.reader import Reader

log: Final = logging.getLogger("fuyun.gateway")

# How the body of a streamed answer is delimited.
NONE: Final = 0  # nothing is sent: the answer to HEAD, or a status without a body
CHUNKED: Final = 1
DECLARED: Final = 2  # by the Content-Length the function gave
CLOSED: Final = 3  # by the end of the connection (HTTP/1.0)

#: Head of the answer that makes a connection a WebSocket's.
SWITCHING: Final = "HTTP/1.1 101 Switching Protocols\r\n"
HOP: Final = "Connection: Upgrade\r\nUpgrade: websocket\r\n"

#: Above this an answer's head and body are written side by side instead of being copied into one.
COPY_BYTES: Final = 65536


class Reply:
    """Implements `services.invoking.Responder`. `exchange.Exchange`, the only subclass, is the request it answers and
    sets the fields declared here."""

    __slots__ = (
        "_delimited",
        "_early",
        "_extra",
        "_fields",
        "_flight",
        "_http10",
        "_method",
        "_owed",
        "_remaining",
        "_route",
        "_sent",
        "_started",
        "_status",
        "complete",
        "connection",
        "done",
        "keep",
    )

    connection: Reader
    complete: bool  # the request is here to its end
    done: bool  # the answer is with the transport, or there will be none
    keep: bool  # the connection may go on afterwards
    upgrade: bool  # a WebSocket was asked for
    _method: str
    _http10: bool
    _fields: dict[str, str]  # the request's headers
    _route: Route | None
    _flight: Flight | None
    _early: tuple[int, list[tuple[str, str]] | None, bytes] | None  # came while `begin` ran
    _extra: str  # lines of every answer on this route (CORS)
    _started: bool  # the head of a streamed answer is out
    _status: int  # and what follows belongs to it
    _delimited: int
    _remaining: int  # bytes of the declared length still to come
    _owed: int  # bytes written that the client has not taken
    _sent: int  # bytes of body written

    def on_result(self, status: int, headers: list[tuple[str, str]] | None, body: bytes) -> None:
        """A whole answer."""
        flight, connection = self._flight, self.connection
        if flight is None:
            self._early = (status, headers, body)  # from inside `begin`; goes on when that has returned
            return
        size = len(body)
        shared = connection.shared
        if (
            headers is None
            and status == 200
            and self.keep
            and self.complete
            and not self._extra
            and not self._http10
            and size <= COPY_BYTES
            and self._method != "HEAD"
            and not shared.draining
        ):
            head = (
                f"{JSON_HEAD}{size}\r\nFuyun-Request-Id: {flight.id}\r\nServer-Timing: {flight.timing}\r\n"
                f"Fuyun-Version: {flight.version}\r\nFuyun-Start: {flight.start_kind}\r\n{shared.date}\r\n"
            )
            connection.transport.write(head.encode("latin-1") + body)
            self.done = True
            self._flight = None
            shared.stats.sent_bytes += size
            flight.sent(200, size)
            connection.finished(self)
            return
        try:
            line = check_status(status)
            if headers is None:
                lines, declared = "Content-Type: application/json\r\n", -1
            else:
                lines, declared = write_fields(headers, self._cors)
        except BadResponse as error:
            self._answer_problem(error)
            return
        self._write_whole(status, line, lines, body, declared)

    @property
    def _cors(self) -> bool:
        return self._route is not None and self._route.cors is not None

    def _write_whole(self, status: int, line: str, lines: str, body: bytes, declared: int = -1) -> None:
        """Write an answer whose body is here, and be done."""
        length = len(body)
        if status in BODYLESS or status == 205:
            body, length = b"", declared if status == 304 else 0 if status == 205 else -1
        elif self._method == "HEAD":
            length, body = declared if declared >= 0 and not body else length, b""
        if length >= 0:
            lines = f"{lines}Content-Length: {length}\r\n"
        head = self._head(line, lines)
        if len(body) <= COPY_BYTES:
            self.connection.write(head + body)
        else:
            self.connection.write(head, body)
        self._finish(status, len(body))

    def _head(self, line: str, lines: str, request_id: str = "") -> bytes:
        """The head of an answer with the fields that every answer has. Decides whether the connection goes on."""
        connection, flight = self.connection, self._flight
        shared = connection.shared
        if not self.complete or (shared.draining and connection.is_last):
            self.keep = False
        if not self.keep:
            hop = "Connection: close\r\n"
        else:
            hop = "Connection: keep-alive\r\n" if self._http10 else ""
        if flight is not None:
            ours = (
                f"Fuyun-Request-Id: {flight.id}\r\nServer-Timing: {flight.timing}\r\n"
                f"Fuyun-Version: {flight.version}\r\nFuyun-Start: {flight.start_kind}\r\n"
            )
        else:
            ours = (
                f"Fuyun-Request-Id: {request_id or new_id()}\r\nServer-Timing: queue;dur=0\r\n"
                f"Fuyun-Version: {self._route.qualifier if self._route else '-'}\r\nFuyun-Start: none\r\n"
            )
        return f"{line}{lines}{self._extra}{ours}{shared.date}{hop}\r\n".encode("latin-1", "replace")

    def on_head(self, status: int, headers: list[tuple[str, str]]) -> None:
        """A streamed answer begins."""
        flight = self._flight
        if flight is None:
            return
        try:
            line = SWITCHING if status == 101 and self.upgrade else check_status(status)
            lines, declared = write_fields(headers, self._cors)
        except BadResponse as error:
            self._answer_problem(error, cancel=True)
            return
        self._started = True
        self._status = status
        self._sent = 0
        self._owed = 0
        self._delimited = NONE
        if status == 101:
            self._delimited = CLOSED
            self.connection.write(f"{line}{lines}{HOP}Fuyun-Request-Id: {flight.id}\r\n\r\n".encode("latin-1"))
            return
        if status in BODYLESS or status == 205:
            lines += "Content-Length: 0\r\n" if status == 205 else ""
        elif declared >= 0:
            lines += f"Content-Length: {declared}\r\n"
            self._delimited = NONE if self._method == "HEAD" else DECLARED
            self._remaining = declared
        elif self._http10:
            self.keep = False
            self._delimited = NONE if self._method == "HEAD" else CLOSED
        else:
            lines += "Transfer-Encoding: chunked\r\n"
            self._delimited = NONE if self._method == "HEAD" else CHUNKED
        self.connection.write(self._head(line, lines))

    def on_body(self, chunk: bytes) -> None:
        """A piece of a streamed answer."""
        flight, connection, size = self._flight, self.connection, len(chunk)
        if flight is None or not size:
            return
        if self._delimited == NONE:
            flight.consumed(size)
            return
        self._sent += size
        if self._delimited == CHUNKED:
            if size <= COPY_BYTES:
                connection.write(b"%x\r\n%b\r\n" % (size, chunk))
            else:
                connection.write(b"%x\r\n" % size, chunk, b"\r\n")
        else:
            if self._delimited == DECLARED:
                self._remaining -= size
                if self._remaining < 0:
                    log.warning("invocation %s sent more than its Content-Length", flight.id)
                    flight.cancel()
                    self._cut()
                    return
            connection.write(chunk)
        if connection.write_paused:
            self._owed += size
        else:
            flight.consumed(size)

    def resume(self) -> None:
        """The client has taken what was written."""
        if self._started and self._owed and self._flight is not None:
            owed, self._owed = self._owed, 0
            self._flight.consumed(owed)

    def on_end(self) -> None:
        """A streamed answer is complete."""
        if self._flight is None:
            return
        if self._delimited == CHUNKED:
            self.connection.write(b"0\r\n\r\n")
        elif self._delimited == DECLARED and self._remaining:
            log.warning("invocation %s sent less than its Content-Length", self._flight.id)
            self._flight.sent(self._status, self._sent)
            self._cut()
            return
        self._finish(self._status, self._sent)

    def on_fail(self, error: FuyunError) -> None:
        """An error instead of an answer, or in the middle of one: then only cutting the connection tells the client."""
        if self._flight is None:
            return
        if self._started:
            self._flight.sent(self._status, self._sent)
            self._cut()
        else:
            self._answer_problem(error)

    def _answer_problem(self, error: FuyunError, cancel: bool = False) -> None:
        """Write a problem as the whole answer; `cancel` ends a flight that would go on."""
        flight = self._flight
        public = self._route is not None and self._route.auth == "public"
        if self._route is None:
            error = self.connection.shared.seen_by(self._fields, error)
        elif flight is None and isinstance(error, (Unauthenticated, Forbidden)):
            self._route = None  # its version is not for whom it refuses
        request_id = flight.id if flight is not None else new_id()
        line, lines, body, status = write_problem(error, request_id, public)
        head = self._head(line, f"{lines}Content-Length: {len(body)}\r\n", request_id)
        if flight is not None and cancel:
            flight.cancel()
            self._flight = None
        if self._method == "HEAD":
            body = b""
        self.connection.write(head + body)
        self._finish(status, len(body))

    def _finish(self, status: int, size: int) -> None:
        """The answer is with the transport: complete the record, let the next one begin."""
        self.done = True
        flight, self._flight = self._flight, None
        connection = self.connection
        connection.shared.stats.sent_bytes += size
        if flight is not None:
            flight.sent(status, size)
        connection.finished(self)

    def _cut(self) -> None:
        self.done = True
        self._flight = None
        self.connection.abort()
