"""One client: its answers in order, its time limits, its end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast, final

from fuyun.domain.errors import FuyunError, RequestTimedOut, Unavailable
from fuyun.transports.gateway.exchange import Exchange
from fuyun.transports.gateway.reader import DEAF, ENDING, OPEN, Reader
from fuyun.transports.gateway.reply import Reply
from fuyun.transports.gateway.tunnel import Tunnel

if TYPE_CHECKING:
    from fuyun.transports.gateway.shared import Shared

#: Connections over the limit that are told so before they are closed.
TOLD: Final = 256

#: Seconds a running answer gets after the client said that it sends no more. Most such clients are gone altogether,
#: which TCP does not tell apart; the invocation is then cancelled.
HALF_CLOSED_S: Final = 1.0


@final
class Connection(Reader):
    """Made for each accepted socket."""

    __slots__ = ("_advancing", "_eof", "_moved", "_moved_s", "_unsent")

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._advancing = False
        self._eof = False
        self._moved_s = shared.now_s
        self._unsent = 0
        self._moved = 0  # bytes of a WebSocket by `_moved_s`

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
        self._incoming = self._last = self.tunnel = None
        self._begun.clear()
        self._waiting.clear()
        self._backlog = None
        self._drop_parser()
        if active is not None:
            active.lost()

    def eof_received(self) -> bool:
        """The client sends no more. Some only say so and still read: `tick` gives a running answer a little time."""
        self._eof = True
        self._reading = False
        if self._state == ENDING or not self._ended or self._incoming is not None:
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

    def abort(self) -> None:
        """Cut the connection so that the client sees that something is missing."""
        self._state = ENDING
        active, self.active = self.active, None
        if active is not None:
            active.lost()
        self.transport.abort()

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

    @property
    def _at_eof(self) -> bool:
        return self._eof

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

    def _switch(self, rest: memoryview) -> None:
        """Hand everything behind the head of a request for a WebSocket to its tunnel."""
        if self._state == ENDING or self.tunnel is None:
            return
        self._state = DEAF
        early = bytes(rest) + bytes(self._backlog or b"")
        self._backlog = None
        self.transport.set_protocol(cast(asyncio.Protocol, Tunnel(self, self.tunnel)))
        self.tunnel.feed(early)

    def throttle(self, held: bool) -> None:
        """Read no more of a tunnel, or again."""
        if held == self._reading and not self._eof and self._state != ENDING:
            self._reading = not held
            if held:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    @property
    def is_last(self) -> bool:
        """True when nothing else has been asked on this connection."""
        return not self._waiting and bool(self._ended) and self._backlog is None

    def _stop_input(self, error: FuyunError) -> None:
        """Take no more requests; answer with `error` after those that are here."""
        self._state = max(self._state, DEAF)
        self._ended[:] = [True]
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
        elif self.tunnel is not None:
            if self.tunnel.moved != self._moved:
                self._moved, self._moved_s = self.tunnel.moved, now_s
            if shared.draining or now_s - self._moved_s > limits.websocket_idle_s + limits.tick_s:
                self.abort()
        elif self.active is None:
            if not self._ended:
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
