"""Requests and answers, one by one: methods, headers, bodies, errors, CORS, keys."""

from __future__ import annotations

import json

import httpx
import pytest

from fuyun.domain.errors import FunctionTimedOut, Throttled, Unavailable
from tests.transports.gateway.fakes import (
    LAST,
    FakeInvoker,
    answers,
    ask,
    failing,
    hello,
    request,
    run,
    serving,
    soon,
    talk,
    whole,
)

OURS = ("fuyun-request-id", "server-timing", "fuyun-version", "fuyun-start", "date")


def echo_invoker(**route: object) -> FakeInvoker:
    invoker = FakeInvoker()
    invoker.add("/f", whole(lambda flight: (200, [("content-type", "text/plain")], flight.body)), **route)  # type: ignore[arg-type]
    return invoker


@pytest.mark.parametrize("handler", [hello, soon(hello)], ids=["inside begin", "later"])
def test_a_plain_request(handler: object) -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", handler)  # type: ignore[arg-type]
        [answer] = await ask(invoker, request("GET", "/f/a%20b/%2e%2e/c?x=1&y=%20", X_Test="A\t b ", **LAST))
        assert answer.status == 200
        assert answer.body == b'{"hello":"world"}'
        assert answer.get("content-type") == "application/json"
        [flight] = invoker.flights
        assert answer.get("fuyun-request-id") == flight.id
        assert answer.get("server-timing") == flight.timing
        assert answer.get("fuyun-version") == "3"
        assert answer.get("fuyun-start") == "warm"
        assert answer.get("date").endswith("GMT")
        assert (flight.method, flight.path, flight.query) == ("GET", "/a%20b/%2e%2e/c", "x=1&y=%20")
        assert flight.headers == [("host", "a"), ("x-test", "A\t b")]
        assert flight.source == "127.0.0.1"
        assert flight.records == [(200, 17)]

    run(main)


def test_every_method_and_head_without_a_body() -> None:
    async def main() -> None:
        methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "PURGE"]
        invoker = echo_invoker()
        raw = b"".join(request(method, "/f", b"abc") for method in methods) + request(**LAST)
        found = await ask(invoker, raw, *methods)
        assert [flight.method for flight in invoker.flights] == [*methods, "GET"]
        for method, answer in zip(methods, found):
            assert answer.status == 200
            assert answer.get("content-length") == "3"
            assert answer.body == (b"" if method == "HEAD" else b"abc")

    run(main)


def test_httpx_over_one_connection() -> None:
    async def main() -> None:
        invoker = echo_invoker()
        async with (
            serving(invoker) as (gateway, port),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", verify=False) as client,
        ):
            for size in (0, 1, 65536, 65537, 500_000):
                answer = await client.post("/f", content=bytes(size))
                assert answer.content == bytes(size)

            async def pieces() -> object:
                for _ in range(40):
                    yield b"x" * 5000

            answer = await client.put("/f", content=pieces())  # type: ignore[arg-type]
            assert answer.content == b"x" * 200_000
            assert gateway.stats.accepted == 1
            assert gateway.stats.requests == 6

    run(main)


def test_repeated_headers_and_binary_bodies_go_both_ways() -> None:
    async def main() -> None:
        body = bytes(range(256)) * 3
        invoker = FakeInvoker()
        headers = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Latin", "caf\xe9"), ("X-Wide", "云")]
        invoker.add("/f", whole(lambda flight: (201, headers, flight.body[::-1])))
        raw = request("POST", "/f", body, **LAST).replace(
            b"Host: a\r\n", b"Host: a\r\nX-A: 1\r\nx-a: 2\r\nX-L: \xe9\r\n"
        )
        [answer] = await ask(invoker, raw)
        assert answer.status == 201
        assert answer.body == body[::-1]
        assert answer.all("set-cookie") == ["a=1", "b=2"]
        assert answer.get("x-latin") == "caf\xe9"
        assert answer.get("x-wide").encode("latin-1").decode() == "云"
        [flight] = invoker.flights
        assert flight.headers[:4] == [("host", "a"), ("x-a", "1"), ("x-a", "2"), ("x-l", "\xe9")]

    run(main)


