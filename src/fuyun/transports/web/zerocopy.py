"""Files that the kernel hands to the network: no byte of them passes through the process.

Applications find the ASGI extension `http.response.zerocopysend` in their scope
(https://asgi.readthedocs.io/en/latest/extensions.html#zero-copy-send) and send a file with a descriptor, an offset and
a count. uvloop has no `sendfile` of its own: what was written before is waited for, then sendfile(2) works in a thread,
as it may have to wait for the disk, on a descriptor of its own.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, BinaryIO, Final, Protocol, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

EXTENSION: Final = "http.response.zerocopysend"
#: Bytes of one call: a thread is not held longer by a client that takes them as fast as they are read.
_CALL_BYTES = 4 * 2**20


class Cycle(Protocol):
    """What is used of uvicorn's request and response."""

    transport: asyncio.Transport
    scope: Any
    disconnected: bool
    chunked_encoding: bool | None
    expected_content_length: int


class Line:
    """One connection: its transport, and who waits for its being writable."""

    def __init__(self, flow: Any) -> None:
        self._flow = flow  # uvicorn's FlowControl: `write_paused`, `drain`
        self._waiter: asyncio.Future[None] | None = None

    def lost(self) -> None:
        """The client is gone, or it can be written to again: whoever waits for that goes on."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def wrap(self, app: ASGIApp, cycle: Cycle) -> ASGIApp:
        """The application with the extension, where the transport has a plain socket."""
        if cycle.transport.get_extra_info("socket") is None or cycle.transport.get_extra_info("sslcontext") is not None:
            return app

        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            scope["extensions"] = {**scope.get("extensions", {}), EXTENSION: {}}

            async def extended(message: Message) -> None:
                if message["type"] == EXTENSION:
                    await self._send_file(cycle, message, send)
                else:
                    await send(message)

            await app(scope, receive, extended)

        return wrapped

    async def _send_file(self, cycle: Cycle, message: Message, send: Callable[[Message], Awaitable[None]]) -> None:
        file, count, more = cast(BinaryIO, message["file"]), int(message["count"]), bool(message.get("more_body"))
        if cycle.scope["method"] != "HEAD" and not cycle.disconnected:
            if cycle.chunked_encoding is not False or count > cycle.expected_content_length:
                raise RuntimeError("a file is sent in an answer whose Content-Length does not cover it")
            transport = cycle.transport
            before = transport.get_write_buffer_limits()
            transport.set_write_buffer_limits(0)  # the head, and pieces before, go first
            try:
                transport.write(b"")
                while transport.get_write_buffer_size() and not cycle.disconnected:
                    await self._flow.drain()
                    await asyncio.sleep(0)
            finally:
                if not cycle.disconnected:
                    transport.set_write_buffer_limits(before[1], before[0])
            if not cycle.disconnected:
                await self._pour(cycle, file.fileno(), int(message.get("offset", 0)), count)
            cycle.expected_content_length -= count
        if not more:
            await send({"type": "http.response.body", "body": b""})

    async def _pour(self, cycle: Cycle, file: int, offset: int, count: int) -> None:
        sock = os.dup(cycle.transport.get_extra_info("socket").fileno())
        try:
            while count and not cycle.disconnected:
                try:
                    sent = await asyncio.to_thread(os.sendfile, sock, file, offset, min(count, _CALL_BYTES))
                except BlockingIOError:
                    await self._writable(sock)
                    continue
                except (BrokenPipeError, ConnectionError):
                    cycle.transport.abort()
                    return
                if not sent:
                    raise RuntimeError("the file is shorter than what is sent of it")
                offset += sent
                count -= sent
        finally:
            os.close(sock)

    async def _writable(self, sock: int) -> None:
        """Until the client has taken something, or is gone."""
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        loop.add_writer(sock, self.lost)
        try:
            await waiter
        finally:
            self._waiter = None
            loop.remove_writer(sock)
