"""Listens for an ASGI application inside the platform's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fuyun.base import ids
from fuyun.base.tasks import Scope
from fuyun.domain.errors import BadRequest, FuyunError, HeadTooLarge, HostUnable, RequestTimedOut
from fuyun.transports.web.problems import PROBLEM, problem_answer
from fuyun.transports.web.zerocopy import Line

#: Connections inherit these. A client that reads nothing is taken for dead: 60 s idle, then 3 probes 10 s apart (Linux
#: tcp(7)). An answer's body goes at once: held until its head is acknowledged, it would wait 40 ms on every loop that
#: does not ask for this itself, as asyncio's does not for a socket without a protocol number.
_TCP_OPTIONS = (
    (socket.TCP_KEEPIDLE, 60),
    (socket.TCP_KEEPINTVL, 10),
    (socket.TCP_KEEPCNT, 3),
    (socket.TCP_NODELAY, 1),
)


#: Bytes of a request's target and headers; 431 above, as in most servers. Seconds it may take; 408 above.
HEAD_BYTES = 65536
HEAD_S = 20.0

#: What uvicorn says of clients' mistakes and of answers we cut on purpose; a stranger must not fill the log with it.
_EXPECTED = ("Invalid HTTP request received.", "ASGI callable returned without completing response.")

_uvicorn_log = logging.getLogger("fuyun.http")
_uvicorn_log.addFilter(lambda record: record.getMessage() not in _EXPECTED)


class _Protocol(HttpToolsProtocol):
    """uvicorn's httptools protocol, with bounds on request heads, and with bad requests answered as problems.

    `data_received` counts the bytes that came since a head was last complete; a head may neither grow past `HEAD_BYTES`
    nor take longer than `HEAD_S`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _uvicorn_log
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came: its first head is awaited."""
        super().connection_made(transport)
        self._line = Line(self.flow)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It left."""
        self._head_came()
        super().connection_lost(exc)
        self._line.lost()

    def data_received(self, data: bytes) -> None:
        """Parse; refuse a head that goes on and on."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(HeadTooLarge(f"the request's head is over {HEAD_BYTES} bytes", hint="send fewer headers"))

    def on_message_begin(self) -> None:
        """A head begins."""
        self._head_bytes = self._head_bytes or 1
        self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """It is complete."""
        self._head_came()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP gets a problem too, then the connection ends."""
        self._refuse(BadRequest("this is not an HTTP/1.1 request", hint="check the client"))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Answer a request, with files if the application has some."""
        extended: Any = self._line.wrap(app, cycle)
        super()._start_asgi_task(cycle, extended)

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_S, self._head_late)

    def _head_came(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_late(self) -> None:
        self._head_timer = None
        if self._answering():
            self._await_head()
        elif not self._head_bytes:
            self.transport.close()
        else:
            self._refuse(RequestTimedOut(f"the request's head took over {HEAD_S:g} s", hint="send it at once"))

    def _answering(self) -> bool:
        cycle: Any = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete

    def _refuse(self, error: FuyunError) -> None:
        """Answer with a problem outside of any request, and close; in the middle of an answer only close."""
        if self._answering():
            self.transport.close()
            return
        id_ = ids.new_id()
        status, headers, body = problem_answer(error, id_)
        headers = {**headers, "content-type": PROBLEM, "content-length": str(len(body)), "fuyun-request-id": id_}
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self.transport.write("\r\n".join([*lines, "connection: close", "", ""]).encode() + body)
        self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn without its hands on the process: no signal handlers, and a future that says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the platform's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        await self.on_tick(0)
        self.listening.set_result(None)


class HttpServer:
    """An ASGI application on one address. `start` returns when it accepts connections, `stop` when the last has ended.

    `name` and `option` are said to the operator when the address cannot be had.
    """

    name, option = "the server", ""

    def __init__(self, app: Any, host: str, port: int, keepalive_s: float = 75.0) -> None:
        self.app = app
        self._host = host
        self._port = port
        self._keepalive_s = keepalive_s
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._scope = Scope(self.name, self._failed)

    async def start(self) -> int:
        """Listen on host:port (0 takes a free one); the port. HostUnable when the address cannot be had."""
        listener = self._bind()
        config = uvicorn.Config(
            self.app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=max(1, round(self._keepalive_s)),
        )
        server = self._server = _Server(config)
        self._serving = self._scope.start(server.serve(sockets=[listener]), "serve")
        await server.listening
        return int(listener.getsockname()[1])

    async def stop(self, timeout_s: float) -> None:
        """Accept nothing new, let running requests finish for `timeout_s`, then cut them off."""
        server, serving = self._server, self._serving
        self._server = self._serving = None
        if server is not None and serving is not None:
            server.config.timeout_graceful_shutdown = max(0.1, timeout_s)  # type: ignore[assignment]
            server.should_exit = True
            await asyncio.wait([serving])
            await asyncio.gather(*server.server_state.tasks, return_exceptions=True)

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _TCP_OPTIONS:
                listener.setsockopt(socket.IPPROTO_TCP, option, value)
            listener.bind((self._host, self._port))
            listener.setblocking(False)
        except OSError as exc:
            listener.close()
            raise HostUnable(
                f"{self.name} cannot listen on {self._host}:{self._port}: {exc.strerror}",
                hint=(
                    "choose an address of this machine with --host"
                    if isinstance(exc, socket.gaierror) or exc.errno == errno.EADDRNOTAVAIL
                    else f"another program may hold the port; choose one with {self.option}"
                ),
                feature="listen",
            ) from exc
        return listener

    def _failed(self, exc: BaseException) -> None:
        if self._server is not None and not self._server.listening.done():
            self._server.listening.set_exception(exc)
        else:
            logging.getLogger("fuyun.http").error("%s failed", self.name, exc_info=exc)
