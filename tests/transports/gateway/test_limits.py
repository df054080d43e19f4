"""What clients may not do: too long, too slow, too many, ambiguous."""

from __future__ import annotations

import asyncio
import json

import pytest

from fuyun.transports.gateway.limits import GatewayLimits
from tests.transports.gateway.fakes import (
    LAST,
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

H = b"Host: a\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /f HTTP/1.1\r\n" + H + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /f HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"POST /f HTTP/1.1\r\n" + H + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /f HTTP/1.1\r\n" + H + b"Content-Length: 3, 3\r\n\r\nabc",
        b"POST /f HTTP/1.1\r\n" + H + b"Content-Length: +3\r\n\r\nabc",
        b"POST /f HTTP/1.1\r\n" + H + b"Content-Length: -3\r\n\r\nabc",
        b"POST /f HTTP/1.1\r\n" + H + b"Content-Length : 3\r\n\r\nabc",
        b"POST /f HTTP/1.1\r\n" + H + b"Content-Length: 99999999999999999999\r\n\r\n",
        b"POST /f HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST /f HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /f HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /f HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
        b"POST /f HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
        b"POST /f HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
        b"GET /f HTTP/1.1\r\n" + H + b"X: a\r\n b\r\n\r\n",
        b"GET /f HTTP/1.1\r\n" + H + b"X: a\0b\r\n\r\n",
        b"GET /f HTTP/1.1\r\n" + H + b"X y: a\r\n\r\n",
        b"GET /f HTTP/1.1\n" + H + b"\n",
        b"GET /f HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /f HTTP/1.1\r\n\r\n",
        b"GET /f HTTP/1.2\r\n" + H + b"\r\n",
        b"GET f HTTP/1.1\r\n" + H + b"\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\n" + H + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_malformed_or_ambiguous_is_refused_and_nothing_behind_it_is_read(raw: bytes) -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", whole(lambda _: (200, [], b"")))
        smuggled = request("GET", "/f/smuggled")
        async with serving(invoker) as (gateway, port):
            found = answers(await talk(port, raw + smuggled, shut=True))
            if raw.count(b"Host") in (0, 2) and raw.startswith(b"GET /f HTTP/1.1"):
                assert [answer.status for answer in found] == [400, 200]  # well framed, so the connection goes on
                return
            assert [answer.status for answer in found] == [400]
            assert found[0].get("connection") == "close"
            assert json.loads(found[0].body)["code"] == "bad_request"
            assert all(flight.path != "/smuggled" for flight in invoker.flights)
            assert all(flight.cancelled or flight.records for flight in invoker.flights)
            assert gateway.stats.refused == 1

    run(main)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /f HTTP/2.0\r\n" + H + b"\r\n", 505),
        (b"GET /f HTTP/0.9\r\n" + H + b"\r\n", 505),
        (b"POST /f HTTP/1.1\r\n" + H + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST /f HTTP/1.1\r\n" + H + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        (b"CONNECT a:80 HTTP/1.1\r\n" + H + b"\r\n", 501),
        (b"SOURCE /f HTTP/1.1\r\n" + H + b"\r\n", 501),
    ],
)
def test_what_is_not_supported(raw: bytes, status: int) -> None:
    async def main() -> None:
        async with serving(FakeInvoker()) as (_, port):
            [answer] = answers(await talk(port, raw + request()))
            assert answer.status == status
            assert answer.get("connection") == "close"

    run(main)


def test_answers_before_a_malformed_request_are_given() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", soon(hello))
        async with serving(invoker) as (_, port):
            found = answers(await talk(port, request() + request() + b"garbage\r\n\r\n"))
            assert [answer.status for answer in found] == [200, 200, 400]

    run(main)


@pytest.mark.parametrize("step", [1, 7, 1000, 1_000_000])
def test_the_limits_of_a_head_are_exact_whatever_the_split(step: int) -> None:
    async def main() -> None:
        limits = GatewayLimits(head_bytes=6000, target_bytes=500)
        invoker = FakeInvoker()
        invoker.add("/f", hello)

        def head(target: int, headers: int) -> bytes:
            # The limit counts the target, 16 bytes of request line, and each header with 4 bytes around it.
            fixed = target + 16 + len("host" + "a" + "x") + 12 + len("connectionclose")
            raw = request("GET", "/f/".ljust(target, "x"), X="y" * (headers - fixed), **LAST)
            return raw

        async with serving(invoker, limits) as (_, port):
            cases = [
                (500, 6000, 200),
                (501, 6000, 414),
                (500, 6001, 431),
                (501, 6001, 414),
                (500, 9000, 431),
                (7000, 9000, 414),
            ]
            for target, headers, status in cases:
                raw = head(target, headers)
                if step == 1 and len(raw) > 6500:
                    continue
                parts = [raw[i : i + step] for i in range(0, len(raw), step)]
                [answer] = answers(await talk(port, *parts))
                assert answer.status == status, (target, headers)

    run(main)


