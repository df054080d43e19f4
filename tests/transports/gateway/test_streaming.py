"""Bodies in pieces, both ways, with bounded memory; the client that goes away."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from fuyun.domain.errors import InstanceLost
from fuyun.runtime.wire import WINDOW
from fuyun.transports.gateway.limits import GatewayLimits
from tests.transports.gateway.fakes import (
    LAST,
    FakeFlight,
    FakeInvoker,
    answers,
    hello,
    request,
    run,
    serving,
    soon,
    talk,
    waiting,
    whole,
)

CHUNKED = {"Transfer-Encoding": "chunked"}


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


def streaming(chunks: list[bytes], headers: list[tuple[str, str]]) -> object:
    """A function that streams `chunks`, never more than the window ahead of what the client took."""

    def handle(flight: FakeFlight) -> None:
        left = list(chunks)
        ahead = {"bytes": 0, "most": 0, "ended": 0}
        flight.ahead = ahead  # type: ignore[attr-defined]

        def more() -> None:
            if flight.cancelled or ahead["ended"]:
                return
            while left and ahead["bytes"] - flight.consumed_bytes + len(left[0]) <= WINDOW:
                chunk = left.pop(0)
                ahead["bytes"] += len(chunk)
                flight.responder.on_body(chunk)
                ahead["most"] = max(ahead["most"], ahead["bytes"] - flight.consumed_bytes)
            if not left and not ahead["ended"]:
                ahead["ended"] = 1
                flight.responder.on_end()

        flight.on_consumed = lambda: asyncio.get_running_loop().call_soon(more) and None
        flight.responder.on_head(200, headers)
        more()

    return soon(handle)


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_streamed_answer(declared: bool, method: str) -> None:
    async def main() -> None:
        chunks = [b"a", b"", b"bc" * 70_000, b"d"]
        total = sum(map(len, chunks))
        headers = [("Content-Type", "text/plain")] + ([("Content-Length", str(total))] if declared else [])
        invoker = FakeInvoker()
        invoker.add("/f", streaming(chunks, headers))  # type: ignore[arg-type]
        async with serving(invoker) as (_, port):
            first, second = answers(await talk(port, request(method) + request(method, **LAST)), method, method)
        for answer in (first, second):
            assert answer.status == 200
            assert answer.all("transfer-encoding") == ([] if declared else ["chunked"])
            assert answer.all("content-length") == ([str(total)] if declared else [])
            assert answer.body == (b"" if method == "HEAD" else b"".join(chunks))
        sent = 0 if method == "HEAD" else total
        assert [flight.records for flight in invoker.flights] == [[(200, sent)], [(200, sent)]]

    run(main)


def test_a_streamed_answer_to_http_1_0_ends_with_the_connection() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", streaming([b"abc", b"def"], []))  # type: ignore[arg-type]
        async with serving(invoker) as (_, port):
            raw = await talk(port, b"GET /f HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        head, _, body = raw.partition(b"\r\n\r\n")
        assert body == b"abcdef"
        assert b"Connection: close" in head
        assert b"chunked" not in head

    run(main)


@pytest.mark.parametrize("answered", ["early", "fail", "short", "long"])
def test_a_streamed_answer_that_breaks_off_is_seen_as_broken(answered: str) -> None:
    async def main() -> None:
        def handle(flight: FakeFlight) -> None:
            declared = [("Content-Length", "10")] if answered in ("short", "long") else []
            flight.responder.on_head(200, declared)
            flight.responder.on_body(b"abc")
            if answered == "long":
                flight.responder.on_body(b"0123456789")
            elif answered == "short":
                flight.responder.on_end()
            else:
                flight.responder.on_fail(InstanceLost("gone"))

        invoker = FakeInvoker()
        invoker.add("/f", soon(handle))
        async with serving(invoker) as (gateway, port):
            try:
                raw = await talk(port, request() + request())
            except ConnectionResetError:
                raw = b""
            assert b"\r\n0\r\n\r\n" not in raw
            assert raw.count(b"HTTP/1.1") <= 1
            await wait_closed(gateway)
        [flight] = invoker.flights
        assert flight.cancelled == (answered == "long")
        assert flight.records == ([] if answered == "long" else [(200, 3)])

    run(main)


async def wait_closed(gateway: object) -> None:
    while gateway.stats.connections:  # type: ignore[attr-defined]
        await asyncio.sleep(0)


def test_a_slow_client_holds_the_function_back_and_costs_bounded_memory() -> None:
    async def main() -> None:
        chunk, count = bytes(50_000), 200
        invoker = FakeInvoker()
        invoker.add("/f", streaming([chunk] * count, []))  # type: ignore[arg-type]
        async with serving(invoker) as (gateway, port):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, ("127.0.0.1", port))
            await loop.sock_sendall(sock, request(**LAST))
            await invoker.wait_for(lambda: bool(invoker.flights))
            [flight] = invoker.flights
            [connection] = gateway._shared.connections
            buffered = -1
            for _ in range(10_000):  # until nothing moves any more
                await asyncio.sleep(0)
                buffered, before = connection.transport.get_write_buffer_size(), buffered
                if buffered == before and connection.write_paused and not flight.records:
                    break
            assert connection.write_paused
            assert buffered <= WINDOW + 65536 + len(chunk)
            got = 0
            while piece := await loop.sock_recv(sock, 65536):
                got += len(piece)
            sock.close()
            assert got > count * len(chunk)
            assert flight.ahead["most"] <= WINDOW  # type: ignore[attr-defined]
            assert flight.records == [(200, count * len(chunk))]

    run(main)


def test_a_large_upload_streams_within_the_window() -> None:
    async def main() -> None:
        body = bytes(range(256)) * 4096  # 1 MiB
        invoker = FakeInvoker()
        invoker.add("/f", whole(lambda flight: (200, [], flight.body)), payload_bytes=2 << 20)
        async with serving(invoker) as (_, port):
            [first] = answers(await talk(port, request("POST", "/f", body, **LAST)))
            pieces = [body[i : i + 10_000] for i in range(0, len(body), 10_000)]
            [second] = answers(await talk(port, request("POST", "/f", **CHUNKED, **LAST), chunked(*pieces)))
        assert first.body == second.body == body
        assert all(flight.pieces > 1 for flight in invoker.flights)

    run(main)


def test_an_upload_waits_for_credit_without_reading_on() -> None:
    async def main() -> None:
        body = bytes(8 << 20)
        invoker = FakeInvoker()
        invoker.credits = False
        invoker.add("/f", whole(lambda flight: (200, [], b"%d" % len(flight.body))), payload_bytes=16 << 20)
        async with serving(invoker) as (gateway, port):
            talking = asyncio.get_running_loop().create_task(talk(port, request("POST", "/f", body, **LAST)))
            await invoker.wait_for(lambda: bool(invoker.flights))
            [flight] = invoker.flights
            [connection] = gateway._shared.connections
            while connection._reading:
                await asyncio.sleep(0)
            received = gateway.stats.received_bytes
            for _ in range(50):
                await asyncio.sleep(0)
            assert gateway.stats.received_bytes == received < 2 << 20
            assert len(flight.body) <= WINDOW + 65536 * 2
            invoker.credits = True
            flight.credit(WINDOW - flight.room)
            [answer] = answers(await talking)
            assert answer.body == b"%d" % len(body)

    run(main)


def test_a_function_that_answers_before_the_upload_ends() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", hello, payload_bytes=8 << 20)
        async with serving(invoker) as (_, port):
            [answer] = answers(await talk(port, request("POST", "/f", bytes(1 << 20)) + request()))
            assert answer.status == 200
            assert answer.get("connection") == "close"
        assert invoker.flights[0].records == [(200, 17)]

    run(main)


@pytest.mark.parametrize("begun", [False, True])
def test_a_client_that_goes_away_cancels_its_flight(begun: bool) -> None:
    async def main() -> None:
        def handle(flight: FakeFlight) -> None:
            if begun:
                flight.responder.on_head(200, [])
                flight.responder.on_body(b"x")

        invoker = FakeInvoker()
        invoker.add("/f", soon(handle))
        limits = GatewayLimits(linger_s=0.1)
        async with serving(invoker, limits) as (gateway, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request() + request())
            await invoker.wait_for(lambda: bool(invoker.flights))
            writer.close()
            await writer.wait_closed()
            await invoker.wait_for(lambda: invoker.flights[0].cancelled)
            await wait_closed(gateway)
        assert len(invoker.flights) == 1

    run(main)


def test_a_client_that_resets_cancels_at_once() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", waiting)
        async with serving(invoker) as (_, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request())
            await invoker.wait_for(lambda: bool(invoker.flights))
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            await invoker.wait_for(lambda: invoker.flights[0].cancelled)

    run(main)


def test_a_client_that_only_ends_its_sending_still_gets_its_answers() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", soon(hello))
        async with serving(invoker) as (_, port):
            found = answers(await talk(port, request() * 3, shut=True))
            assert [answer.status for answer in found] == [200, 200, 200]

    run(main)


def test_an_upload_cut_off_in_the_middle_cancels() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", waiting)
        async with serving(invoker) as (_, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request("POST", "/f", Content_Length="200000") + bytes(150_000))
            await invoker.wait_for(lambda: bool(invoker.flights))
            writer.close()
            await writer.wait_closed()
            await invoker.wait_for(lambda: invoker.flights[0].cancelled)

    run(main)
