"""What is done is freed at once: nothing on the request path waits for the garbage collector."""

from __future__ import annotations

import asyncio
import gc

from fuyun.transports.gateway.connection import Connection
from fuyun.transports.gateway.exchange import Exchange
from tests.transports.gateway.fakes import LAST, FakeInvoker, hello, request, run, serving, soon, talk, waiting, whole


def alive() -> list[str]:
    return [type(each).__name__ for each in gc.get_objects() if type(each) in (Connection, Exchange)]


def test_connections_and_exchanges_are_freed_without_the_collector() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", soon(hello))
        invoker.add("/echo", whole(lambda flight: (200, [("X-A", "1")], flight.body)))
        invoker.add("/bad", whole(lambda _: (99, [], b"")))
        invoker.add("/held", waiting)
        gc.collect()
        gc.disable()
        try:
            async with serving(invoker) as (gateway, port):
                raw = request() * 3 + request("POST", "/echo", b"abc") + request("GET", "/bad")
                await talk(port, raw + request("POST", "/echo", bytes(100_000)) + request("GET", "/none", **LAST))
                await talk(port, request() + b"garbage\r\n\r\n")
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request("GET", "/held"))
                await invoker.wait_for(lambda: invoker.flights[-1].path == "/" and len(invoker.flights) == 8)
                writer.transport.abort()
                await invoker.wait_for(lambda: invoker.flights[-1].cancelled)
                while gateway.stats.connections:
                    await asyncio.sleep(0)
                invoker.flights.clear()
            await asyncio.sleep(0)
            assert alive() == []
        finally:
            gc.enable()

    run(main)