def test_an_endless_head_is_cut_off() -> None:
    async def main() -> None:
        async with serving(FakeInvoker()) as (gateway, port):
            raw = b"GET /f HTTP/1.1\r\nX: " + b"y" * 400_000
            [answer] = answers(await talk(port, raw))
            assert answer.status == 431
            [answer] = answers(await talk(port, b"GET /" + b"y" * 400_000))
            assert answer.status == 414
            assert gateway.stats.refused == 2

    run(main)


@pytest.mark.parametrize("size", [100, 200_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit(size: int, chunked: bool) -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        limit = size * 3 // 4
        invoker.add("/f", whole(lambda _: (200, [], b"")), payload_bytes=limit)
        body = bytes(size)
        if chunked:
            pieces = [
                body[i : i + 10] if size == 100 else body[i : i + 4000]
                for i in range(0, size, 10 if size == 100 else 4000)
            ]
            raw = request("POST", "/f", Transfer_Encoding="chunked")
            raw += b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])
        else:
            raw = request("POST", "/f", body)
        async with serving(invoker) as (_, port):
            found = answers(await talk(port, raw + request(**LAST)))
        assert found[0].status == 413
        assert json.loads(found[0].body)["limit_bytes"] == limit
        # A short body whose length is known is read to its end and the connection goes on.
        assert len(found) == (2 if size == 100 and not chunked else 1)
        assert all(flight.cancelled for flight in invoker.flights if flight.method == "POST")

    run(main)


def test_chunks_that_are_nearly_all_framing_are_cut_off() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", hello)
        raw = request("POST", "/f", Transfer_Encoding="chunked") + b"1;x=" + b"y" * 300_000
        trailer = request("POST", "/f", Transfer_Encoding="chunked") + b"0\r\n" + b"x: y\r\n" * 50_000
        async with serving(invoker) as (_, port):
            for attack in (raw, trailer):
                [answer] = answers(await talk(port, attack))
                assert answer.status == 400
        assert invoker.flights == []

    run(main)


def test_trailers_are_not_headers() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", hello)
        raw = request("POST", "/f", Transfer_Encoding="chunked") + b"1\r\nx\r\n0\r\nX-Evil: 1\r\n\r\n" + request(**LAST)
        async with serving(invoker) as (_, port):
            assert len(answers(await talk(port, raw))) == 2
        assert all(name != "x-evil" for flight in invoker.flights for name, _ in flight.headers)

    run(main)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"G", 408),
        (b"GET /f HTTP/1.1\r\nHost: a\r\n", 408),
        (request() + b"GET", 408),
        (request("POST", "/f", Content_Length="10") + b"abc", 408),
        (request("POST", "/stream", Content_Length="200000") + bytes(100_000), 408),
    ],
)
def test_a_client_that_stops_in_the_middle_gets_408(raw: bytes, status: int) -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", hello)
        invoker.add("/stream", waiting)
        async with serving(invoker, GatewayLimits(body_idle_s=0.1, linger_s=0.1)) as (gateway, port):
            found = answers(await talk(port, raw))
            assert found[-1].status == status
            assert found[-1].get("connection") == "close"
            assert gateway.stats.timed_out == 1
        assert all(flight.cancelled or flight.records for flight in invoker.flights)

    run(main)


def test_a_dripping_head_is_not_kept_alive_by_its_drops() -> None:
    async def main() -> None:
        async with serving(FakeInvoker(), GatewayLimits(body_idle_s=0.2, linger_s=0.1)) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            loop = asyncio.get_running_loop()
            began, answer = loop.time(), asyncio.Event()

            def drip() -> None:
                if not answer.is_set():
                    writer.write(b"x")
                    loop.call_later(0.02, drip)

            writer.write(b"GET /")
            drip()
            raw = await reader.readuntil(b"\r\n")
            answer.set()
            assert raw.startswith(b"HTTP/1.1 408")
            assert loop.time() - began < 2
            writer.close()
            await writer.wait_closed()

    run(main)
