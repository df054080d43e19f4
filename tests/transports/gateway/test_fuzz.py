"""Whatever arrives, and however it is split: the gateway answers the same, in HTTP, and leaks nothing."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuyun.transports.gateway.limits import GatewayLimits
from tests.transports.gateway.fakes import FakeFlight, FakeInvoker, answers, request, run, serving, soon, talk, whole

LIMITS = GatewayLimits(body_idle_s=2, linger_s=0.2, head_bytes=8192)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)

#: What differs between two runs of the same requests.
CHANGING = re.compile(rb"(Fuyun-Request-Id: |Date: |\"request_id\":\")[^\r\"]*")

names = st.sampled_from(["X-A", "x-b", "Accept", "Cookie", "TE", "Connection", "Upgrade", "Origin"])
values = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)


@dataclass(frozen=True)
class Sent:
    """A well-formed request, told briefly when a test fails."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    size: int
    chunk: int  # 0: sent with its length

    @property
    def raw(self) -> bytes:
        body = bytes(index & 255 for index in range(251)) * (self.size // 251 + 1)
        body = body[: self.size]
        headers = dict(self.headers)
        if not self.chunk:
            return request(self.method, self.target, body, **headers)
        pieces = [body[i : i + self.chunk] for i in range(0, len(body), self.chunk)]
        framed = b"".join(b"%X;e=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        return request(self.method, self.target, Transfer_Encoding="chunked", **headers) + framed + b"0\r\nT: x\r\n\r\n"


@st.composite
def valid_requests(draw: st.DrawFn) -> Sent:
    """Any method, target, headers and framing."""
    method = draw(st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]))
    target = draw(st.sampled_from(["/f", "/f/a%20b?x=1", "/stream", "/none", "/key", "http://b/f", "/f?" + "q" * 300]))
    headers = {draw(names): draw(values) for _ in range(draw(st.integers(0, 4)))}
    if "Connection" in headers:
        headers.pop("Upgrade", None)
    if headers.get("Connection", "").lower() in ("close", "keep-alive"):
        headers.pop("Connection")
    size = draw(st.one_of(st.just(0), st.integers(1, 300), st.integers(1, 140_000)))
    chunk = draw(st.one_of(st.just(0), st.integers(max(1, size // 50), max(1, size))))
    return Sent(method, target, tuple(headers.items()), size, chunk)


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(raw), *(place % (len(raw) + 1) for place in places)})
    return [raw[start:end] for start, end in itertools.pairwise(edges)]


def make_invoker() -> FakeInvoker:
    def stream(flight: FakeFlight) -> None:
        flight.responder.on_head(200, [("X-Streamed", "1")])
        flight.responder.on_body(b"ab")
        flight.responder.on_end()

    def stream_at_the_end(flight: FakeFlight) -> None:
        # An answer that overtakes its upload ends the connection, so that timing would show.
        if flight.ended:
            soon(stream)(flight)
        else:
            flight.on_end = lambda: stream(flight)

    invoker = FakeInvoker()
    invoker.add("/f", whole(lambda flight: (200, [("X-Size", str(len(flight.body)))], flight.body[:100])))
    invoker.add("/stream", stream_at_the_end, payload_bytes=100_000)
    invoker.add("/key", whole(lambda _: (200, [], b"")), auth="key")
    return invoker


async def converse(parts: list[bytes]) -> tuple[bytes, FakeInvoker]:
    invoker = make_invoker()
    async with serving(invoker, LIMITS) as (gateway, port):
        try:
            raw = await talk(port, *parts, shut=True)
        except ConnectionResetError:
            raw = b""
    assert gateway.stats.connections == 0
    assert not gateway._shared.connections
    assert all(flight.cancelled or flight.records for flight in invoker.flights)
    return raw, invoker


@QUICK
@given(st.lists(valid_requests(), min_size=1, max_size=4), st.lists(st.integers(0, 200_000), max_size=8))
def test_the_answers_do_not_depend_on_how_the_bytes_were_split(requests: list[Sent], places: list[int]) -> None:
    async def main() -> None:
        raw = b"".join([*(sent.raw for sent in requests), request("GET", "/none", Connection="close")])
        whole_raw, whole_invoker = await converse([raw])
        split_raw, split_invoker = await converse(cut(raw, places))
        assert CHANGING.sub(b"", split_raw) == CHANGING.sub(b"", whole_raw)

        def asked(invoker: FakeInvoker) -> list[object]:
            return [
                (flight.method, flight.path, flight.query, flight.headers, flight.body if flight.ended else None)
                for flight in invoker.flights
                if not flight.cancelled
            ]

        assert asked(split_invoker) == asked(whole_invoker)

    run(main)


@QUICK
@given(st.lists(st.binary(max_size=400), min_size=1, max_size=4))
def test_random_bytes_get_an_answer_or_the_door(parts: list[bytes]) -> None:
    async def main() -> None:
        raw, invoker = await converse(parts)
        assert invoker.flights == []
        if raw:
            found = answers(raw)
            assert found[-1].status in (400, 501, 505)

    run(main)


@QUICK
@given(
    st.lists(valid_requests(), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=3)), min_size=1, max_size=4),
    st.lists(st.integers(0, 10_000), max_size=4),
)
def test_damaged_requests_never_break_the_gateway(
    requests: list[Sent], damage: list[tuple[int, bytes]], places: list[int]
) -> None:
    async def main() -> None:
        raw = bytearray(b"".join(sent.raw for sent in requests))
        for place, scrap in damage:
            at = place % len(raw)
            raw[at : at + len(scrap)] = scrap
        answered, _ = await converse(cut(bytes(raw), places))
        assert not answered or answered.startswith(b"HTTP/1.1 ")
        assert b" 500 " not in answered

    run(main)
