"""What a connection's transport talks to once the connection is a WebSocket: bytes pass, nobody reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from fuyun.transports.gateway.connection import Connection
    from fuyun.transports.gateway.exchange import Exchange


@final
class Tunnel:
    """Stands in for the connection as the transport's protocol; what is not about input stays the connection's."""

    __slots__ = ("_connection", "_exchange")

    def __init__(self, connection: Connection, exchange: Exchange) -> None:
        self._connection = connection
        self._exchange = exchange

    def data_received(self, data: bytes) -> None:
        """Bytes of the client; they are held back by not reading on (`Connection.throttle`)."""
        self._connection.shared.stats.received_bytes += len(data)
        self._exchange.feed(data)

    def eof_received(self) -> bool:
        """The client sends no more."""
        goes_on = self._connection.eof_received()
        self._exchange.feed(b"", True)
        return goes_on

    def pause_writing(self) -> None:
        """More is written than the client takes."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._connection.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self._connection.connection_lost(exc)
