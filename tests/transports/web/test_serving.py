"""How an HTTP server of the platform's listens."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from fuyun.transports.web.serving import HttpServer


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def test_an_answer_does_not_wait_for_an_acknowledgement() -> None:
    """A body that follows its head in a write of its own would wait 40 ms for the client's delayed acknowledgement."""

    async def scene() -> list[int]:
        server = HttpServer(_hello, "127.0.0.1", 0)
        accepted: list[int] = []
        port = await server.start()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(2) == b"ok"
            for protocol in server._server.server_state.connections:  # type: ignore[union-attr]
                sock = protocol.transport.get_extra_info("socket")
                accepted.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()
            await writer.wait_closed()
        finally:
            await server.stop(1)
        return accepted

    assert asyncio.run(scene()) == [1]
