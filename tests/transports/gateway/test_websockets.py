"""WebSockets: a handshake that reaches the function, then bytes both ways that nobody reads in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fuyun.domain.errors import InstanceLost
from fuyun.runtime.wire import WINDOW
from fuyun.transports.gateway.limits import GatewayLimits
from tests.transports.gateway.fakes import FakeFlight, FakeInvoker, answers, hello, request, run, serving, soon, talk

ASKING = {
    "Connection": "keep-alive, Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}
HANDSHAKE = request(**ASKING)
ACCEPTED = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
]


@soon
def switching(flight: FakeFlight) -> None:
    """Accept."""
    flight.responder.on_head(101, ACCEPTED)


@soon
def echoing(flight: FakeFlight) -> None:
    """Accept and send everything back; end when the client does."""
    flight.on_piece = lambda chunk: None if flight.cancelled else flight.responder.on_body(chunk)
    flight.on_end = lambda: flight.responder.on_end()
    flight.responder.on_head(101, ACCEPTED)
    if flight.body:
        flight.responder.on_body(flight.body)


def invoker_of(handler: object) -> FakeInvoker:
    invoker = FakeInvoker()
    invoker.add("/f", handler, runtime="web")  # type: ignore[arg-type]
    return invoker


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def client(port: int, *first: bytes) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in first:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        yield reader, writer
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except ConnectionError:
            pass


async def switched(reader: asyncio.StreamReader) -> dict[str, str]:
    """The head of a 101, its fields by lower-case name."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    assert first == "HTTP/1.1 101 Switching Protocols"
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


