"""HTTP to a program: what it is sent, how its answers are read, which connections are used again."""

from __future__ import annotations

import asyncio

import pytest

from fuyun.domain.errors import BadResponse, InstanceLost
from fuyun.runtime.wire import WINDOW
from tests.drivers.instances.programs import Counting, front_of, request_of, run, saying

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
SHORT = b"HTTP/1.1 201 OK\r\ncontent-length: 1\r\n\r\nx"


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"], 200, b"hello"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", b"\r\nhe", b"llo"], 200, b"hello"),
        ([b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n"], 404, b""),
        ([CHUNKED + b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n"], 200, b"abcde"),
        ([CHUNKED + b"1\r\na\r\n0\r\nx-sum: 1\r\n\r\n"], 200, b"a"),
        ([b"HTTP/1.1 200 OK\r\n\r\nuntil ", b"the end"], 200, b"until the end"),
        ([b"HTTP/1.0 200 OK\r\n\r\nold"], 200, b"old"),
        ([b"HTTP/1.1 204 No\r\n\r\n"], 204, b""),
        ([b"HTTP/1.1 304 Same\r\ncontent-length: 99\r\n\r\n"], 304, b""),
        ([b"HTTP/1.1 100 Go\r\n\r\n", b"HTTP/1.1 103 Hint\r\nlink: x\r\n\r\n" + SHORT], 201, b"x"),
    ],
)
def test_answers(answer: list[bytes], status: int, body: bytes) -> None:
    async def main() -> None:
        async with front_of(saying(*answer)) as scene:
            taker = await scene.ask()
            assert taker.error is None, taker.error
            assert (taker.status, taker.body) == (status, body)
            assert min(taker.usage) > 0, taker.usage
            assert not taker.get("x-sum")
            assert not taker.get("link")
            assert not scene.streams

    run(main)


def test_head_has_no_body_whatever_it_declares() -> None:
    async def main() -> None:
        async with front_of(saying(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", close=False)) as scene:
            taker = await scene.ask("HEAD")
            assert (taker.status, taker.body, taker.get("content-length")) == (200, b"", ["5"])

    run(main)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", "not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\nab", "not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding 'gzip, chunked'"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", "not HTTP/1.1"),
        (b"HTTP/1.1 101 Up\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n", "switched protocols"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70000, "over 65536 bytes"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: abcdefgh\r\n" * 7000, "over 65536 bytes"),
        (b"HTTP/1.1 102 Wait\r\n\r\n" * 20, "interim answers"),
    ],
)
def test_what_is_no_answer(answer: bytes, told: str) -> None:
    async def main() -> None:
        async with front_of(saying(answer, close=False)) as scene:
            taker = await scene.ask()
            assert isinstance(taker.error, BadResponse)
            assert told in taker.error.detail
            assert not scene.streams
            assert not scene.broken

    run(main)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.1 200", "without an answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel", "in the middle of its answer"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel", "in the middle of its answer"),
    ],
)
def test_a_program_that_closes_early(answer: bytes, told: str) -> None:
    async def main() -> None:
        async with front_of(saying(answer)) as scene:
            taker = await scene.ask()
            assert isinstance(taker.error, BadResponse)
            assert told in taker.error.detail

    run(main)


def test_what_a_program_is_sent() -> None:
    seen: list[tuple[str, dict[str, str], bytes]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request_of(reader))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    async def main() -> None:
        headers = [
            ("host", "shop.example"), ("x-forwarded-for", "192.0.2.1"), ("accept", "*/*"), ("content-length", "3"),
            ("x-evil", "a\r\nb: c"), ("connection", "x"), ("fuyun-request-id", "forged"),
        ]  # fmt: skip
        async with front_of(serve) as scene:
            await scene.ask(
                "PUT",
                "/a%20b",
                b"xyz",
                query="c=1",
                base="/shop",
                source="198.51.100.7",
                scheme="http",
                headers=headers,
            )
            await scene.ask("POST", "/", b'{"a":1}', kind="event", headers=[("host", "api"), ("content-length", "7")])
            await scene.ask("GET", "/plain")
        assert seen[0] == (
            "PUT /a%20b?c=1 HTTP/1.1",
            {
                "host": "shop.example", "fuyun-request-id": "r1", "x-forwarded-for": "192.0.2.1, 198.51.100.7",
                "x-forwarded-proto": "http", "x-forwarded-host": "shop.example", "x-forwarded-prefix": "/shop",
                "content-length": "3", "accept": "*/*", "x-evil": "ab: c",
            },
            b"xyz",
        )  # fmt: skip
        assert seen[1][1]["content-type"] == "application/json"
        assert seen[1][2] == b'{"a":1}'
        assert "content-length" not in seen[2][1]

    run(main)


