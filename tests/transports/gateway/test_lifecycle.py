"""The life of a connection: pipelining, idling, the connection limit, draining."""

from __future__ import annotations

import asyncio
import socket

import pytest

from fuyun.transports.gateway.limits import GatewayLimits
from fuyun.transports.gateway.server import Gateway
from tests.transports.gateway.fakes import (
    LAST,
    FakeInvoker,
    answers,
    authenticate,
    hello,
    request,
    run,
    serving,
    soon,
    talk,
    waiting,
    whole,
)


def test_idle_connections_are_closed() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", hello)
        async with serving(invoker, GatewayLimits(keepalive_s=0.1)) as (_, port):
            assert await talk(port) == b""
            assert await talk(port, b"\r\n\r\n") == b""
            [answer] = answers(await talk(port, request()))
            assert answer.all("connection") == []

    run(main)


def test_a_slow_function_is_no_idle_client() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        invoker = FakeInvoker()
        invoker.add("/f", lambda flight: loop.call_later(0.4, hello, flight) and None)
        async with serving(invoker, GatewayLimits(keepalive_s=0.1, body_idle_s=0.1)) as (_, port):
            found = answers(await talk(port, request() + request("POST", "/f", b"abc", **LAST)))
            assert [answer.status for answer in found] == [200, 200]

    run(main)


def test_a_client_that_never_reads_is_cut_off() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", whole(lambda _: (200, [], bytes(16 << 20))))
        async with serving(invoker, GatewayLimits(write_idle_s=0.2)) as (gateway, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(request() + request())
            await invoker.wait_for(lambda: bool(invoker.flights))
            while gateway.stats.connections:
                await asyncio.sleep(0.01)
            assert len(invoker.flights) == 1, "the next request waits until the client has taken the answer"
            assert gateway.stats.timed_out == 1
            writer.transport.abort()
            assert reader

    run(main)


def test_pipelined_requests_are_answered_in_order_and_bounded() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        held: list[object] = []
        invoker.add("/f", held.append)
        count = 5000
        raw = b"".join(request("GET", f"/f/{index}") for index in range(count)) + request("GET", "/none", **LAST)
        async with serving(invoker, GatewayLimits(pipeline=16)) as (gateway, port):
            talking = asyncio.get_running_loop().create_task(talk(port, raw))
            await invoker.wait_for(lambda: bool(held))
            [connection] = gateway._shared.connections
            while connection._reading:
                await asyncio.sleep(0)
            assert len(connection._waiting) < 16 + 4096 // 30
            assert len(invoker.flights) == 1

            def answer() -> None:
                while held:
                    flight = held.pop()
                    flight.responder.on_result(200, [], flight.path.encode())  # type: ignore[attr-defined]

            while not talking.done():
                answer()
                await asyncio.sleep(0)
            found = answers(await talking)
        assert [answer.body for answer in found[:-1]] == [b"/%d" % index for index in range(count)]
        assert found[-1].status == 404

    run(main)


def test_pipelined_requests_answered_at_once_do_not_recurse() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", hello)
        async with serving(invoker) as (_, port):
            found = answers(await talk(port, request("POST", "/f", b"abc") * 3000 + request(**LAST)))
            assert len(found) == 3001

    run(main)


def test_connections_over_the_limit_are_told_so() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", waiting)
        async with serving(invoker, GatewayLimits(connections=2)) as (gateway, port):
            streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            while gateway.stats.connections < 2:
                await asyncio.sleep(0)
            [answer] = answers(await talk(port, request()))
            assert answer.status == 503
            assert answer.get("retry-after") == "1"
            assert gateway.stats.turned_away == 1
            for _, writer in streams:
                writer.close()
                await writer.wait_closed()
            while gateway.stats.connections:
                await asyncio.sleep(0)
            assert await talk(port, request("GET", "/none", **LAST))

    run(main)


def test_drain_finishes_what_runs_and_closes_the_rest() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        held: list[object] = []
        invoker.add("/f", held.append)
        gateway = Gateway(invoker, authenticate, GatewayLimits())
        port = await gateway.start()
        loop = asyncio.get_running_loop()
        idle = loop.create_task(talk(port))
        busy = loop.create_task(talk(port, request() + request()))
        await invoker.wait_for(lambda: bool(held))
        while gateway.stats.connections < 2:
            await asyncio.sleep(0)
        draining = loop.create_task(gateway.drain(20))
        assert await idle == b""
        with pytest.raises(ConnectionRefusedError):
            await talk(port)
        for _ in range(2):
            await invoker.wait_for(lambda: bool(held))
            held.pop().responder.on_result(200, None, b"1")  # type: ignore[attr-defined]
        first, second = answers(await busy)
        assert first.all("connection") == []
        assert second.get("connection") == "close"
        await draining
        assert gateway.stats.connections == 0
        await gateway.drain(1)

    run(main)


def test_drain_cuts_what_does_not_end() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", waiting)
        gateway = Gateway(invoker, authenticate, GatewayLimits())
        port = await gateway.start()
        talking = asyncio.get_running_loop().create_task(talk(port, request()))
        await invoker.wait_for(lambda: bool(invoker.flights))
        await gateway.drain(0.05)
        assert invoker.flights[0].cancelled
        assert gateway.stats.connections == 0
        try:
            assert await talking == b""
        except ConnectionResetError:
            pass

    run(main)


def test_answers_at_once_and_later_stay_in_order_and_none_is_lost() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", hello)
        invoker.add("/soon", soon(hello))
        invoker.add("/other", whole(lambda flight: (200, [], flight.path.encode())))
        async with serving(invoker) as (_, port):
            targets = ["/f", "/other/1", "/f", "/none", "/soon", "/f", "/other/2", "/f"]
            raw = b"".join(request("GET", target) for target in targets)
            loop = asyncio.get_running_loop()
            ways = [raw + request("GET", "/f", **LAST), raw + request("GET", "/none", **LAST), raw + b"bad\r\n\r\n"]
            talks = [loop.create_task(talk(port, way, shut=shut)) for way in ways for shut in (False, True)]
            for done in await asyncio.gather(*talks):
                found = answers(done)
                assert len(found) == 9
                assert [answer.body for answer in found[:3]] == [b'{"hello":"world"}', b"/1", b'{"hello":"world"}']
                assert found[3].status == 404
                assert found[6].body == b"/2"

    run(main)


def test_it_listens_on_a_bound_socket_and_says_when_a_port_is_taken() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", hello)
        sock = socket.create_server(("127.0.0.1", 0))
        first, second = Gateway(invoker, authenticate), Gateway(invoker, authenticate)
        port = await first.start(sock=sock)
        try:
            assert port == sock.getsockname()[1]
            [answer] = answers(await talk(port, request(**LAST)))
            assert answer.status == 200
            with pytest.raises(OSError, match="address already in use"):
                await second.start("127.0.0.1", port)
        finally:
            await first.drain(0)
            await second.drain(0)

    run(main)
