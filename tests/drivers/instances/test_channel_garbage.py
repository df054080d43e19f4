"""The platform's end of an instance, against any bytes at all: any split means the same, garbage is a violation."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuyun.domain import errors
from fuyun.drivers.instances.channel import LARGEST_BYTES, Channel
from fuyun.runtime import wire
from tests.drivers.instances.wired import USAGE, Sink, log, problem, result


class Transport(asyncio.Transport):
    """Takes what is written; enough for feeding a channel by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def write(self, data: object) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


Found = tuple[list[Sink], list[str], list[tuple[str, str, str]]]


def feed(pieces: list[bytes], calls: int = 3, largest: int = LARGEST_BYTES) -> Found:
    """What a channel with open calls 1..n makes of the pieces. Whatever it raises is raised."""

    async def main() -> Found:
        lost: list[str] = []
        logs: list[tuple[str, str, str]] = []
        channel = Channel("i", lost.append, lambda *line: logs.append(line))
        channel.largest = largest
        transport = Transport()
        channel.connection_made(transport)
        sinks = [Sink() for _ in range(calls)]
        for sink in sinks:
            channel.invoke(b"{}", b"", True, sink)
        for piece in pieces:
            if not transport.aborted:
                channel.data_received(piece)
        assert transport.aborted == bool(lost)
        violations = list(lost)
        channel.connection_lost(None)
        channel.fail_all(errors.InstanceLost("end of the test"))
        for sink in sinks:  # exactly one end each
            ends = [seen for seen in sink.seen if seen[0] in ("result", "end", "fail")]
            assert len(ends) == 1
            assert sink.seen[-1] == ends[0] or sink.seen[-1][0] in ("log", "credit")
        if channel.started.done():
            channel.started.exception()
        return sinks, violations, logs

    return asyncio.run(main())


CONVERSATION = b"".join(
    [
        wire.frame(wire.READY, 0, b'{"load_ms":1}'), log("one", 1), wire.frame(wire.HEAD, 2, b"[200,[]]"),
        wire.frame(wire.CHUNK, 2, b"a" * 300), result(1, b'{"n":1}', b'[418,[["h","v"]]]'),
        wire.frame(wire.CREDIT, 2, wire.META.pack(9)), wire.frame(wire.CHUNK, 2, b""),
        wire.frame(wire.ERROR, 3, USAGE + problem(code="function_raised", message="m")), log("two"),
        wire.frame(wire.FINISH, 2, USAGE),
    ]
)  # fmt: skip


def _shown(found: Found) -> str:
    sinks, lost, logs = found
    return repr(([sink.seen for sink in sinks], lost, logs))


WHOLE = _shown(feed([CONVERSATION]))


@settings(max_examples=150)
@given(st.lists(st.integers(0, len(CONVERSATION)), max_size=40))
def test_any_split_of_the_bytes_means_the_same(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(CONVERSATION)]
    found = feed([CONVERSATION[a:b] for a, b in pairwise(edges) if a < b])
    assert _shown(found) == WHOLE
    assert not found[1]


def test_byte_by_byte() -> None:
    assert _shown(feed([CONVERSATION[i : i + 1] for i in range(len(CONVERSATION))])) == WHOLE


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["code", "message", "traceback", "ok", "s", "l", "t", "load_ms", "reason", "instance", "status"]
            ),
            inner,
        )
    ),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())

FRAMES = st.tuples(
    st.integers(0, 30) | st.integers(0, 255), st.integers(0, 4) | st.integers(0, 2**32 - 1),
    st.binary(max_size=40) | JSONISH | JSONISH.map(lambda text: USAGE + text)
    | JSONISH.map(lambda text: USAGE + wire.META.pack(len(text)) + text) | st.just(USAGE) | st.just(b"[200,[]]"),
).map(lambda parts: wire.frame(*parts))  # fmt: skip


@settings(max_examples=300)
@given(st.lists(FRAMES, min_size=1, max_size=12), st.binary(max_size=30), st.integers(1, 50))
def test_garbage_is_a_violation_and_nothing_else(frames: list[bytes], tail: bytes, step: int) -> None:
    """[R 12.7] Whatever arrives: nothing is raised, every call ends once, and a violation says what was wrong."""
    data = b"".join(frames) + tail
    _, lost, _ = feed([data[i : i + step] for i in range(0, len(data), step)])
    assert all(lost)
    assert len(lost) <= 1


@settings(max_examples=300)
@given(st.binary(min_size=1, max_size=200))
def test_noise_is_a_violation_or_an_unfinished_frame(data: bytes) -> None:
    feed([data])


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (wire.HEADER.pack(LARGEST_BYTES + 1, wire.LOG, 0, 0, 0), "a frame of 1048577 bytes"),
        (result(9, b""), "RESULT for call 9, which is not open"),
        (wire.frame(wire.HEAD, 1, b"[200,[]]") * 2, "two HEADs"),
        (wire.frame(wire.HEAD, 1, b"[200,[]]") + result(1, b""), "RESULT after HEAD"),
        (wire.frame(wire.CHUNK, 1, b"a"), "CHUNK before HEAD"),
        (wire.frame(wire.FINISH, 1, USAGE), "FINISH before HEAD"),
        (wire.frame(wire.RESULT, 1, USAGE + wire.META.pack(50) + b"{}"), "a RESULT longer than its frame"),
        (wire.frame(wire.RESULT, 1, b""), "unpack"),
        (wire.frame(wire.INVOKE, 1), "a frame of kind 2"),
        (wire.frame(wire.HOOKED, 1, b'{"ok":true}'), "a frame of kind 24"),
        (wire.frame(wire.LOG, 0, b'{"t":"\xff"}'), "utf-8"),
        (wire.frame(wire.READY, 0, b'{"x":' + b"[" * 200000), "recursion"),
        (wire.frame(wire.READY, 0, b'{"load_ms":1e999}'), "out of range"),
        (wire.frame(wire.READY, 0, b'{"load_ms":1e308,"init_ms":1e308}'), "Expected `float` <= "),
        (wire.frame(wire.READY, 0, b'{"init_ms":-1}'), "Expected `float` >= 0"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(sent: bytes, words: str) -> None:
    sinks, lost, _ = feed([sent])
    assert words in lost[0]
    assert all(isinstance(sink.seen[-1][1], errors.InstanceLost) for sink in sinks)


def test_a_large_answer_in_small_pieces_is_put_together_once() -> None:
    """Sixty megabytes in pieces of sixteen kilobytes: quadratic copying would take minutes."""
    body = bytes(60 * 2**20)
    data = result(1, body)
    sinks, lost, _ = feed([data[i : i + 16384] for i in range(0, len(data), 16384)], 1, wire.MAX_FRAME)
    assert not lost
    assert len(sinks[0].seen[0][3]) == len(body)