def test_connections_are_used_again_for_what_may_be_repeated() -> None:
    async def main() -> None:
        server = Counting()
        async with front_of(server) as scene:
            assert [(await scene.ask()).body for _ in range(5)] == [b"1"] * 5
            assert (await scene.ask("POST", body=b"x")).body == b"2"  # and the kept one is closed
            assert (await scene.ask("POST", body=b"x")).body == b"3"
            assert (await scene.ask("PUT", body=b"x")).body == b"3"

    run(main)


def test_a_request_on_a_connection_that_was_closed_meanwhile_is_sent_again_only_if_it_may_be() -> None:
    async def main() -> None:
        server = Counting(1)
        async with front_of(server) as scene:
            assert (await scene.ask()).body == b"1"
            assert (await scene.ask()).body == b"2"  # the first connection took it and closed
            assert server.requests == ["GET"] * 3
        server = Counting(0)
        async with front_of(server) as scene:
            assert isinstance((await scene.ask()).error, BadResponse)
            assert isinstance((await scene.ask("POST")).error, BadResponse)
            assert server.requests == ["GET", "POST"]  # a new connection is not tried twice

    run(main)


def test_a_body_in_pieces() -> None:
    async def main() -> None:
        got: list[tuple[dict[str, str], bytes]] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            _, fields, body = await request_of(reader)
            got.append((fields, body))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

        async with front_of(serve) as scene:
            for headers in ([("content-length", "1000000")], []):
                taker = scene.call("POST", body=b"a" * 100000, end=False, headers=headers)
                left, room = 900000, WINDOW
                while left:
                    size = min(left, 65536)
                    if size > room + taker.credit:
                        await taker.until(lambda: size <= room + taker.credit)  # noqa: B023
                    room -= size
                    left -= size
                    assert taker.call is not None
                    taker.call.send_body(b"b" * size, left == 0)
                assert (await taker.end()).body == b"ok"
                await asyncio.sleep(0)
                assert taker.credit <= 900000
        assert [body for _, body in got] == [b"a" * 100000 + b"b" * 900000] * 2
        assert got[0][0]["content-length"] == "1000000"
        assert got[1][0]["transfer-encoding"] == "chunked"

    run(main)


def test_a_client_that_does_not_read_holds_the_program_back() -> None:
    async def main() -> None:
        total = 32 * 2**20

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
            for _ in range(total // 65536):
                writer.write(bytes(65536))
                await writer.drain()

        async with front_of(serve) as scene:
            taker = scene.call(holds=True)
            await taker.until(lambda: len(taker.body) >= WINDOW)
            for _ in range(50):
                await asyncio.sleep(0.002)
            assert len(taker.body) < WINDOW + 65536
            taker.take()
            assert len((await taker.end()).body) == total

    run(main)


def test_calls_beyond_the_concurrency_wait_in_order() -> None:
    async def main() -> None:
        inside = most = 0
        order: list[str] = []
        go = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal inside, most
            line, _, _ = await request_of(reader)
            inside += 1
            most = max(most, inside)
            order.append(line.split()[1])
            await go.wait()
            inside -= 1
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

        async with front_of(serve, concurrency=2) as scene:
            takers = [scene.call(path=f"/{n}") for n in range(6)]
            while len(order) < 2:
                await asyncio.sleep(0.001)
            assert takers[5].call is not None
            takers[5].call.cancel()
            assert isinstance((await takers[5].end()).error, InstanceLost)
            go.set()
            assert [(await taker.end()).status for taker in takers[:5]] == [200] * 5
            assert most == 2
            assert order == ["/0", "/1", "/2", "/3", "/4"] or sorted(order[:2]) == ["/0", "/1"]
            assert "/5" not in order

    run(main)


def test_a_cancelled_call_closes_its_connection() -> None:
    async def main() -> None:
        noticed = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_of(reader)
            assert await reader.read() == b""
            noticed.set()

        async with front_of(serve) as scene:
            taker = scene.call()
            await asyncio.sleep(0.02)
            assert taker.call is not None
            taker.call.cancel()
            assert (await taker.end()).error is not None
            await noticed.wait()
            assert not scene.streams

    run(main)
