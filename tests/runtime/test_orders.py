"""Orders for a zygote over a real socket whose other end reads late or never."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from fuyun.runtime import descriptors, orders
from fuyun.runtime.orders import Orders

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """The warden's end and the zygote's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def ready(ours: socket.socket) -> Orders:
    """The orders of a zygote that said that it is ready."""
    given = Orders(ours, 0.0)
    given.first_word(0.0)
    return given


def fill(given: Orders, now_s: float = 0.0) -> list[str]:
    """Give orders until one has to wait; the ids of all."""
    ids: list[str] = []
    while not given.waiting:
        ids.append(f"id-{len(ids)}")
        given.give(ids[-1], {"id": ids[-1]}, [], now_s)
        assert len(ids) < 100_000
    return ids


def received(theirs: socket.socket) -> list[str]:
    """The ids of what arrived."""
    theirs.setblocking(False)
    found: list[str] = []
    while True:
        try:
            message, passed = descriptors.receive(theirs)
        except BlockingIOError:
            return found
        for descriptor in passed:
            os.close(descriptor)
        assert message is not None
        found.append(message["id"])


def test_what_finds_no_room_waits_and_leaves_in_order(pair: Pair) -> None:
    ours, theirs = pair
    given = ready(ours)
    ids = fill(given)
    given.give("later", {"id": "later"}, [], 0.0)
    got = received(theirs)
    assert got == ids[:-1]
    given.flush()
    assert not given.waiting
    assert got + received(theirs) == [*ids, "later"]


def test_what_waits_keeps_copies_of_its_descriptors(pair: Pair) -> None:
    ours, theirs = pair
    given = ready(ours)
    ids = fill(given)
    reader, writer = os.pipe()
    given.give("with", {"id": "with"}, [writer], 0.0)
    os.close(writer)
    received(theirs)
    given.flush()
    theirs.setblocking(False)
    passed: list[int] = []
    while not passed:
        message, passed = descriptors.receive(theirs)
    assert message == {"id": "with"}
    os.write(passed[0], b"x")
    os.close(passed[0])
    assert os.read(reader, 10) == b"x"
    assert os.read(reader, 10) == b""  # no other copy is open
    os.close(reader)
    assert given.close() == [*ids, "with"]


def test_closing_closes_what_waits(pair: Pair) -> None:
    ours, _ = pair
    given = ready(ours)
    fill(given)
    reader, writer = os.pipe()
    given.give("with", {"id": "with"}, [writer], 0.0)
    os.close(writer)
    assert "with" in given.close()
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert not given.due


def test_quiet_is_a_stall_only_while_something_is_due(pair: Pair) -> None:
    given = ready(pair[0])
    late_s = orders.STALL_S + 100
    assert given.why_stalled(late_s) == ""
    given.give("a", {"id": "a"}, [], late_s)
    given.give("b", {"id": "b"}, [], late_s + 4)
    assert given.why_stalled(late_s + orders.STALL_S) == ""
    assert "made nothing in 5 s" in given.why_stalled(late_s + orders.STALL_S + 0.1)
    given.settle("a", late_s + 5)  # it makes something, if slowly
    assert given.why_stalled(late_s + orders.STALL_S + 0.1) == ""
    assert given.why_stalled(late_s + orders.STALL_S + 5.1) != ""
    given.settle("b", late_s + 9)
    given.settle("b", late_s + 9)
    assert given.why_stalled(late_s + 1000) == ""


def test_one_that_never_says_a_word_is_stalled(pair: Pair) -> None:
    given = Orders(pair[0], 100.0)
    assert given.due
    assert given.why_stalled(100 + orders.FIRST_WORD_S) == ""
    assert "not ready in 20 s" in given.why_stalled(100.1 + orders.FIRST_WORD_S)


def test_the_queue_is_bounded(pair: Pair) -> None:
    given = ready(pair[0])
    fill(given)
    for number in range(orders.QUEUE - 1):
        given.give(f"more-{number}", {}, [], 0.0)
    assert given.why_stalled(0.0) == ""
    given.give("one too many", {}, [], 0.0)
    assert given.why_stalled(0.0) == f"{orders.QUEUE + 1} orders wait for the zygote"


def test_one_that_is_gone_is_told_nothing(pair: Pair) -> None:
    ours, theirs = pair
    given = ready(ours)
    fill(given)
    theirs.close()
    given.flush()
    assert not given.waiting
    with pytest.raises(OSError, match="Broken pipe"):
        given.give("more", {}, [], 0.0)
