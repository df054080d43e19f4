"""Bytes of one client into exchanges: parsing, limits of a head, back-pressure.

The parser has no pause, so back-pressure is exercised before it: what was read is fed in slices, and while the
connection is held (enough requests wait, or a body waits for its function) the rest stays in `_backlog` and the
transport does not read. A slice outside a body is at most `SLICE` bytes, which bounds the requests it can hold.

The request that is nearly every request (HTTP/1.1, no body, nothing unusual, nothing before it) is begun from
`on_headers_complete` in one go; all others are made an exchange there and completed by the callbacks after it.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Final

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from fuyun.domain.errors import BadRequest, FuyunError, Internal
from fuyun.transports.gateway.exchange import Exchange
from fuyun.transports.gateway.intake import METHODS, RARE, check_odd, head_too_large, name_of
from fuyun.transports.gateway.reply import Reply, log

if TYPE_CHECKING:
    from fuyun.transports.gateway.shared import Shared

SLICE: Final = 4096
#: Bytes of a request that is remembered at most.
KEPT: Final = 2048
CHUNK_SLICE: Final = 16384
BODY_SLICE: Final = 65536

# What becomes of input.
OPEN: Final = 0  # it is parsed
DEAF: Final = 1  # no more requests are taken; those that are here are answered
ENDING: Final = 2  # the last answer is written; input is thrown away until the client has gone

_BLANK: Final = b" \t"
#: What a closed connection has for a parser.
_SPENT: Final = HttpRequestParser(None)


class Reader(ABC):
    """The receiving half of `connection.Connection`, the only subclass. `active`: the exchange whose turn it is.
    `_incoming`: the one whose body is being received. `_waiting`: those behind the active one."""

    __slots__ = (
        "_backlog",
        "_begun",
        "_ended",
        "_excess",
        "_fed",
        "_feed_data",
        "_feeding",
        "_head_since_s",
        "_headers",
        "_heads",
        "_incoming",
        "_last",
        "_last_data",
        "_parser",
        "_reading",
        "_replay",
        "_since_s",
        "_state",
        "_stats",
        "_url",
        "_waiting",
        "active",
        "on_message_begin",
        "on_url",
        "shared",
        "source",
        "transport",
        "tunnel",
        "write_paused",
    )

    transport: asyncio.Transport

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self._stats = shared.stats
        self.source = ""
        self.active: Exchange | None = None
        self.write_paused = False
        self._incoming: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._state = OPEN
        # Two of the parser's callbacks are methods of lists, which cost no Python frame: the first byte of a request
        # empties `_ended` (a head has begun and not ended), and the target comes in parts to `_url`.
        self._ended = [True]
        self._url: list[bytes] = []
        self.on_message_begin = self._ended.clear
        self.on_url = self._url.append
        self._headers: list[tuple[str, str]] = []
        self._heads = 0  # seen in what was fed last
        self._begun: list[Exchange] = []  # what it began in one go
        self._last: Exchange | None = None  # so begun by `_last_data`, all of it and nothing before it
        self._last_data = b""
        self._fed = 0  # of a head that came in several slices: bytes of the whole slices after its first
        self._backlog: memoryview | None = None
        self._replay = b""
        self.tunnel: Exchange | None = None  # a WebSocket: all that comes from now on is its
        self._reading = True
        self._feeding = False
        self._excess = False  # input was or will be thrown away
        self._since_s = self._head_since_s = shared.now_s
        self._renew_parser()

    def _renew_parser(self) -> None:
        self._parser = HttpRequestParser(self)
        self._feed_data = self._parser.feed_data

    def _drop_parser(self) -> None:
        """The parser holds this object's callbacks: without this only the collector would free both."""
        self._parser = _SPENT
        self._feed_data = _SPENT.feed_data

    def write(self, *pieces: bytes) -> None:
        """Hand bytes to the transport."""
        if len(pieces) == 1:
            self.transport.write(pieces[0])
        else:
            self.transport.writelines(pieces)

    # --- input -----------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        self._stats.received_bytes += len(data)
        incoming = self._incoming
        if self._state != OPEN:
            self._excess = True
        elif self._backlog is None and incoming is None and len(data) <= SLICE:
            if data == self._last_data and self._repeat():
                return
            fresh = bool(self._ended)
            self._heads = 0
            self._begun.clear()
            try:
                self._feed_data(data)
            except (HttpParserError, HttpParserUpgrade) as error:
                self._stumble(error, data)
            if self._ended and self._incoming is None and not self._waiting:
                if fresh and self._begun and self._heads == 1 and len(data) <= KEPT:
                    self._last, self._last_data = self._begun[0], data
                return  # whole requests, and no other: the usual case
            self._count(data, None)
            self._check_hold()
        else:
            self._backlog = memoryview(data if self._backlog is None else bytes(self._backlog) + data)
            self.unhold()

    def _repeat(self) -> bool:
        """The same bytes again, from a client that polls or keeps asking: begin what they said the last time. False
        when it is not its turn, or the parser is inside something."""
        last = self._last
        if last is None or self.active is not None or self._waiting or self.write_paused or not self._ended:
            return False
        exchange = last.again()
        if exchange is None:
            return False
        self.active = exchange
        exchange.run()
        return True

    def _feed(self, data: bytes | memoryview) -> None:
        """Let the parser see a slice."""
        before = self._incoming
        try:
            self._feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._stumble(error, data)
        self._count(data, before)

    def _count(self, data: bytes | memoryview, before: Exchange | None) -> None:
        """Bound what is not content: a head that has not ended, and the framing of chunks. `before` is the exchange
        whose body was being received when `data` came."""
        if not self._ended:
            if not self._fed:
                self._fed = 1
                self._head_since_s = self.shared.now_s
            else:
                self._fed += len(data)
                if self._fed > self.shared.limits.head_bytes + SLICE:
                    self._head_too_large()
        elif (
            before is not None
            and before is self._incoming  # the slice was inside its body from end to end
            and before.length < 0
            and before.is_padded(len(data))
        ):
            self._stop_input(BadRequest("the chunks are nearly all framing", hint="send larger chunks"))

    def _stumble(self, error: HttpParserError | HttpParserUpgrade, data: bytes | memoryview) -> None:
        """The parser stopped in `data`."""
        if isinstance(error, HttpParserUpgrade):
            self._go_on_without_upgrade(memoryview(data)[error.args[0] :])
        elif self._state != OPEN:
            self._excess = True
        elif isinstance(error, HttpParserCallbackError):
            log.error("parsing a request failed", exc_info=error.__context__)
            self._stop_input(Internal("the gateway failed", hint="the platform's log has the reason; report it"))
        else:
            self._stop_input(
                BadRequest(f"this is not an HTTP/1.1 request: {error}", hint="correct the client, or use another")
            )

    def _head_too_large(self) -> None:
        self._stop_input(head_too_large(sum(map(len, self._url)), self.shared.limits))

    def _check_hold(self) -> None:
        """Stop or resume reading as the exchanges demand."""
        held = self._held()
        if held == self._reading and self._state == OPEN and not self._at_eof:
            self._reading = not held
            if held:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def _held(self) -> bool:
        incoming = self._incoming
        return len(self._waiting) >= self.shared.limits.pipeline or (incoming is not None and incoming.full)

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
        self._check_hold()

    # --- the parser's callbacks ------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or of a trailer (whose list nobody reads)."""
        if value and value[-1] in _BLANK:
            value = value.rstrip(b" \t")
        self._headers.append((name_of(name), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """A head is here: make its exchange, and begin it when nothing is before it."""
        self._ended.append(True)
        self._heads += 1
        headers, url, parser = self._headers, self._url, self._parser
        self._headers = []
        target = url[0] if len(url) == 1 else b"".join(url)
        fields = dict(headers)
        method = METHODS.get(parser.get_method())
        keep = parser.should_keep_alive()
        shared = self.shared
        if (
            keep
            and RARE.isdisjoint(fields)
            and method is not None
            and not self._fed
            and self.active is None
            and not self._waiting
            and not self.write_paused
            and self._state == OPEN
            and not shared.short_heads
        ):
            url.clear()
            exchange = self.active = Exchange(self, method, target, headers, fields, True, False)
            self._begun.append(exchange)
            exchange.run()
            return
        if self._state == OPEN:
            if len(target) > shared.limits.target_bytes or self._is_long(target, headers):
                self._head_too_large()
            else:
                self._begin(method, target, headers, fields, keep)
        url.clear()
        self._fed = 0

    def _is_long(self, target: bytes, headers: list[tuple[str, str]]) -> bool:
        """True when the head is over the limit; counted only when it can be."""
        if not self._fed and not self.shared.short_heads:
            return False
        size = len(target) + 16 + sum(len(name) + len(value) + 4 for name, value in headers)
        return size > self.shared.limits.head_bytes

    def _begin(
        self, method: str | None, target: bytes, headers: list[tuple[str, str]], fields: dict[str, str], keep: bool
    ) -> None:
        version, upgrade = "1.1", False
        error: FuyunError | None = None
        if not keep or "connection" in fields or method is None:
            version = self._parser.get_http_version()
            parser = self._parser
            upgrade = "upgrade" in fields and bool(parser.should_upgrade())
            line = b"%b %b HTTP/%b" % (parser.get_method(), target, version.encode())
            error, self._replay = check_odd(line, version, method is not None, headers, fields, upgrade)
            if self._replay:
                return
        exchange = Exchange(self, method or "GET", target, headers, fields, keep and not upgrade, version == "1.0")
        if error is None:
            error = exchange.look()
            if upgrade:
                self.tunnel, exchange.upgrade, self._excess = exchange, True, True
        if error is not None:
            self._excess = True
            self._state = DEAF
            exchange.refuse_fatally(error)
            self._waiting.append(exchange)
            self._advance()
            return
        self._incoming = exchange
        self._since_s = self.shared.now_s
        if self.active is None and not self._waiting and not self.write_paused:
            self.active = exchange
            exchange.open()
        else:
            self._waiting.append(exchange)

    def _go_on_without_upgrade(self, rest: memoryview) -> None:
        """The parser stopped behind a head that asked for an upgrade: read what follows as this request's body, or hand
        all of it to the tunnel."""
        if self.tunnel is not None:
            self._switch(rest)
            return
        if self._state != OPEN or not self._replay:
            self._excess = True
            return
        head, self._replay = self._replay, b""
        self._renew_parser()
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
        """A request is complete; one without a body was begun already."""
        exchange = self._incoming
        if exchange is None:
            return
        self._incoming = None
        self._headers = []  # drops trailers
        exchange.complete = True
        if not exchange.keep and self._state == OPEN:
            self._state = DEAF
        if exchange is self.active:
            exchange.proceed()

    # --- what the sending half adds --------------------------------------------------------------------------------

    @abstractmethod
    def finished(self, exchange: Reply) -> None:
        """The answer of the active exchange is with the transport."""

    @abstractmethod
    def abort(self) -> None:
        """Cut the connection so that the client sees that something is missing."""

    @abstractmethod
    def throttle(self, held: bool) -> None: ...

    @abstractmethod
    def _switch(self, rest: memoryview) -> None: ...

    @property
    @abstractmethod
    def is_last(self) -> bool:
        """True when nothing else has been asked on this connection."""

    @property
    @abstractmethod
    def _at_eof(self) -> bool: ...

    @abstractmethod
    def _advance(self) -> None: ...

    @abstractmethod
    def _stop_input(self, error: FuyunError) -> None: ...
