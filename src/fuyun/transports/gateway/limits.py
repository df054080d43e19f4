"""What the gateway allows its clients."""

from __future__ import annotations

from fuyun.domain.functions import Wire


class GatewayLimits(Wire, frozen=True, kw_only=True):
    """Sizes in bytes, durations in seconds. Timeouts are checked by one tick for all connections, so that they fire up
    to a quarter (at most a second) late, never early."""

    head_bytes: int = 65536  # request line and headers; 431 above
    target_bytes: int = 8192  # request target; 414 above
    connections: int = 10000  # at once; 503 above
    body_idle_s: float = 20.0  # from a request's first byte to the end of its head, and between pieces of its body
    keepalive_s: float = 75.0  # between requests of a connection, and before its first
    write_idle_s: float = 60.0  # without the client taking a byte of an answer that waits for it
    websocket_idle_s: float = 600.0  # without a byte in either direction
    linger_s: float = 2.0  # after a final answer, for the client to read it before the connection is cut
    buffer_bytes: int = 65536  # of a body gathered before the function is called; larger bodies are streamed
    pipeline: int = 16  # requests of one connection that wait for their turn before reading stops

    @property
    def tick_s(self) -> float:
        """Seconds between two looks at all connections."""
        return max(
            0.01, min(1.0, *(t / 4 for t in (self.body_idle_s, self.keepalive_s, self.write_idle_s, self.linger_s)))
        )
