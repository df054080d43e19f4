"""A server on this loop that does as a test says, behind a real door, and calls to it."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import uvloop

from fuyun.domain.errors import FuyunError
from fuyun.drivers.instances.doors import Door
from fuyun.drivers.instances.fronts import Front
from fuyun.drivers.instances.spending import Spending
from fuyun.ports.instances import Call, Head
from fuyun.runtime import porter

uvloop.new_event_loop().close()  # libuv's first loop of a process opens a pipe that stays

Headers = list[tuple[str, str]]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Taker:
    """Takes one answer. `holds`: it acknowledges nothing until `take` is called."""

    def __init__(self, holds: bool = False) -> None:
        self.status = 0
        self.headers: Headers = []
        self.body = bytearray()
        self.credit = 0
        self.whole = False
        self.usage = (0, 0, 0)
        self.error: FuyunError | None = None
        self.call: Call | None = None
        self.moved = asyncio.Event()
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._holds = holds
        self._owed = 0

    def on_result(self, status: int, headers: Headers | None, body: bytes, usage: tuple[int, int, int]) -> None:
        self.on_head(status, headers or [])
        self.body, self.whole = bytearray(body), True
        self.on_end(usage)

    def on_head(self, status: int, headers: Headers) -> None:
        assert not self.status
        self.status, self.headers = status, headers
        self.moved.set()

    def on_body(self, chunk: bytes) -> None:
        assert self.status
        self.body += chunk
        self.moved.set()
        if self._holds:
            self._owed += len(chunk)
        elif self.call is not None:
            self.call.consumed(len(chunk))

    def take(self) -> None:
        """Acknowledge everything from now on."""
        self._holds = False
        assert self.call is not None
        self.call.consumed(self._owed)

    def on_end(self, usage: tuple[int, int, int]) -> None:
        self.usage = usage
        self._over.set_result(None)

    def on_fail(self, error: Exception) -> None:
        assert isinstance(error, FuyunError)
        self.error = error
        self._over.set_result(None)

    def on_log(self, stream: str, level: str, text: str) -> None:
        raise AssertionError("a front has no logs")

    def on_credit(self, size_bytes: int) -> None:
        self.credit += size_bytes
        self.moved.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that arrives."""
        while not condition():
            self.moved.clear()
            await self.moved.wait()

    async def end(self) -> Taker:
        """Wait for the end."""
        await self._over
        return self

    def get(self, name: str) -> list[str]:
        return [value for found, value in self.headers if found.lower() == name]


class Scene:
    """A front on a door whose inner end a thread serves, as a keeper's does."""

    def __init__(self, port: int, concurrency: int, output_bytes: int) -> None:
        self.port = port
        self.streams: dict[int, Any] = {}
        self.broken: list[str] = []
        door = Door()
        inside = socket.socket(fileno=door.inside.detach())
        self.porter = threading.Thread(target=self._hand_out, args=(inside, port))
        self.porter.start()
        self.front = Front(
            door, self.streams, port=port, concurrency=concurrency, output_bytes=output_bytes,
            spending=Spending(os.getpid()), on_broken=self.broken.append,
        )  # fmt: skip

    @staticmethod
    def _hand_out(inside: socket.socket, port: int) -> None:
        with inside:
            porter.hand_out(inside, port)

    def call(self, method: str = "GET", path: str = "/", body: bytes = b"", end: bool = True, **head: Any) -> Taker:
        """Begin a call; `holds` goes to its taker, the rest to its head."""
        taker = Taker(head.pop("holds", False))
        asked = Head(id="r1", method=method, path=path, **head)
        taker.call = self.front.invoke(msgspec.json.encode(asked), body, end, taker)
        return taker

    async def ask(self, method: str = "GET", path: str = "/", body: bytes = b"", **head: Any) -> Taker:
        """A call to its end."""
        return await self.call(method, path, body, **head).end()


@asynccontextmanager
async def front_of(serve: Serve, *, concurrency: int = 80, output_bytes: int = 1 << 20) -> AsyncIterator[Scene]:
    """A scene whose program runs `serve` for every connection."""
    writers: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 22)
    scene = Scene(server.sockets[0].getsockname()[1], concurrency, output_bytes)
    try:
        yield scene
    finally:
        scene.front.close()
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.get_running_loop().run_in_executor(None, scene.porter.join)
        await asyncio.sleep(0)


async def request_of(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """Request line, fields and body of the next request."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        assert name not in fields, name
        fields[name] = value
    if fields.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            assert await reader.readexactly(2) == b"\r\n"
        assert await reader.readexactly(2) == b"\r\n"
        return first, fields, body
    return first, fields, await reader.readexactly(int(fields.get("content-length", 0)))


def saying(*pieces: bytes, close: bool = True) -> Serve:
    """Answer a request with these bytes, piece by piece, then close or hold the connection open."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.002)
        if not close:
            await reader.read()

    return serve


class Counting:
    """A server that keeps its connections and says which one it is."""

    def __init__(self, answers_per_connection: int = 1000) -> None:
        self.connections = 0
        self.requests: list[str] = []
        self._left = answers_per_connection

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        me, left = self.connections, self._left
        while True:
            line, _, _ = await request_of(reader)
            self.requests.append(line.split()[0])
            if not left:
                return  # closes instead of answering
            left -= 1
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % me)
            await writer.drain()


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await main()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(limited())
