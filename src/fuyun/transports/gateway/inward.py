"""The gateway inside instances: answers at the listener of each, and lets none of them take more than its part.

An instance has few connections, and a budget of work that all of them share: it pays for each connection, each request
and each piece of a body. While it owes, nothing is read from it and no connection taken; what it goes on sending fills
its own kernel's buffers. Implements `ports.attending.Attendant`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import structlog

from fuyun.base import clock
from fuyun.base.tasks import Scope
from fuyun.domain.errors import Unavailable
from fuyun.domain.functions import Version
from fuyun.domain.inward import ADDRESS_PORT
from fuyun.services.credentials import Credentials
from fuyun.services.deferring import Deferring
from fuyun.services.invoking import Invoker
from fuyun.services.inward import InwardInvoker
from fuyun.services.offers import Offer, Offers
from fuyun.transports.gateway.connection import Connection
from fuyun.transports.gateway.limits import GatewayLimits
from fuyun.transports.gateway.shared import Shared

_log = structlog.get_logger("fuyun.inward")
#: What an instance is served with. It is one client, and its own slowness costs only itself.
LIMITS: Final = GatewayLimits(
    head_bytes=16384, connections=64, body_idle_s=10.0, keepalive_s=30.0, write_idle_s=30.0, pipeline=4
)
#: Connections of one instance at once; more wait in its kernel's queue.
CONNECTIONS: Final = 32
#: Work per second, and how much of it may be saved up. A request that is refused is one: an instance that asked nothing
#: else took 3 to 6 % of a core, with a connection for each 14 % where those counted as two (kernel 6.18, CPython 3.11).
_RATE, _SAVED = 1000.0, 500.0
_CONNECTION_COSTS, _BYTES_OF_ONE = 4.0, 32768
#: Bytes that are parsed before the budget is looked at again.
_SLICE = 4096
#: How long a shortage of descriptors is waited out.
_SCARCE_S = 0.2
#: What the kernel keeps of a connection that is not read, in each direction.
BUFFER_BYTES: Final = 65536


class Inward:
    """One per node."""

    def __init__(
        self,
        invoker: Invoker,
        credentials: Credentials,
        limits: GatewayLimits = LIMITS,
        deferring: Deferring | None = None,
        offers: Mapping[str, Offer] | None = None,
    ) -> None:
        self.credentials = credentials
        self.deferring = deferring
        self.limits = limits
        self.scope = Scope("inward", lambda error: _log.error("a connection failed", exc_info=error))
        self._offers = Offers(offers or {}, self.scope)
        self._invoker = invoker
        self._active: set[Desk] = set()
        self._timer: asyncio.TimerHandle | None = None

    def attend(self, version: Version, instance: str, runs: Callable[[str], bool]) -> Desk | None:
        """See `ports.attending.Attendant`."""
        if not version.spec.permissions.any:
            return None
        invoker = InwardInvoker(self._invoker, self.credentials, version, instance, runs, self._offers)
        deferred = None
        if self.deferring is not None:
            inner = self.deferring.of(f"function {version.function}")
            deferred = InwardInvoker(inner, self.credentials, version, instance, runs)
        desk = Desk(self, invoker, deferred)
        if version.spec.isolation == "process":
            desk.listen(_own_listener())
        return desk

    def note(self, desk: Desk, active: bool) -> None:
        """A desk has connections, or has none any more: time is kept for those that have."""
        if not active:
            self._active.discard(desk)
            return
        self._active.add(desk)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.limits.tick_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        for desk in list(self._active):
            desk.tick()
        if self._active:
            self._timer = asyncio.get_running_loop().call_later(self.limits.tick_s, self._tick)

    async def close(self) -> None:
        """End every connection."""
        if self._timer is not None:
            self._timer.cancel()
        for desk in list(self._active):
            desk.close()
        await self.scope.close()


def _own_listener() -> socket.socket:
    """For an instance without a network of its own: a free port of the host's loopback."""
    try:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise Unavailable(f"no descriptors for an instance: {error.strerror}", retry_after_s=1) from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(CONNECTIONS)
    return listener


