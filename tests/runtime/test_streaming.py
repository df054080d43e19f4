"""Streaming: section 5 of docs/contracts/runtime.md. What holds for one mode holds for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fuyun.runtime import wire
from tests.runtime.driver import Worker, http_head, worker

STYLES = ("inline", "threads", "async")
SYNC = """
def handler(event, context):
    def pieces():
        try:
            yield from EXPRESSION
        finally:
            print("closed")
    return pieces()
"""
ASYNC = """
async def handler(event, context):
    async def pieces():
        try:
            for piece in EXPRESSION:
                yield piece
        finally:
            print("closed")
    return pieces()
"""


def streaming(tmp_path: Path, style: str, expression: str) -> Any:
    code = (ASYNC if style == "async" else SYNC).replace("EXPRESSION", expression)
    return worker(tmp_path, code, concurrency=4 if style == "threads" else 1)


@pytest.mark.parametrize("style", STYLES)
def test_pieces_arrive_as_they_are_yielded(tmp_path: Path, style: str) -> None:
    """[R 5.1] [R 5.2]"""
    with streaming(tmp_path, style, "['a', b'\\xff', {'n': 1}, 'é']") as w:
        reply = w.http()
        assert reply.streamed
        assert reply.headers == [("content-type", "text/plain; charset=utf-8")]
        assert reply.chunks == [b"a", b"\xff", b'{"n":1}\n', "é".encode()]
        assert reply.text == ["closed"]
        assert reply.usage[0] > 0
        assert w.event(1).chunks == reply.chunks


@pytest.mark.parametrize("style", STYLES)
def test_first_piece_decides(tmp_path: Path, style: str) -> None:
    """[R 5.2]"""
    head = "[{'statusCode': 202, 'headers': {'content-type': 'text/event-stream'}}, 'data: 1', b'2']"
    with streaming(tmp_path, style, head) as w:
        reply = w.http()
        assert (reply.status, reply.headers) == (202, [("content-type", "text/event-stream")])
        assert reply.chunks == [b"data: 1", b"2"]
    with streaming(tmp_path, style, "[{'n': 1}, 2]") as w:
        reply = w.http()
        assert reply.headers == [("content-type", "application/x-ndjson")]
        assert reply.body == b'{"n":1}\n2\n'
    with streaming(tmp_path, style, "[]") as w:
        reply = w.http()
        assert (reply.status, reply.body, reply.streamed) == (200, b"", False)


def test_iterators_of_any_kind(tmp_path: Path) -> None:
    """[R 4.4] [R 5.1]"""
    code = """
    async def numbers():
        for n in (1, 2):
            yield f"n{n}"

    def handler(event, context):
        kind = event["rawPath"]
        if kind == "/map":
            return map(str, [1, 2])
        if kind == "/async":
            return numbers()
        return {"statusCode": 201, "headers": {"content-type": "text/csv"}, "body": iter(["a,", "b"])}
    """
    with worker(tmp_path, code) as w:
        assert w.http("/map").chunks == [b"1", b"2"]
        assert w.http("/async").chunks == [b"n1", b"n2"]
        reply = w.http("/dict")
        assert (reply.status, reply.headers, reply.body) == (201, [("content-type", "text/csv")], b"a,b")


@pytest.mark.parametrize("style", STYLES)
def test_failure_before_and_after_the_first_piece(tmp_path: Path, style: str) -> None:
    """[R 5.3]"""
    with streaming(tmp_path, style, "(1 // 0 for _ in 'x')") as w:
        reply = w.http()
        assert reply.error is not None
        assert not reply.streamed
        assert reply.error["error_type"] == "ZeroDivisionError"
    with streaming(tmp_path, style, "('ok' if n else 1 // n for n in (1, 0))") as w:
        reply = w.http()
        assert reply.streamed
        assert reply.chunks == [b"ok"]
        assert reply.error is not None
        assert reply.error["code"] == "function_raised"
    with streaming(tmp_path, style, "['ok', {1}]") as w:
        reply = w.http()
        assert reply.error is not None
        assert reply.error["code"] == "bad_response"
        assert "chunk 1 is a set" in reply.error["message"]


def drain_quietly(w: Worker, stream: int, expected: int) -> None:
    """Read until `expected` bytes of the stream have come."""
    while sum(map(len, w.replies[stream].chunks)) < expected:
        w.pump()


@pytest.mark.parametrize("style", STYLES)
def test_stream_waits_for_credit(tmp_path: Path, style: str) -> None:
    """[R 5.4] [R 12.5]: not a byte more than the window is sent; credit in odd sizes releases exactly that much."""
    with streaming(tmp_path, style, "(b'x' * 100_000 for _ in range(10))") as w:
        w.auto_credit = False
        stream = w.begin(http_head())
        drain_quietly(w, stream, wire.WINDOW)
        reply = w.replies[stream]
        assert len(reply.body) == wire.WINDOW
        w.credit(stream, 1)
        drain_quietly(w, stream, wire.WINDOW + 1)
        assert len(reply.body) == wire.WINDOW + 1
        w.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            w.pump()
        w.sock.settimeout(20)
        w.credit(stream, 2_000_000)
        assert len(w.wait(stream).body) == 1_000_000


@pytest.mark.parametrize("style", STYLES)
def test_cancel_closes_the_generator(tmp_path: Path, style: str) -> None:
    """[R 5.5] [R 12.3]"""
    with streaming(tmp_path, style, "iter(lambda: b'x' * 65536, None)") as w:
        w.auto_credit = False
        stream = w.begin(http_head())
        drain_quietly(w, stream, wire.WINDOW)
        w.send(wire.CANCEL, stream)
        reply = w.wait(stream)
        assert "closed" in reply.text
        w.auto_credit = True
        w.send(wire.CREDIT, stream, wire.META.pack(5))  # late frames of an ended stream are ignored
        w.send(wire.BODY, stream, b"late")
        stream = w.begin(http_head())
        drain_quietly(w, stream, 10 * wire.WINDOW)
        w.send(wire.CANCEL, stream)
        w.wait(stream)


def test_cancel_cancels_an_async_handler(tmp_path: Path) -> None:
    """[R 5.5]"""
    code = """
    import asyncio
    async def handler(event, context):
        if event == "quick":
            return 1
        print("started")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("cancelled")
            raise
    """
    with worker(tmp_path, code, concurrency=2) as w:
        stream = w.begin({"id": "1", "kind": "event", "headers": []}, b'"slow"')
        while "started" not in w.replies[stream].text:
            w.pump()
        w.send(wire.CANCEL, stream)
        reply = w.wait(stream)
        assert reply.text[:2] == ["started", "cancelled"]
        assert reply.error is not None
        assert w.event("quick").json == 1
