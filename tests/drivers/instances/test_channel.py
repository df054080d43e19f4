"""The platform's end of an instance, against a fake one over a socket pair."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest

from fuyun.domain import errors
from fuyun.drivers.instances import channel as channels
from fuyun.runtime import wire
from tests.drivers.instances.wired import USAGE, Sink, Wired, log, on_both_loops, problem, result, wired

# --- towards the instance


@on_both_loops
async def test_an_invocation_and_its_answer() -> None:
    async with wired() as pair:
        sink = Sink()
        pair.channel.invoke(b'{"id":"x"}', b"body", True, sink)
        assert await pair.frame() == (wire.INVOKE, wire.END, 1, wire.META.pack(10) + b'{"id":"x"}body')
        assert pair.channel.inflight == 1
        await pair.send(result(1, b"{}"))
        await pair.until(lambda: sink.seen)
        assert sink.seen == [("result", 200, None, b"{}", (1500, 900, 2048))]
        assert pair.channel.inflight == 0
        assert pair.channel.answered == 1


@on_both_loops
async def test_an_answer_with_a_head() -> None:
    async with wired() as pair:
        sink = Sink()
        pair.channel.invoke(b"{}", b"", True, sink)
        await pair.send(result(1, b"gone", b'[410,[["x-a","1"],["x-a","2"]]]'))
        await pair.until(lambda: sink.seen)
        assert sink.seen == [("result", 410, [("x-a", "1"), ("x-a", "2")], b"gone", (1500, 900, 2048))]


@on_both_loops
async def test_a_request_body_in_pieces_and_its_credit() -> None:
    async with wired() as pair:
        sink = Sink()
        call = pair.channel.invoke(b"{}", b"a", False, sink)
        assert (await pair.frame())[:2] == (wire.INVOKE, 0)
        call.send_body(b"b", False)
        call.send_body(b"c", True)
        assert await pair.frame() == (wire.BODY, 0, 1, b"b")
        assert await pair.frame() == (wire.BODY, wire.END, 1, b"c")
        await pair.send(wire.frame(wire.CREDIT, 1, wire.META.pack(77)))
        await pair.until(lambda: sink.seen)
        assert sink.seen == [("credit", 77)]
        await pair.send(result(1, b""), wire.frame(wire.CREDIT, 1, wire.META.pack(5)))  # late credit means nothing
        await pair.until(lambda: len(sink.seen) == 2)
        assert not pair.lost


@on_both_loops
async def test_frames_leave_in_order() -> None:
    async with wired() as pair:
        first = pair.channel.invoke(b"{}", b"1", True, Sink())
        pair.channel.invoke(b"{}", b"2", False, Sink()).send_body(b"more", True)
        first.cancel()
        pair.channel.invoke(b"{}", b"3", True, Sink())
        kinds = [(await pair.frame())[::2] for _ in range(5)]
        assert kinds == [(wire.INVOKE, 1), (wire.INVOKE, 2), (wire.BODY, 2), (wire.CANCEL, 1), (wire.INVOKE, 3)]


@on_both_loops
async def test_a_call_that_is_over_is_not_cancelled() -> None:
    async with wired() as pair:
        sink = Sink()
        call = pair.channel.invoke(b"{}", b"", True, sink)
        await pair.send(result(1, b""))
        await pair.until(lambda: sink.seen)
        call.cancel()
        pair.channel.invoke(b"{}", b"", True, Sink())
        assert [(await pair.frame())[0], (await pair.frame())[0]] == [wire.INVOKE, wire.INVOKE]


# --- a streamed answer


@on_both_loops
async def test_a_streamed_answer_and_flow_control() -> None:
    async with wired() as pair:
        sink = Sink()
        call = pair.channel.invoke(b"{}", b"", True, sink)
        await pair.frame()
        await pair.send(wire.frame(wire.HEAD, 1, b'[201,[["a","b"]]]'))
        half = bytes(wire.WINDOW // 2)
        await pair.send(wire.frame(wire.CHUNK, 1, half), wire.frame(wire.CHUNK, 1, half))
        await pair.until(lambda: len(sink.seen) == 3)
        call.consumed(wire.WINDOW // 2)
        assert await pair.frame() == (wire.CREDIT, 0, 1, wire.META.pack(wire.WINDOW // 2))
        await pair.send(wire.frame(wire.CHUNK, 1, half), wire.frame(wire.FINISH, 1, USAGE))
        await pair.until(lambda: len(sink.seen) == 5)
        assert sink.seen[0] == ("head", 201, [("a", "b")])
        assert sink.seen[-1] == ("end", (1500, 900, 2048))
        call.consumed(wire.WINDOW)  # the client took the rest; the instance has nothing to send any more
        assert pair.channel.inflight == 0
        assert not pair.lost


@on_both_loops
async def test_more_than_the_window_is_a_violation() -> None:
    async with wired() as pair:
        pair.channel.invoke(b"{}", b"", True, Sink())
        await pair.send(wire.frame(wire.HEAD, 1, b"[200,[]]"))
        await pair.send(*[wire.frame(wire.CHUNK, 1, bytes(65536))] * 4, wire.frame(wire.CHUNK, 1, b"x"))
        await pair.until(lambda: pair.lost)
        assert "262145 bytes sent ahead" in pair.lost[0]


# --- errors


@pytest.mark.parametrize(
    ("told", "kind", "fields"),
    [
        ({"code": "function_raised", "message": "m"}, errors.FunctionRaised, {}),
        ({"code": "bad_response", "message": "m"}, errors.BadResponse, {}),
        ({"code": "unavailable", "message": "m"}, errors.FunctionError, {}),  # not its to say
        ({"code": "nonsense", "message": "m"}, errors.FunctionError, {}),
        ({"code": "function_raised", "message": "m", "error_type": "MemoryError"}, errors.FunctionOutOfMemory,
         {"error_type": "MemoryError"}),
        ({"code": "function_raised", "message": "m", "error_type": "V" * 999, "traceback": ["l" * 3000] * 300},
         errors.FunctionRaised, {"error_type": "V" * 200, "traceback": ["l" * 2000] * 200}),
    ],
)  # fmt: skip
def test_errors_are_the_authors_and_bounded(told: dict[str, Any], kind: type, fields: dict[str, Any]) -> None:
    async def main() -> None:
        async with wired() as pair:
            sink = Sink()
            pair.channel.invoke(b"{}", b"", True, sink)
            await pair.send(wire.frame(wire.ERROR, 1, USAGE + problem(**told)))
            await pair.until(lambda: sink.seen)
            error = sink.seen[0][1]
            assert type(error) is kind
            assert error.detail == "m"
            assert error.fields == fields

    asyncio.run(main())


@on_both_loops
async def test_an_error_in_the_middle_of_an_answer() -> None:
    async with wired() as pair:
        sink = Sink()
        pair.channel.invoke(b"{}", b"", True, sink)
        await pair.send(
            wire.frame(wire.HEAD, 1, b"[200,[]]"),
            wire.frame(wire.CHUNK, 1, b"a"),
            wire.frame(wire.ERROR, 1, USAGE + problem(code="function_raised", message="m")),
        )
        await pair.until(lambda: len(sink.seen) == 3)
        assert [seen[0] for seen in sink.seen] == ["head", "body", "fail"]
        assert pair.channel.inflight == 0


# --- about the instance itself


@on_both_loops
async def test_ready_and_failed() -> None:
    async with wired() as pair:
        ready = {"load_ms": 3.5, "init_ms": 1, "mode": "wsgi", "forkable": False, "reason": "t" * 5000, "new": [1]}
        await pair.send(wire.frame(wire.READY, 0, json.dumps(ready).encode()))
        found = await pair.channel.started
        assert (found.load_ms, found.init_ms, found.mode, found.forkable) == (3.5, 1.0, "wsgi", False)
        assert len(found.reason) == 1000
        await pair.send(wire.frame(wire.FAILED, 0, problem(code="handler_missing", message="m")), log("after"))
        await pair.until(lambda: pair.logs)  # too late to matter
    async with wired() as pair:
        await pair.send(wire.frame(wire.FAILED, 0, problem(code="handler_missing", message="no handler")))
        with pytest.raises(errors.HandlerMissing, match="no handler"):
            await pair.channel.started


@on_both_loops
async def test_hooks_are_answered_one_by_one() -> None:
    async with wired() as pair:
        asked = [asyncio.ensure_future(pair.channel.hook(name, 5)) for name in ("pre_freeze", "pre_stop")]
        frames = [await pair.frame(), await pair.frame()]
        assert [json.loads(frame[3]) for frame in frames] == [{"hook": "pre_freeze"}, {"hook": "pre_stop"}]
        await pair.send(wire.frame(wire.HOOKED, frames[1][2], b'{"ok": true}'))
        assert await asked[1] is True
        await pair.send(wire.frame(wire.HOOKED, frames[0][2], problem(code="function_raised", message="m")))
        assert await asked[0] is False


@on_both_loops
async def test_a_hook_that_takes_too_long_or_meets_the_end_is_false() -> None:
    async with wired() as pair:
        assert await pair.channel.hook("pre_stop", 0.01) is False
        stream = (await pair.frame())[2]
        await pair.send(wire.frame(wire.HOOKED, stream, b'{"ok":true}'), log("late"))
        await pair.until(lambda: pair.logs)
        assert not pair.lost
        waiting = asyncio.ensure_future(pair.channel.hook("pre_stop", 60))
        await pair.frame()
        pair.instance.shutdown(socket.SHUT_RDWR)
        assert await waiting is False
        assert await pair.channel.hook("pre_stop", 60) is False


@on_both_loops
async def test_only_a_template_tells_of_exits() -> None:
    exited = wire.frame(wire.EXITED, 0, b'{"instance":"abc","status":-9}')
    async with wired() as pair:
        told: list[tuple[str, int]] = []
        pair.channel.on_exited = lambda *found: told.append(found)
        await pair.send(exited)
        await pair.until(lambda: told)
        assert told == [("abc", -9)]
    async with wired() as pair:
        await pair.send(exited)
        await pair.until(lambda: pair.lost)
        assert "no place here" in pair.lost[0]


# --- logs


@on_both_loops
async def test_lines_go_to_their_call_or_to_nobody_in_particular() -> None:
    async with wired() as pair:
        sink = Sink()
        pair.channel.invoke(b"{}", b"", True, sink)
        await pair.send(log("mine", 1, "log", "info"), log("idle"), log("x" * 70000, 1))
        await pair.until(lambda: len(sink.seen) == 2)
        assert sink.seen[0] == ("log", "log", "info", "mine")
        assert sink.seen[1][3] == "x" * channels.LINE_CHARS + "…"
        assert pair.logs == [("stdout", "", "idle")]


async def _flood(pair: Wired, frame: bytes, total_bytes: int) -> None:
    block = frame * (65536 // len(frame) + 1)
    sent = 0
    while sent < total_bytes:
        await pair.send(block)
        sent += len(block)


@pytest.mark.parametrize("text", ["y" * 1000, ""], ids=["long lines", "empty lines"])
def test_a_flood_of_logs_makes_the_instance_wait(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, passes_s = 0.0, 0.0

    def mono_s() -> float:
        nonlocal now_s
        now_s += passes_s
        return now_s

    monkeypatch.setattr(channels.clock, "mono_s", mono_s)

    async def main() -> None:
        nonlocal passes_s
        async with wired() as pair:
            flood = asyncio.ensure_future(_flood(pair, log(text), 2 * channels.LOG_BURST))
            await pair.until(lambda: pair.channel._paused)
            for _ in range(20):
                await asyncio.sleep(0)
            seen = len(pair.logs)
            cost = len(text) + channels.FRAME_COST
            assert channels.LOG_BURST * 0.8 <= seen * (cost + 24) <= channels.LOG_BURST + 600_000
            await asyncio.sleep(0.01)
            assert len(pair.logs) == seen  # the clock stands still, and so does the instance
            assert not flood.done()
            passes_s = 1.0
            await pair.until(flood.done)
            await pair.send(result(1, b""))  # of a call that was never made
            await pair.until(lambda: pair.lost)

    asyncio.run(main())


@on_both_loops
async def test_a_paused_instance_that_goes_away_is_noticed() -> None:
    async with wired() as pair:
        pair.channel.throttle(channels.LOG_BURST + channels.LOG_RATE // 10)
        assert pair.channel._paused
        pair.instance.shutdown(socket.SHUT_RDWR)
        await pair.until(lambda: pair.lost)
        assert pair.lost == [""]


# --- the end


@on_both_loops
async def test_the_end_is_told_once_and_fails_what_waits() -> None:
    async with wired() as pair:
        sink = Sink()
        pair.channel.invoke(b"{}", b"", True, sink)
        pair.instance.close()
        await pair.until(lambda: pair.channel.gone)
        assert pair.lost == [""]
        assert sink.seen == []  # why it ended is not known yet
        error = errors.FunctionExited("it ended")
        pair.channel.fail_all(error)
        assert sink.seen == [("fail", error)]
        with pytest.raises(errors.FunctionExited):
            await pair.channel.started
        pair.channel.invoke(b"{}", b"", True, Sink()).send_body(b"into the void", True)
