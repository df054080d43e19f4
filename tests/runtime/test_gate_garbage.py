"""What a gate makes of messages that are none: from the platform, from the warden. [isolation 6.5]"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuyun.runtime import descriptors, gate

#: One right message of each sender, and how many descriptors come with it.
RIGHT: dict[str, tuple[dict[str, Any], int]] = {
    "platform": ({"id": "01a2-b", "rules": "flush ruleset\n"}, 0),
    "warden": ({"id": "01a2-b", "slot": 1, "group": 1, "address": "198.18.0.2"}, 1),
}
#: What no field may be.
WRONG = st.sampled_from([
    None, True, 1.5, -1, 0, 2**31, 2**70, [], {}, ["198.18.0.2"], {"rules": "x"}, "a\0b", "", "198.18.0.1", "198.18.0",
    "198.018.0.2", "198.18.0.2 ", "198.19.0.2", "10.0.0.1", "198.18.0.256", "198.18.0.2\n", "198.18.0.é", "::1",
])  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


class Listening(gate._Gate):
    """A gate that is open, and writes down what it would do."""

    def __init__(self, platform: socket.socket, warden: socket.socket) -> None:
        super().__init__(platform, warden)
        self.done: list[tuple[Any, ...]] = []

    def _load(self, rules: str) -> str:
        self.done.append((rules,))
        return ""

    def _link(self, message: dict[str, Any], pidfd: int) -> str:
        self.done.append((message["slot"], message["group"], message["address"]))
        return ""


@contextmanager
def listening() -> Iterator[tuple[Listening, dict[str, socket.socket]]]:
    """A gate, and the ends of those it listens to."""
    pairs = {name: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for name in RIGHT}
    try:
        yield Listening(pairs["platform"][0], pairs["warden"][0]), {name: pair[1] for name, pair in pairs.items()}
    finally:
        for pair in pairs.values():
            for sock in pair:
                sock.close()


def answer_to(opened: Listening, theirs: dict[str, socket.socket], sender: str, data: bytes, passed: int) -> str:
    """Send bytes with descriptors, and have the gate answer: the error of it."""
    reader, writer = os.pipe()
    try:
        descriptors.send_packed(theirs[sender], data, [writer] * passed)
    finally:
        os.close(writer)
    answer = opened._answer(opened._platform if sender == "platform" else opened._warden)
    assert os.read(reader, 1) == b"", "the gate kept a descriptor"
    os.close(reader)
    assert answer is not None
    assert answer.keys() == {"id", "error"}
    return answer["error"]


@pytest.mark.parametrize("sender", RIGHT)
def test_right_messages_are_carried_out(sender: str) -> None:
    message, passed = RIGHT[sender]
    with listening() as (opened, theirs):
        assert answer_to(opened, theirs, sender, json.dumps(message).encode(), passed) == ""
        assert opened.done == [tuple(value for name, value in message.items() if name != "id")]


@pytest.mark.parametrize("sender", RIGHT)
def test_neither_may_say_what_is_the_others(sender: str) -> None:
    other = next(name for name in RIGHT if name != sender)
    message, passed = RIGHT[other]
    with listening() as (opened, theirs):
        assert "are due" in answer_to(opened, theirs, sender, json.dumps(message).encode(), passed)
        assert opened.done == []


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(RIGHT)), st.data())
def test_a_message_with_one_thing_wrong_is_refused_and_nothing_is_done(sender: str, data: st.DataObject) -> None:
    right, passed = RIGHT[sender]
    message: dict[str, Any] = dict(right)
    kind = data.draw(st.sampled_from(["missing", "wrong", "more", "descriptors"]))
    if kind == "missing":
        del message[data.draw(st.sampled_from(sorted(message)))]
    elif kind == "wrong":
        field = data.draw(st.sampled_from(sorted(message)))
        fits = {"id": str, "rules": str, "slot": int, "group": int}.get(field)
        # A text of any kind is a name or rules, if it has no NUL; nft says what is wrong with rules.
        wrong = WRONG.filter(lambda value: fits is not str or not isinstance(value, str) or value in ("", "a\0b"))
        message[field] = data.draw(wrong.filter(lambda value: (field, value) not in (("rules", ""), ("id", "a\0b"))))
    elif kind == "more":
        message[data.draw(st.text(min_size=1, max_size=8).filter(lambda name: name not in right))] = 1
    else:
        passed = data.draw(st.integers(0, 8).filter(lambda count: count != passed))
    with listening() as (opened, theirs):
        assert answer_to(opened, theirs, sender, json.dumps(message).encode(), passed)
        assert opened.done == []


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(RIGHT)),
    st.binary(min_size=1, max_size=300) | ANYTHING.map(lambda value: json.dumps(value).encode()),
    st.integers(0, 8),
)
def test_noise_is_refused_and_nothing_is_done(sender: str, data: bytes, passed: int) -> None:
    with listening() as (opened, theirs):
        assert answer_to(opened, theirs, sender, data, passed)
        assert opened.done == []


def test_the_end_of_a_connection_is_no_message() -> None:
    with listening() as (opened, theirs):
        theirs["warden"].close()
        assert opened._answer(opened._warden) is None


@pytest.mark.timeout(60)
def test_a_running_gate_outlives_all_that() -> None:
    """A real one, with its rights and its way out."""
    assert gate.unable() == "", "scripts/setup.sh installs what is missing"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.settimeout(20)
        pid, warden = gate.start(theirs.fileno())
        theirs.close()
        try:
            warden.settimeout(20)
            first, opened = descriptors.receive(ours)
            assert first == {"error": ""}
            for descriptor in opened:
                os.close(descriptor)
            descriptors.send(ours, {"id": "f", "rules": "flush ruleset\n"})
            assert descriptors.receive(ours)[0] == {"id": "f", "error": ""}
            before = len(os.listdir(f"/proc/{pid}/fd"))
            noise = (b"x", b"[]", b"null", b"{}", b'{"rules":7,"id":"a"}', b"\xff" * 60_000, b"[" * 60_000)
            for number in range(140):
                sock = (ours, warden)[number % 2]
                descriptors.send_packed(sock, noise[number % len(noise)], [sock.fileno()] * (number % 9))
                answer, _ = descriptors.receive(sock)
                assert answer is not None
                assert answer["error"]
            descriptors.send(ours, {"id": "r", "rules": "no rule at all"})
            answer, _ = descriptors.receive(ours)
            assert answer is not None
            assert "syntax error" in answer["error"]
            descriptors.send(ours, {"id": "r", "rules": "flush ruleset\n"})
            assert descriptors.receive(ours)[0] == {"id": "r", "error": ""}
            assert len(os.listdir(f"/proc/{pid}/fd")) == before
        finally:
            warden.close()
            ours.close()
            os.waitpid(pid, 0)