@pytest.mark.parametrize("split", [False, True])
def test_bytes_pass_both_ways(split: bool) -> None:
    async def main() -> None:
        invoker = invoker_of(echoing)
        first = [HANDSHAKE[i : i + 1] for i in range(len(HANDSHAKE))] if split else [HANDSHAKE + b"early "]
        async with serving(invoker) as (gateway, port), client(port, *first) as (reader, writer):
            fields = await switched(reader)
            assert fields["upgrade"] == "websocket"
            assert fields["connection"] == "Upgrade"
            assert fields["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
            [flight] = invoker.flights
            assert fields["fuyun-request-id"] == flight.id
            assert ("upgrade", "websocket") in flight.headers
            assert ("sec-websocket-version", "13") in flight.headers
            assert not flight.ended
            if not split:
                assert await reader.readexactly(6) == b"early "
            big = bytes(range(256)) * 8192  # 2 MiB, eight windows
            writer.write(big)
            assert await reader.readexactly(len(big)) == big
            writer.write_eof()
            assert await reader.read() == b""
            assert flight.records == [(101, len(flight.body))]
        assert gateway.stats.connections == 0

    run(main)


def test_the_function_ends_it() -> None:
    async def main() -> None:
        invoker = invoker_of(switching)
        async with serving(invoker) as (_, port), client(port, HANDSHAKE) as (reader, _writer):
            await switched(reader)
            [flight] = invoker.flights
            flight.responder.on_body(b"bye")
            flight.responder.on_end()
            assert await reader.read() == b"bye"

    run(main)


def test_a_client_that_goes_away_cancels() -> None:
    async def main() -> None:
        invoker = invoker_of(switching)
        async with serving(invoker) as (_, port):
            async with client(port, HANDSHAKE) as (reader, writer):
                await switched(reader)
                writer.transport.abort()
            await invoker.wait_for(lambda: invoker.flights[0].cancelled)

    run(main)


def test_a_refusal_is_an_ordinary_answer_and_the_end_of_the_connection() -> None:
    async def main() -> None:
        invoker = invoker_of(soon(lambda flight: flight.responder.on_result(403, None, b'"no"')))
        async with serving(invoker) as (_, port):
            [answer] = answers(await talk(port, HANDSHAKE + b"ignored"))
            assert (answer.status, answer.body, answer.get("connection")) == (403, b'"no"', "close")
            assert len(invoker.flights) == 1

    run(main)


def test_an_instance_that_is_lost_cuts_it() -> None:
    async def main() -> None:
        invoker = invoker_of(switching)
        async with serving(invoker) as (_, port), client(port, HANDSHAKE) as (reader, _writer):
            await switched(reader)
            invoker.flights[0].responder.on_fail(InstanceLost("gone"))
            assert await reader.read() == b""
            assert invoker.flights[0].records == [(101, 0)]

    run(main)


def test_other_runtimes_refuse_it() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", hello)
        async with serving(invoker) as (_, port):
            [answer] = answers(await talk(port, HANDSHAKE))
            assert answer.status == 501
            assert "`web`" in json.loads(answer.body)["hint"]
            assert not invoker.flights

    run(main)


@pytest.mark.parametrize(
    "raw",
    [
        request("POST", "/f", b"abc", **ASKING),
        request("GET", "/f", b"abc", **ASKING),
        request("POST", "/f", **ASKING),
        HANDSHAKE.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_what_is_no_handshake(raw: bytes) -> None:
    async def main() -> None:
        invoker = invoker_of(echoing)
        async with serving(invoker) as (_, port):
            [answer] = answers(await talk(port, raw))
            assert answer.status == 400
            assert "WebSocket" in json.loads(answer.body)["detail"]
            assert not invoker.flights

    run(main)


def test_it_waits_for_its_turn_behind_other_requests() -> None:
    async def main() -> None:
        invoker = invoker_of(echoing)
        invoker.add("/g", soon(hello))
        raw = request("GET", "/g") + HANDSHAKE + b"abc"
        async with serving(invoker) as (_, port), client(port, raw) as (reader, _writer):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(17) == b'{"hello":"world"}'
            await switched(reader)
            assert await reader.readexactly(3) == b"abc"

    run(main)


def test_a_function_that_does_not_read_holds_the_client_back() -> None:
    async def main() -> None:
        invoker = invoker_of(switching)
        invoker.credits = False
        async with serving(invoker) as (_, port), client(port, HANDSHAKE) as (reader, writer):
            await switched(reader)
            [flight] = invoker.flights
            writer.write(bytes(32 * 2**20))
            while len(flight.body) < WINDOW - 65536:
                await asyncio.sleep(0.01)
            held = len(flight.body)
            assert held <= WINDOW
            unsent = writer.transport.get_write_buffer_size()
            assert unsent > 2**20  # the kernel's buffers are full, and the rest waits with the client
            flight.credit(WINDOW)
            while len(flight.body) < held + WINDOW // 2:
                await asyncio.sleep(0.01)
            writer.transport.abort()

    run(main)


def test_a_client_that_does_not_read_holds_the_function_back() -> None:
    async def main() -> None:
        invoker = invoker_of(switching)
        async with serving(invoker) as (_, port), client(port, HANDSHAKE) as (reader, _writer):
            await switched(reader)
            [flight] = invoker.flights
            sent = 0
            while sent - flight.consumed_bytes < WINDOW:
                assert sent < 64 * 2**20, "the client's pause did not reach the function"
                flight.responder.on_body(bytes(65536))
                sent += 65536
                await asyncio.sleep(0)
            assert await reader.readexactly(sent) == bytes(sent)
            while flight.consumed_bytes < sent:
                await asyncio.sleep(0.01)

    run(main)


def test_one_that_is_silent_for_too_long_is_cut_and_one_that_moves_is_not() -> None:
    async def main() -> None:
        invoker = invoker_of(echoing)
        limits = GatewayLimits(websocket_idle_s=0.2, body_idle_s=0.05, keepalive_s=0.05)
        async with serving(invoker, limits) as (_, port), client(port, HANDSHAKE) as (reader, writer):
            await switched(reader)
            for _ in range(12):
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
                await asyncio.sleep(0.05)
            assert await reader.read() == b""
            assert invoker.flights[0].cancelled

    run(main)


def test_it_does_not_hold_up_the_end_of_the_gateway() -> None:
    async def main() -> None:
        invoker = invoker_of(switching)
        async with serving(invoker) as (gateway, port), client(port, HANDSHAKE) as (reader, _writer):
            await switched(reader)
            await gateway.drain(20.0)
            assert invoker.flights[0].cancelled

    run(main)
