"""The reference server: what uvloop and httptools can do when there is no platform at all.

One process, one connection class, a constant JSON answer. Prints its port, serves until it is ended.
"""

from __future__ import annotations

import asyncio

import httptools
import uvloop

ANSWER = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 17\r\n\r\n{"hello":"world"}'


class Hello(asyncio.Protocol):
    """Parses every request completely and answers when it is complete."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.headers: list[tuple[bytes, bytes]] = []

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """The request target."""
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self.headers.append((name, value))

    def on_message_complete(self) -> None:
        """The request is complete: answer it."""
        self.headers.clear()
        self.transport.write(ANSWER)  # type: ignore[attr-defined]


async def main() -> None:
    """Listen on a free port and say which."""
    server = await asyncio.get_running_loop().create_server(Hello, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
