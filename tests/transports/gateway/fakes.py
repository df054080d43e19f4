"""A fake invoker whose functions are small Python callables, and a raw client."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import h11
import uvloop

from fuyun.domain.errors import FuyunError, NotFound, Unauthenticated
from fuyun.domain.functions import Artifact, Auth, Cors, FunctionSpec, Version
from fuyun.domain.tenants import Principal
from fuyun.runtime.wire import WINDOW
from fuyun.services.invoking import Responder
from fuyun.services.requests import Request
from fuyun.services.routes import Route
from fuyun.transports.gateway.limits import GatewayLimits
from fuyun.transports.gateway.server import Gateway

KEYS = {
    "fk_a_1": Principal(key_id="a", namespace="default", role="invoker"),
    "fk_v_1": Principal(key_id="v", namespace="default", role="viewer"),
    "fk_o_1": Principal(key_id="o", namespace="other", role="admin"),
}


def authenticate(token: str) -> Principal:
    """The principal of a known token."""
    if token not in KEYS:
        raise Unauthenticated("this key is not known", hint="create one with `fuyun key create`")
    return KEYS[token]


@dataclass(eq=False)
class FakeFlight:
    """What the gateway asked for, and what it did with the answer."""

    id: str
    route: Route
    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    source: str
    body: bytes
    ended: bool
    responder: Responder
    invoker: FakeInvoker
    timing: str = "queue;dur=0.01, run;dur=0.05"
    start_kind: str = "warm"
    version: str = "3"
    room: int = WINDOW
    consumed_bytes: int = 0
    cancelled: bool = False
    records: list[tuple[int, int]] = field(default_factory=list)
    on_consumed: Callable[[], None] | None = None
    on_end: Callable[[], None] | None = None
    on_piece: Callable[[bytes], None] | None = None
    pieces: int = 0

    def send_body(self, chunk: bytes, end: bool) -> None:
        assert not self.cancelled
        assert not self.ended
        self.room -= len(chunk)
        assert self.room >= 0, "the gateway sent more than the window"
        self.body += chunk
        self.pieces += 1
        if self.on_piece is not None:
            asyncio.get_running_loop().call_soon(self.on_piece, chunk)
        if end:
            self.ended = True
            on_end, self.on_end = self.on_end, None
            if on_end is not None:
                on_end()
        elif chunk and self.invoker.credits:
            self.credit(len(chunk))

    def credit(self, size_bytes: int) -> None:
        self.room += size_bytes
        asyncio.get_running_loop().call_soon(self._credit, size_bytes)

    def _credit(self, size_bytes: int) -> None:
        if not self.cancelled:
            self.responder.on_credit(size_bytes)

    def consumed(self, size_bytes: int) -> None:
        self.consumed_bytes += size_bytes
        if self.on_consumed is not None:
            self.on_consumed()

    def cancel(self) -> None:
        assert not self.cancelled
        self.cancelled = True
        self.invoker.changed()

    def sent(self, http_status: int, response_bytes: int) -> None:
        assert not self.cancelled
        assert not self.records, "sent twice"
        self.records.append((http_status, response_bytes))
        self.invoker.changed()


def version_of(runtime: str) -> Version:
    """What a route leads to."""
    return Version(
        namespace="default",
        function="f",
        number=1,
        spec=FunctionSpec(runtime=runtime),
        code=Artifact(digest="0" * 64, size_bytes=0),
        created_s=0.0,
    )


Handler = Callable[[FakeFlight], None]


def hello(flight: FakeFlight) -> None:
    """Answer at once, from inside `begin`."""
    flight.responder.on_result(200, None, b'{"hello":"world"}')


def soon(handler: Handler) -> Handler:
    """Run `handler` in a later turn of the loop, unless the flight was cancelled."""

    def later(flight: FakeFlight) -> None:
        def run() -> None:
            if not flight.cancelled:
                handler(flight)

        asyncio.get_running_loop().call_soon(run)

    return later


def failing(error: FuyunError) -> Handler:
    return soon(lambda flight: flight.responder.on_fail(error))


def whole(answer: Callable[[FakeFlight], tuple[int, list[tuple[str, str]] | None, bytes]]) -> Handler:
    """Answer when the request is complete."""

    def handle(flight: FakeFlight) -> None:
        def end() -> None:
            flight.responder.on_result(*answer(flight))

        if flight.ended:
            soon(lambda _: end())(flight)
        else:
            flight.on_end = end

    return handle


def waiting(flight: FakeFlight) -> None:
    """Never answer."""


class FakeInvoker:
    """Routes are added with `add`; every flight is kept."""

    def __init__(self) -> None:
        self.routes: dict[str, tuple[Route, Handler]] = {}
        self.flights: list[FakeFlight] = []
        self.credits = True
        self._ids = itertools.count(1)
        self._changed = asyncio.Event()

    def add(
        self,
        base: str,
        handler: Handler,
        *,
        auth: Auth = "public",
        methods: tuple[str, ...] = (),
        cors: Cors | None = None,
        payload_bytes: int = 1 << 20,
        runtime: str = "python3",
    ) -> None:
        route = Route(
            namespace="default",
            function=base.removeprefix("/fn/default").strip("/") or "root",
            qualifier="live",
            base=base,
            auth=auth,
            methods=frozenset(methods),
            cors=cors,
            sticky_header="",
            payload_bytes=payload_bytes,
            choices=[(100.0, version_of(runtime))],
        )
        self.routes[base] = (route, handler)

    def match(self, path: str) -> Route:
        for base, (route, _) in self.routes.items():
            if path == base or path.startswith(base + "/"):
                return route
        if path.startswith("/fn/"):
            _, _, namespace, function = path.split("/")
            raise NotFound(f"no function {path}", kind="function", namespace=namespace, function=function)
        raise NotFound(f"nothing is served at {path}", hint="list what is with `fuyun fn list`", kind="route")

    def resolve(self, namespace: str, function: str, qualifier: str) -> Route:
        raise NotFound(f"no function {function}")

    def begin(
        self,
        route: Route,
        request: Request,
        body: bytes,
        end: bool,
        responder: Responder,
    ) -> FakeFlight:
        assert request.kind == "http"
        assert request.scheme == "http"
        flight = FakeFlight(
            f"{next(self._ids):032x}", route, request.method, request.path, request.query, request.headers,
            request.source, body, end, responder, self,
        )  # fmt: skip
        self.flights.append(flight)
        self.changed()
        self.routes[route.base][1](flight)
        return flight

    def changed(self) -> None:
        self._changed.set()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; it is asked whenever a flight begins, ends or is cancelled."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()


@asynccontextmanager
async def serving(invoker: FakeInvoker, limits: GatewayLimits | None = None) -> AsyncIterator[tuple[Gateway, int]]:
    """A gateway on a free port; everything is closed afterwards."""
    gateway = Gateway(invoker, authenticate, limits)
    port = await gateway.start("127.0.0.1", 0)
    try:
        yield gateway, port
    finally:
        await gateway.drain(0.0)


async def talk(port: int, *parts: bytes, shut: bool = False) -> bytes:
    """Send `parts` one after the other, each its own segment, and read until the gateway closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if shut:
            writer.write_eof()
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test on the loop the platform runs on, for at most 30 seconds."""

    async def limited() -> None:
        async with asyncio.timeout(30):
            await main()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(limited())


@dataclass
class Answer:
    """One final answer as h11 read it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    interim: list[int] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [value for found, value in self.headers if found == name]

    def get(self, name: str) -> str:
        values = self.all(name)
        assert len(values) == 1, f"{name}: {values}"
        return values[0]


