"""The gateway's sockets: listen, keep time for all connections, drain."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from fuyun.domain.tenants import Principal
from fuyun.services.invoking import Invoker
from fuyun.transports.gateway.connection import Connection
from fuyun.transports.gateway.limits import GatewayLimits
from fuyun.transports.gateway.shared import GatewayStats, Shared

BACKLOG = 2048


class Gateway:
    """Serves functions over HTTP/1.x on one port.

    `authenticate` turns a token into a Principal or raises Unauthenticated; it is asked for every request that needs a
    key and must not wait. `deferred` takes what asks for asynchronous invocation, `receiving` what is posted
    to webhooks. Every public call belongs to the loop
    that `start` ran on.
    """

    def __init__(
        self,
        invoker: Invoker,
        authenticate: Callable[[str], Principal],
        limits: GatewayLimits | None = None,
        deferred: Invoker | None = None,
        receiving: Invoker | None = None,
    ) -> None:
        self._shared = Shared(invoker, authenticate, limits or GatewayLimits(), deferred, receiving)
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._empty: asyncio.Event | None = None

    @property
    def stats(self) -> GatewayStats:
        """Counters, live."""
        return self._shared.stats

    async def start(self, host: str = "127.0.0.1", port: int = 0, sock: socket.socket | None = None) -> int:
        """Listen on `host`:`port` (0 takes a free one) or on a bound `sock`; the port. OSError when it is taken."""
        loop = asyncio.get_running_loop()
        if sock is None:
            server = await loop.create_server(self._connect, host, port, backlog=BACKLOG, reuse_address=True)
        else:
            server = await loop.create_server(self._connect, sock=sock, backlog=BACKLOG)
        self._server = server
        self._tick()
        return int(server.sockets[0].getsockname()[1])

    def _connect(self) -> asyncio.Protocol:
        return cast(asyncio.Protocol, Connection(self._shared))  # it has a protocol's methods, not its class

    def _tick(self) -> None:
        shared = self._shared
        shared.tick()
        for connection in list(shared.connections):
            connection.tick()
        if self._empty is not None and not shared.connections:
            self._empty.set()
        delay_s = 0.02 if shared.draining else shared.limits.tick_s
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    async def drain(self, timeout_s: float) -> None:
        """Stop accepting, let running requests finish with `Connection: close`, cut what is left after `timeout_s`.

        Returns when every connection is gone. Calling it again, or before `start`, does no harm.
        """
        server, self._server = self._server, None
        if server is None:
            return
        shared = self._shared
        shared.draining = True
        server.close()
        self._empty = asyncio.Event()
        self._stop_timer()
        self._tick()
        try:
            await asyncio.wait_for(self._empty.wait(), timeout_s)
        except TimeoutError:
            for connection in list(shared.connections):
                connection.abort()
            await self._empty.wait()
        finally:
            self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
