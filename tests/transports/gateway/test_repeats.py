"""A connection that says the same again: the head is not parsed a second time, and nothing else changes."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from tests.transports.gateway.fakes import FakeFlight, FakeInvoker, answers, hello, request, run, serving, soon, talk
from tests.transports.gateway.test_fuzz import QUICK

PARSED = ("/f/a", "/f/b", "/f/a?x=1")


async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, raw: bytes) -> int:
    """Send a request and read its answer, whose body is `hello`'s or a problem; the status."""
    writer.write(raw)
    head = await reader.readuntil(b"\r\n\r\n")
    (size,) = [int(line[16:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length: ")]
    await reader.readexactly(size)
    return int(head[9:12])


def test_the_function_sees_the_same_each_time_and_never_the_key() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", soon(hello), auth="key")
        raw = request("GET", "/f/x?y=1", Authorization="Bearer fk_a_1", X="1")
        async with serving(invoker) as (gateway, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert [await say(reader, writer, raw) for _ in range(5)] == [200] * 5
            assert gateway.stats.requests == 5
            (connection,) = gateway._shared.connections
            assert connection._last_data == raw
            writer.close()
            await writer.wait_closed()
        seen = [(flight.method, flight.path, flight.query, flight.headers) for flight in invoker.flights]
        assert seen == [("GET", "/x", "y=1", [("host", "a"), ("x", "1")])] * 5
        assert len({flight.id for flight in invoker.flights}) == 5

    run(main)


def test_routes_and_keys_are_looked_up_each_time() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", hello)
        raw = request("GET", "/f/g/h")
        async with serving(invoker) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert [await say(reader, writer, raw) for _ in range(2)] == [200, 200]
            invoker.routes.clear()
            invoker.add("/f/g", hello)
            assert await say(reader, writer, raw) == 200
            invoker.add("/f/g", hello, auth="key")
            assert await say(reader, writer, raw) == 401
            invoker.add("/f/g", hello, methods=("POST",))
            assert await say(reader, writer, raw) == 405
            invoker.routes.clear()
            assert await say(reader, writer, raw) == 404
            invoker.add("/f", hello)
            assert await say(reader, writer, raw) == 200
            writer.close()
            await writer.wait_closed()
        assert [flight.path for flight in invoker.flights] == ["/g/h", "/g/h", "/h", "/g/h"]

    run(main)


@QUICK
@given(
    st.lists(st.tuples(st.sampled_from(PARSED), st.sampled_from(("whole", "halves", "doubled", "body"))), max_size=12),
    st.booleans(),
)
def test_repeats_among_others_are_what_they_are_alone(said: list[tuple[str, str]], at_once: bool) -> None:
    async def main() -> None:
        def answer(flight: FakeFlight) -> None:
            flight.responder.on_result(200, None, f'"{flight.path}?{flight.query}"'.encode())

        invoker = FakeInvoker()
        invoker.add("/f", answer if at_once else soon(answer))
        parts, expected = [], []
        for target, how in said:
            raw = request("GET", target)
            path, _, query = target.partition("?")
            wanted = (path[2:], query)
            if how == "doubled":
                parts.append(raw + raw)
                expected.append(wanted)
            elif how == "halves":
                parts += [raw[:9], raw[9:]]
            elif how == "body":
                raw = request("POST", target, b"xy")
                parts.append(raw)
            else:
                parts.append(raw)
            expected.append(wanted)
        async with serving(invoker) as (_, port):
            found = answers(await talk(port, *parts, request("GET", "/none", Connection="close")))
        assert [(flight.path, flight.query) for flight in invoker.flights] == expected
        assert [answer.body for answer in found[:-1]] == [f'"{path}?{query}"'.encode() for path, query in expected]

    run(main)
