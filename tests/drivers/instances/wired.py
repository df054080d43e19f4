"""A fake instance at the other end of a channel's socket pair, and what it sends."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvloop

from fuyun.drivers.instances.channel import Channel
from fuyun.runtime import wire

uvloop.new_event_loop().close()  # libuv's first loop of a process opens a pipe that stays

USAGE = wire.USAGE.pack(1500, 900, 2048)


class Sink:
    """Notes what arrives for one invocation."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def on_result(
        self, status: int, headers: list[tuple[str, str]] | None, body: bytes, usage: tuple[int, int, int]
    ) -> None:
        self.seen.append(("result", status, headers, bytes(body), usage))

    def on_head(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.seen.append(("head", status, headers))

    def on_body(self, chunk: bytes) -> None:
        self.seen.append(("body", bytes(chunk)))

    def on_end(self, usage: tuple[int, int, int]) -> None:
        self.seen.append(("end", usage))

    def on_fail(self, error: Exception) -> None:
        self.seen.append(("fail", error))

    def on_log(self, stream: str, level: str, text: str) -> None:
        self.seen.append(("log", stream, level, text))

    def on_credit(self, size_bytes: int) -> None:
        self.seen.append(("credit", size_bytes))


class Wired:
    """A channel on one end of a socket pair and a fake instance on the other."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.logs: list[tuple[str, str, str]] = []
        self.channel = Channel("i", self.lost.append, lambda *line: self.logs.append(line))
        self.ours, self.instance = socket.socketpair()
        self._rest = b""

    async def open(self) -> None:
        self.ours.setblocking(False)
        self.instance.setblocking(False)
        await asyncio.get_running_loop().create_connection(lambda: self.channel, sock=self.ours)

    async def send(self, *frames: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.instance, b"".join(frames))

    async def frame(self) -> tuple[int, int, int, bytes]:
        """The next frame the platform wrote: kind, flags, stream, payload."""
        loop = asyncio.get_running_loop()
        while len(self._rest) < 12 or len(self._rest) < 12 + wire.HEADER.unpack_from(self._rest)[0]:
            data = await asyncio.wait_for(loop.sock_recv(self.instance, 65536), 5)
            if not data:
                raise EOFError
            self._rest += data
        size, kind, flags, _, stream = wire.HEADER.unpack_from(self._rest)
        payload, self._rest = self._rest[12 : 12 + size], self._rest[12 + size :]
        return kind, flags, stream, payload

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until what was sent has had its effect."""
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.001)

    async def close(self) -> None:
        self.channel.close()
        self.instance.close()
        await self.until(lambda: self.channel.gone)
        await asyncio.sleep(0)


@asynccontextmanager
async def wired() -> AsyncIterator[Wired]:
    pair = Wired()
    await pair.open()
    try:
        yield pair
    finally:
        await pair.close()


def on_both_loops(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run an async test on asyncio's loop and on uvloop, which serves in production."""

    def run() -> None:
        asyncio.run(test())  # type: ignore[arg-type]
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(test())  # type: ignore[arg-type]

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def result(stream: int, body: bytes, head: bytes = b"") -> bytes:
    return wire.frame(wire.RESULT, stream, USAGE + wire.META.pack(len(head)) + head + body)


def problem(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def log(text: str, stream: int = 0, kind: str = "stdout", level: str = "") -> bytes:
    return wire.frame(wire.LOG, stream, json.dumps({"s": kind, "l": level, "t": text}).encode())