def test_fields_that_end_at_this_hop_are_dropped_both_ways() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        named = [("Connection", "x-mine"), ("X-Mine", "1"), ("Keep-Alive", "5"), ("Transfer-Encoding", "chunked")]
        ours = [("Date", "never"), ("Fuyun-Request-Id", "forged"), ("Content-Length", "999"), ("X-Kept", "1")]
        invoker.add("/f", whole(lambda _: (200, named + ours, b"abc")))
        raw = request(Connection="close, x-hop", X_Hop="1", TE="trailers", Keep_Alive="1", X_Kept="1")
        [answer] = await ask(invoker, raw)
        assert invoker.flights[0].headers == [("host", "a"), ("x-kept", "1")]
        names = [name for name, _ in answer.headers]
        assert names == ["x-kept", "content-length", *OURS, "connection"]
        assert answer.get("content-length") == "3"
        assert answer.get("fuyun-request-id") == invoker.flights[0].id

    run(main)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (99, []),
        (101, []),
        (600, []),
        (200, [("X", "a\r\nSet-Cookie: evil=1")]),
        (200, [("X", "a\nb")]),
        (200, [("X", "a\0b")]),
        (200, [("X: y\r\nZ", "1")]),
        (200, [("", "1")]),
        (200, [("X", 5)]),
        (200, [("Content-Length", "-1")]),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_what_is_not_http_from_a_function_is_a_bad_response(status: object, headers: object, streamed: bool) -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        if streamed:
            invoker.add("/f", soon(lambda flight: flight.responder.on_head(status, headers)))  # type: ignore[arg-type]
        else:
            invoker.add("/f", whole(lambda _: (status, headers, b"x")))  # type: ignore[arg-type,return-value]
        first, second = await ask(invoker, request() + request("GET", "/none", **LAST))
        assert first.status == 502
        assert first.get("content-type") == "application/problem+json"
        assert json.loads(first.body)["code"] == "bad_response"
        assert b"evil" not in first.body
        assert second.status == 404
        [flight] = invoker.flights
        assert flight.cancelled == streamed
        assert flight.records == ([] if streamed else [(502, len(first.body))])

    run(main)


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body(status: int) -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", whole(lambda _: (status, [("ETag", '"1"')], b"not sent")))
        first, second = await ask(invoker, request() + request(**LAST))
        for answer in (first, second):
            assert answer.status == status
            assert answer.body == b""
            assert answer.all("content-length") == []

    run(main)


def test_head_keeps_the_length_a_function_declares() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", whole(lambda _: (200, [("Content-Length", "12345")], b"")))
        [answer] = await ask(invoker, request("HEAD", **LAST), "HEAD")
        assert answer.get("content-length") == "12345"

    run(main)


@pytest.mark.parametrize(
    ("error", "status", "extra"),
    [
        (Throttled("busy", retry_after_s=1.2), 429, ("retry-after", "2")),
        (Unavailable("no instance", retry_after_s=3), 503, ("retry-after", "3")),
        (FunctionTimedOut("too slow", timeout_s=1.0), 504, None),
    ],
)
def test_errors_are_problems(error: Exception, status: int, extra: tuple[str, str] | None) -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", failing(error))  # type: ignore[arg-type]
        found = await ask(invoker, request() + request("HEAD", **LAST), "GET", "HEAD")
        for answer in found:
            assert answer.status == status
            for name in OURS:
                answer.get(name)
            if extra is not None:
                assert answer.get(extra[0]) == extra[1]
        problem = json.loads(found[0].body)
        assert problem["status"] == status
        assert problem["request_id"] == found[0].get("fuyun-request-id") == invoker.flights[0].id
        assert found[1].body == b""
        assert [flight.records[0][0] for flight in invoker.flights] == [status, status]

    run(main)