class Desk:
    """Where one instance is served. Implements `ports.attending.Attendance`."""

    def __init__(self, inward: Inward, invoker: InwardInvoker, deferred: InwardInvoker | None) -> None:
        self._inward = inward
        self._invoker = invoker
        self._deferred = deferred
        self._loop = asyncio.get_running_loop()
        self._listener: socket.socket | None = None
        self._shared: Shared | None = None
        self._visits: dict[_Visit, None] = {}  # in the order in which their turn comes
        self._coming = 0  # accepted, and not made yet
        self._accepting = False
        self._closed = False
        self._budget = _SAVED
        self._looked_s = clock.mono_s()
        self._requests = 0  # of those that were paid for
        self._release: asyncio.TimerHandle | None = None
        self._at = ADDRESS_PORT

    @property
    def endpoint(self) -> str:
        """See `ports.attending.Attendance`."""
        return f"http://127.0.0.1:{self._at}"

    @property
    def port(self) -> int:
        """See `ports.attending.Attendance`."""
        return self._at if self._listener is None else 0

    def credential(self, invocation: str, depth: int, hops: int, trail: str) -> str:
        """See `ports.attending.Attendance`."""
        return self._invoker.credential(invocation, depth, hops, trail)[0]

    # --- connections

    def listen(self, listener: socket.socket) -> None:
        """See `ports.attending.Attendance`."""
        if self._closed or self._listener is not None:
            listener.close()
            return
        listener.setblocking(False)
        self._listener = listener
        self._at = int(listener.getsockname()[1])
        self._attend()

    def _attend(self) -> None:
        """Take connections while there is room and nothing is owed."""
        wanted = not self._closed and not self.owing and len(self._visits) + self._coming < CONNECTIONS
        if self._listener is None or wanted == self._accepting:
            return
        self._accepting = wanted
        if wanted:
            self._loop.add_reader(self._listener.fileno(), self._accept)
        else:
            self._loop.remove_reader(self._listener.fileno())

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # out of descriptors: those of others are worth more than a new one
            _log.warning("a connection was not taken", error=error.strerror)
            self._owe(_SCARCE_S)
            return
        self._coming += 1
        self._inward.scope.start(self._welcome(sock), "inward connection")
        self._pay(_CONNECTION_COSTS)

    async def _welcome(self, sock: socket.socket) -> None:
        try:
            if self._shared is None:
                self._shared = Shared(self._invoker, self._invoker.authenticate, self._inward.limits, self._deferred)
            elif not self._visits:
                self._shared.tick()
            sock.setblocking(False)
            await self._loop.connect_accepted_socket(lambda: _Visit(self, cast(Shared, self._shared)), sock)
        except OSError:
            sock.close()
        finally:
            self._coming -= 1
            self._attend()

    def arrived(self, visit: _Visit) -> None:
        """A connection is there."""
        if self._closed:
            visit.connection.abort()
            return
        self._visits[visit] = None
        self._inward.note(self, True)
        if self.owing:
            visit.hold()

    def left(self, visit: _Visit) -> None:
        """It is gone."""
        self._visits.pop(visit, None)
        if not self._visits:
            self._inward.note(self, False)
        self._attend()

    def tick(self) -> None:
        """Look at the time limits of its connections."""
        if self._shared is not None:
            self._shared.tick()
        for visit in list(self._visits):
            visit.connection.tick()

    def close(self) -> None:
        """See `ports.attending.Attendance`."""
        self._closed = True
        if self._release is not None:
            self._release.cancel()
            self._release = None
        self._attend()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for visit in list(self._visits):
            visit.connection.abort()

    # --- the budget

    @property
    def owing(self) -> bool:
        """Whether it has to wait."""
        return self._release is not None

    def charge(self, size_bytes: int) -> None:
        """It has sent this much, and asked what it asked with it."""
        assert self._shared is not None
        asked, self._requests = self._shared.stats.requests - self._requests, self._shared.stats.requests
        self._pay(asked + size_bytes / _BYTES_OF_ONE)

    def _pay(self, work: float) -> None:
        now_s = clock.mono_s()
        self._budget = min(_SAVED, self._budget + (now_s - self._looked_s) * _RATE) - work
        self._looked_s = now_s
        if self._budget < 0:
            self._owe(-self._budget / _RATE)

    def _owe(self, seconds: float) -> None:
        if self._release is None and not self._closed:
            self._release = self._loop.call_later(max(0.01, seconds), self._paid)
            self._attend()
            for visit in self._visits:
                visit.hold()

    def _paid(self) -> None:
        self._release = None
        for visit in list(self._visits):
            visit.go_on()
            if self.owing:  # the next turn is that of those behind it
                if visit in self._visits:
                    del self._visits[visit]
                    self._visits[visit] = None
                return
        self._attend()


class _Valve:
    """A transport as its connection sees it: what it reads is a matter of the budget, too."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._wanted = True
        self._held = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def pause_reading(self) -> None:
        """The connection wants no more."""
        self._wanted = False
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """It does again."""
        self._wanted = True
        if not self._held:
            self._transport.resume_reading()

    def hold(self, held: bool) -> None:
        """The budget is used up, or is not any more."""
        self._held = held
        if held:
            self._transport.pause_reading()
        elif self._wanted:
            self._transport.resume_reading()


class _Visit(asyncio.Protocol):
    """One connection, its input in slices that are paid for."""

    def __init__(self, desk: Desk, shared: Shared) -> None:
        self._desk = desk
        self.connection = Connection(shared)
        self._valve: _Valve | None = None
        self._rest = memoryview(b"")
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._valve = _Valve(cast(asyncio.Transport, transport))
        self.connection.connection_made(cast(asyncio.BaseTransport, self._valve))
        self._desk.arrived(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of the instance."""
        self._rest = memoryview(bytes(self._rest) + data if self._rest else data)
        self._pump()

    def _pump(self) -> None:
        while self._rest and not self._desk.owing:
            piece, self._rest = bytes(self._rest[:_SLICE]), self._rest[_SLICE:]
            self.connection.data_received(piece)
            self._desk.charge(len(piece))
        if self._ended and not self._rest and not self.connection.eof_received():
            self.connection.transport.close()

    def hold(self) -> None:
        """The budget is used up."""
        if self._valve is not None:
            self._valve.hold(True)

    def go_on(self) -> None:
        """It is not any more."""
        self._pump()
        if self._valve is not None and not self._desk.owing and not self._valve.is_closing():
            self._valve.hold(False)

    def eof_received(self) -> bool:
        """It sends no more."""
        if self._rest:
            self._ended = True
            return True
        return self.connection.eof_received()

    def pause_writing(self) -> None:
        """It does not read."""
        self.connection.pause_writing()

    def resume_writing(self) -> None:
        """It does."""
        self.connection.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._rest = memoryview(b"")
        self.connection.connection_lost(exc)
        self._desk.left(self)
