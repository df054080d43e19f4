"""One client: its bytes in, its answers out in order, its time limits.

The parser has no pause, so back-pressure is exercised before it: what was read is fed in slices, and while the
connection is held (enough requests wait, or a body waits for its function) the rest stays in `_backlog` and the
transport does not read. A slice outside a body is at most `SLICE` bytes, which bounds the requests it can hold.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from fuyun.domain.errors import (
    BadRequest,
    FuyunError,
    HeadTooLarge,
    Internal,
    RequestTimedOut,
    TargetTooLong,
    Unavailable,
    Unsupported,
    VersionUnsupported,
)
from fuyun.transports.gateway.exchange import Exchange
from fuyun.transports.gateway.intake import METHODS, check_version, find_name, learn_name, tokens
from fuyun.transports.gateway.reply import Reply, log

if TYPE_CHECKING:
    from fuyun.transports.gateway.shared import Shared

SLICE: Final = 4096
CHUNK_SLICE: Final = 16384
BODY_SLICE: Final = 65536

#: Connections over the limit that are told so before they are closed.
TOLD: Final = 256

#: Seconds a running answer gets after the client said that it sends no more. Most such clients are gone altogether,
#: which TCP does not tell apart; the invocation is then cancelled.
HALF_CLOSED_S: Final = 1.0

# What becomes of input.
OPEN: Final = 0  # it is parsed
DEAF: Final = 1  # no more requests are taken; those that are here are answered
ENDING: Final = 2  # the last answer is written; input is thrown away until the client has gone


class Connection(asyncio.Protocol):
    """Made for each accepted socket. `active` is the exchange whose turn it is, `_incoming` the one being received."""

    __slots__ = (
        "_advancing",
        "_backlog",
        "_begun",
        "_eof",
        "_excess",
        "_fed",
        "_feeding",
        "_head_since_s",
        "_headers",
        "_incoming",
        "_moved_s",
        "_parser",
        "_reading",
        "_replay",
        "_since_s",
        "_state",
        "_target",
        "_unsent",
        "_waiting",
        "active",
        "shared",
        "source",
        "transport",
        "write_paused",
    )

    transport: asyncio.Transport

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.source = ""
        self.active: Exchange | None = None
        self.write_paused = False
        self._incoming: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._parser = HttpRequestParser(self)
        self._state = OPEN
        self._begun = False  # a head has begun and is not complete
        self._headers: list[tuple[str, str]] = []
        self._target = b""
        self._fed = 0  # bytes fed for the head that has begun, not counting the current slice
        self._backlog: memoryview | None = None
        self._replay = b""
        self._reading = True
        self._feeding = False
        self._advancing = False
        self._eof = False
        self._excess = False  # input was or will be thrown away
        self._since_s = self._head_since_s = self._moved_s = shared.now_s
        self._unsent = 0

    # --- the transport ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come; over the limit it is told so and let go."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop has transports of its own
        shared = self.shared
        stats = shared.stats
        stats.accepted += 1
        stats.connections += 1
        shared.connections.add(self)
        peer = transport.get_extra_info("peername")
        self.source = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        if stats.connections > shared.limits.connections:
            stats.turned_away += 1
            if stats.connections > shared.limits.connections + TOLD:
                self.transport.abort()
                return
            self._stop_input(
                Unavailable(
                    f"the gateway holds {shared.limits.connections} connections already",
                    hint="try again later, or raise the setting `connections`",
                    retry_after_s=1,
                )
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed: whatever runs for it is ended."""
        self._state = ENDING
        self.shared.stats.connections -= 1
        self.shared.connections.discard(self)
        active, self.active = self.active, None
        self._incoming = None
        self._waiting.clear()
        self._backlog = None
        del self._parser  # it holds this object's callbacks: without this only the collector would free both
        if active is not None:
            active.lost()

    def eof_received(self) -> bool:
        """The client sends no more. Some only say so and still read: `tick` gives a running answer a little time."""
        self._eof = True
        self._reading = False
        if self._state == ENDING or self._begun or self._incoming is not None:
            return False
        self._since_s = self.shared.now_s
        return self.active is not None or bool(self._waiting) or self.write_paused

    def pause_writing(self) -> None:
        """More is written than the client takes."""
        self.write_paused = True
        self._moved_s = self.shared.now_s

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.write_paused = False
        if self.active is not None:
            self.active.resume()
        else:
            self._advance()

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport."""
        self.transport.write(data)

    def write_both(self, head: bytes, body: bytes) -> None:
        """Hand over two pieces without copying them into one."""
        self.transport.writelines((head, body))

    def abort(self) -> None:
        """Cut the connection so that the client sees that something is missing."""
        self._state = ENDING
        active, self.active = self.active, None
        if active is not None:
            active.lost()
        self.transport.abort()

    # --- input -----------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        self.shared.stats.received_bytes += len(data)
        if self._state != OPEN:
            self._excess = True
        elif self._backlog is None and len(data) <= SLICE:
            self._feed(data)
            if self._incoming is not None or self._waiting:
                self._check_hold()
        else:
            self._backlog = memoryview(data if self._backlog is None else bytes(self._backlog) + data)
            self.unhold()

    def _feed(self, data: bytes | memoryview) -> None:
        """Let the parser see a slice. A head may be as long as allowed, and is then counted exactly."""
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(memoryview(data)[upgrade.args[0] :])
        except HttpParserError as error:
            self._malformed(error)
        else:
            if self._begun:
                self._fed += len(data)
                if self._fed > self.shared.limits.head_bytes + SLICE:
                    self._head_too_large()
            elif (incoming := self._incoming) is not None and incoming.length < 0 and incoming.is_padded(len(data)):
                self._stop_input(BadRequest("the chunks are nearly all framing", hint="send larger chunks"))

    def _malformed(self, error: HttpParserError) -> None:
        if self._state != OPEN:
            self._excess = True
        elif isinstance(error, HttpParserCallbackError):
            log.error("parsing a request failed", exc_info=error.__context__)
            self._stop_input(Internal("the gateway failed", hint="the platform's log has the reason; report it"))
        else:
            self._stop_input(
                BadRequest(f"this is not an HTTP/1.1 request: {error}", hint="correct the client, or use another")
            )

    def _head_too_large(self) -> None:
        limits = self.shared.limits
        if len(self._target) > limits.target_bytes:
            error: FuyunError = TargetTooLong(
                f"the request target is over {limits.target_bytes} bytes",
                hint="shorten path and query",
                limit_bytes=limits.target_bytes,
            )
        else:
            error = HeadTooLarge(
                f"the request's head is over {limits.head_bytes} bytes",
                hint="send fewer or shorter headers",
                limit_bytes=limits.head_bytes,
            )
        self._stop_input(error)

    def _check_hold(self) -> None:
        """Stop or resume reading as the exchanges demand."""
        held = self._held()
        if held == self._reading and not self._eof:
            self._reading = not held
            if held:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def _held(self) -> bool:
        incoming = self._incoming
        return self._state == OPEN and (
            len(self._waiting) >= self.shared.limits.pipeline or (incoming is not None and incoming.full)
        )

    def unhold(self) -> None:
        """Go on with what was read, as far as the exchanges allow, then with reading."""
        if self._feeding:
            return
        self._feeding = True
        try:
            while (rest := self._backlog) is not None and self._state == OPEN and not self._held():
                incoming = self._incoming
                size = SLICE
                if incoming is not None:
                    size = CHUNK_SLICE if incoming.length < 0 else min(BODY_SLICE, max(SLICE, incoming.missing))
                self._backlog = rest[size:] if len(rest) > size else None
                self._feed(rest[:size])
        finally:
            self._feeding = False
        if self._state != OPEN and self._backlog is not None:
            self._backlog = None
            self._excess = True
        if self._state != ENDING:
            self._check_hold()

    # --- the parser's callbacks ------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._begun = True
        self._fed = 0
        self._target = b""
        self._headers = []
        self._head_since_s = self.shared.now_s

    def on_url(self, part: bytes) -> None:
        """The target, or a part of it."""
        self._target = self._target + part if self._target else part

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or of a trailer (whose list nobody reads)."""
        self._headers.append((find_name(name) or learn_name(name), value.rstrip(b" \t").decode("latin-1")))

    def on_headers_complete(self) -> None:
        """A head is here: make its exchange, and begin it when nothing is before it."""
        self._begun = False
        if self._state != OPEN:
            return
        headers, parser, shared = self._headers, self._parser, self.shared
        fields = dict(headers)
        keep = parser.should_keep_alive()
        method = METHODS.get(parser.get_method())
        if len(self._target) > shared.limits.target_bytes or (
            (self._fed or shared.short_heads) and self._head_bytes > shared.limits.head_bytes
        ):
            self._head_too_large()
            return
        version = "1.1"
        error: FuyunError | None = None
        if not keep or "connection" in fields or method is None:
            version = parser.get_http_version()
            error = self._check_odd(version, method, fields)
            if self._replay:
                return
        exchange = Exchange(self, method or "GET", self._target, headers, fields, keep, version == "1.0")
        if error is not None:
            exchange.refuse_fatally(error)
        if exchange.error is not None:
            self._excess = True
            self._state = DEAF
            self._waiting.append(exchange)
            self._advance()
            return
        self._incoming = exchange
        if exchange.length:
            self._since_s = shared.now_s
            self._headers = []
        if self.active is None and not self._waiting and not self.write_paused:
            self.active = exchange
            exchange.open()
        else:
            self._waiting.append(exchange)

    @property
    def _head_bytes(self) -> int:
        return len(self._target) + 16 + sum(len(name) + len(value) + 4 for name, value in self._headers)

    def _check_odd(self, version: str, method: str | None, fields: dict[str, str]) -> FuyunError | None:
        """What is wrong with a head that is not a plain HTTP/1.1 one, or None. An upgrade to something that nobody here
        speaks is ignored (RFC 9110 section 7.8): the head is kept in `_replay`, without it, for a new parser."""
        try:
            check_version(version)
        except VersionUnsupported as error:
            return error
        if method is None:
            name = self._parser.get_method().decode("ascii")
            return Unsupported(f"the method {name} is not supported", hint="use one of HTTP's own methods")
        if "upgrade" in fields and self._parser.should_upgrade():
            if "websocket" in tokens(fields["upgrade"]):
                return Unsupported(
                    "this function takes requests, not WebSocket connections",
                    hint="ask without Upgrade; streamed answers and server-sent events work",
                )
            kept = [token for token in tokens(fields.get("connection")) if token not in ("upgrade", "http2-settings")]
            lines = [f"{method} {self._target.decode('ascii')} HTTP/{version}", f"connection: {', '.join(kept)}"]
            hops = ("upgrade", "connection", "http2-settings")
            lines += [f"{name}: {value}" for name, value in self._headers if name not in hops]
            self._replay = "\r\n".join([*lines, "", ""]).encode("latin-1")
        return None

    def _go_on_without_upgrade(self, rest: memoryview) -> None:
        """The parser stopped behind a head that asked for an upgrade: read what follows as this request's body."""
        if self._state != OPEN or not self._replay:
            self._excess = True
            return
        head, self._replay = self._replay, b""
        self._parser = HttpRequestParser(self)
        self._feed(head)
        if rest and self._state == OPEN:
            self._feed(rest)

    def on_body(self, chunk: bytes) -> None:
        """A piece of a body."""
        exchange = self._incoming
        if exchange is not None:
            self._since_s = self.shared.now_s
            exchange.take(chunk)

    def on_message_complete(self) -> None:
        """A request is complete."""
        exchange = self._incoming
        if exchange is None:
            return
        self._incoming = None
        exchange.complete = True
        if not exchange.keep and self._state == OPEN:
            self._state = DEAF
        if exchange is self.active:
            exchange.proceed()

    # --- order -----------------------------------------------------------------------------------------------------

    def finished(self, exchange: Reply) -> None:
        """The answer of the active exchange is with the transport."""
        self.active = None
        if not exchange.keep:
            self._end()
            return
        self._since_s = self.shared.now_s
        if self._waiting or self._backlog is not None:
            self._advance()
        elif self._eof:
            self._end()

    def _advance(self) -> None:
        """Begin the next exchanges, as long as one ends at once; then take more input."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self.active is None and self._waiting and not self.write_paused and self._state != ENDING:
                exchange = self.active = self._waiting.popleft()
                exchange.open()
                if exchange.complete:
                    exchange.proceed()
                else:
                    exchange.catch_up()
        finally:
            self._advancing = False
        if self._state == OPEN:
            self.unhold()
        if self._eof and self.active is None and not self._waiting and not self.write_paused and self._state != ENDING:
            self._end()

    @property
    def is_last(self) -> bool:
        """True when nothing else has been asked on this connection."""
        return not self._waiting and not self._begun and self._backlog is None

    def _stop_input(self, error: FuyunError) -> None:
        """Take no more requests; answer with `error` after those that are here."""
        self._state = max(self._state, DEAF)
        self._begun = False
        self._excess = True
        exchange, self._incoming = self._incoming, None
        if exchange is not None:
            exchange.break_off(error)
            return
        exchange = Exchange(self, "GET", b"", [], {}, False, False)
        exchange.refuse_fatally(error)
        self._waiting.append(exchange)
        self._advance()

    def _end(self) -> None:
        """The last answer is written: close, but let the client read it first when more input may be on its way, which
        would make the kernel cut the connection and the answer with it (RFC 9112 section 9.6)."""
        excess = self._excess or self._incoming is not None or self._waiting or self._backlog is not None
        self._state = ENDING
        self._since_s = self._moved_s = self.shared.now_s
        self._incoming = self._backlog = None
        self._waiting.clear()
        if not excess or self._eof:
            self.transport.close()
            return
        self.transport.write_eof()
        if not self._reading:
            self._reading = True
            self.transport.resume_reading()

    def tick(self) -> None:
        """Look at the time limits."""
        shared = self.shared
        now_s, limits = shared.now_s, shared.limits
        if self._state == ENDING or self.write_paused:
            unsent = self.transport.get_write_buffer_size()
            if unsent != self._unsent:
                self._unsent, self._moved_s = unsent, now_s
            if unsent and now_s - self._moved_s > limits.write_idle_s + limits.tick_s:
                shared.stats.timed_out += 1
                self.abort()
            elif self._state == ENDING and not unsent and now_s - self._moved_s > limits.linger_s + limits.tick_s:
                self.transport.abort()
        elif self._eof:
            if now_s - self._since_s > HALF_CLOSED_S:
                self.abort()
        elif self.active is None:
            if self._begun:
                if now_s - self._head_since_s > limits.body_idle_s + limits.tick_s:
                    self._too_slow("head")
            elif not self._waiting and (shared.draining or now_s - self._since_s > limits.keepalive_s + limits.tick_s):
                self._end()
        elif (
            self._incoming is self.active
            and self._reading
            and now_s - self._since_s > limits.body_idle_s + limits.tick_s
        ):
            self._too_slow("body")

    def _too_slow(self, part: str) -> None:
        limit_s = self.shared.limits.body_idle_s
        self.shared.stats.timed_out += 1
        self._stop_input(
            RequestTimedOut(
                f"the request's {part} did not come within {limit_s:g} seconds",
                hint="send it faster",
                timeout_s=limit_s,
            )
        )