def answers(raw: bytes, *methods: str) -> list[Answer]:
    """Every answer in `raw`, in order, which is all of it; `methods` are what was asked (GET where not given)."""
    found: list[Answer] = []
    while raw:
        method = methods[len(found)] if len(found) < len(methods) else "GET"
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        client.send(h11.EndOfMessage())
        client.receive_data(raw)
        client.receive_data(b"")
        answer = Answer(0, [], b"")
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.InformationalResponse):
                answer.interim.append(event.status_code)
            elif isinstance(event, h11.Response):
                answer.status = event.status_code
                answer.headers = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
            else:
                assert isinstance(event, h11.Data), event
                answer.body += bytes(event.data)
        found.append(answer)
        raw = client.trailing_data[0]
    return found


async def ask(invoker: FakeInvoker, raw: bytes, *methods: str) -> list[Answer]:
    """The answers of a gateway of its own to `raw`, which ends the connection."""
    async with serving(invoker) as (_, port):
        return answers(await talk(port, raw), *methods)


def request(method: str = "GET", target: str = "/f", body: bytes = b"", **headers: str) -> bytes:
    """An HTTP/1.1 request with Host, and with Content-Length when there is a body. `_` in names becomes `-`."""
    lines = [f"{method} {target} HTTP/1.1", "Host: a"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


LAST = {"Connection": "close"}