def test_errors_before_a_flight_have_everything_too() -> None:
    async def main() -> None:
        [answer] = await ask(FakeInvoker(), request("GET", "/none", **LAST))
        assert answer.status == 404
        for name in OURS:
            answer.get(name)
        assert answer.get("fuyun-start") == "none"
        problem = json.loads(answer.body)
        assert problem["request_id"] == answer.get("fuyun-request-id")
        assert len(problem["request_id"]) == 32

    run(main)


def test_http_1_0() -> None:
    async def main() -> None:
        invoker = echo_invoker()
        async with serving(invoker) as (_, port):
            [answer] = answers(await talk(port, b"GET /f HTTP/1.0\r\n\r\n"))
            assert answer.status == 200
            assert answer.get("connection") == "close"
            kept = b"GET /f HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
            raw = await talk(port, kept + b"GET /f HTTP/1.0\r\n\r\n")
            first, second = answers(raw)
            assert first.get("connection") == "keep-alive"
            assert second.get("connection") == "close"

    run(main)


def test_absolute_targets_and_the_asterisk() -> None:
    async def main() -> None:
        invoker = echo_invoker()
        raw = (
            request("GET", "http://b.example:81/f/x?q=1")
            + request("OPTIONS", "*")
            + request("GET", "http://u@b.example/f")
            + request("GET", "ftp://b.example/f")
            + request("GET", "/f#frag")
            + request("GET", "http://b.example", **LAST)
        )
        found = await ask(invoker, raw, "GET", "OPTIONS")
        assert [answer.status for answer in found] == [200, 204, 400, 400, 400, 404]
        assert invoker.flights[0].headers == [("host", "b.example:81")]
        assert (invoker.flights[0].path, invoker.flights[0].query) == ("/x", "q=1")
        assert "GET" in found[1].get("allow")

    run(main)


def test_an_upgrade_nobody_speaks_is_ignored_with_its_body() -> None:
    async def main() -> None:
        invoker = echo_invoker()
        upgrade = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABk"}
        raw = request("POST", "/f", b"abc", **upgrade) + request("PUT", "/f", b"de", **LAST)
        async with serving(invoker) as (_, port):
            for parts in ([raw], [raw[i : i + 1] for i in range(len(raw))]):
                first, second = answers(await talk(port, *parts))
                assert (first.body, second.body) == (b"abc", b"de")
        assert ("content-length", "3") in invoker.flights[0].headers
        assert all(name not in ("upgrade", "connection", "http2-settings") for name, _ in invoker.flights[0].headers)

    run(main)


def test_websocket_is_refused_clearly() -> None:
    async def main() -> None:
        raw = request(Connection="Upgrade", Upgrade="websocket", Sec_WebSocket_Key="x", Sec_WebSocket_Version="13")
        [answer] = await ask(echo_invoker(), raw)
        assert answer.status == 501
        assert "WebSocket" in json.loads(answer.body)["detail"]
        assert answer.get("connection") == "close"

    run(main)


def test_expect() -> None:
    async def main() -> None:
        invoker = echo_invoker(payload_bytes=10)
        async with serving(invoker) as (_, port):
            [answer] = answers(await talk(port, request("POST", "/f", b"abc", Expect="100-continue", **LAST)))
            assert (answer.interim, answer.status, answer.body) == ([100], 200, b"abc")
            # Nothing is asked for when the answer is clear already; the connection ends, the body never came.
            for target, length, status in (("/f", 11, 413), ("/none", 3, 404)):
                head = request("POST", target, Expect="100-continue", Content_Length=str(length))
                [answer] = answers(await talk(port, head))
                assert (answer.interim, answer.status) == ([], status)
                assert answer.get("connection") == "close"
            [answer] = answers(await talk(port, request("POST", "/f", b"abc", Expect="200-ok")))
            assert answer.status == 417
            [answer] = answers(
                await talk(port, b"POST /f HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc")
            )
            assert (answer.interim, answer.status) == ([], 200)

    run(main)
