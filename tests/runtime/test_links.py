"""The warden's side of the gate, over a real gate's socket whose other end the test holds, or a real gate."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterator

import pytest

from fuyun.runtime import descriptors, gate
from fuyun.runtime.children import Child
from fuyun.runtime.links import Links


class Loop:
    """What the warden's loop does."""

    def __init__(self) -> None:
        self.handlers: dict[int, Callable[[], None]] = {}
        self.links = Links(self.handlers.__setitem__, lambda descriptor: self.handlers.pop(descriptor, None))

    def turn(self) -> None:
        """Handle what is readable, waiting for it."""
        ready = select.select(list(self.handlers), [], [], 10)[0]
        assert ready, "nothing happened"
        for descriptor in ready:
            handler = self.handlers.get(descriptor)
            if handler is not None:
                handler()


@pytest.fixture
def loop() -> Loop:
    """A warden's loop, without a gate so far."""
    return Loop()


def child(name: str) -> Iterator[Child]:
    """A child that is this very process."""
    pidfd = os.pidfd_open(os.getpid())
    try:
        yield Child(name, "instance", pid=os.getpid(), pidfd=pidfd)
    finally:
        os.close(pidfd)


def test_without_a_gate_a_link_is_a_problem_and_no_link_is_none(loop: Loop) -> None:
    said: list[str] = []
    loop.links.link(Child("a", "instance"), None, said.append)
    loop.links.link(Child("b", "instance"), {"slot": 1, "group": 1, "address": "198.18.0.2"}, said.append)
    assert said == ["", "there is no gate to the network"]


@pytest.fixture
def scripted(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The gate's end of its socket to the warden; the gate is a process that waits."""
    held, ending = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ending)
        os.read(held, 1)
        os._exit(0)
    os.close(held)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    monkeypatch.setattr(gate, "start", lambda platform: (pid, ours))
    loop.links.open(-1)
    assert loop.links.pids == {pid}
    yield theirs
    os.close(ending)
    while loop.links.pids:
        loop.turn()
    theirs.close()


def test_more_links_than_the_socket_holds_are_all_made(loop: Loop, scripted: socket.socket) -> None:
    said: list[tuple[str, str]] = []
    count = 2000
    for one in child("same"):
        for number in range(count):
            wanted = {"slot": number, "group": 1, "address": "198.18.0.2"}
            named = Child(f"c{number}", "instance", pid=one.pid, pidfd=one.pidfd)
            loop.links.link(named, wanted, lambda problem, name=f"c{number}": said.append((name, problem)))
        for number in range(count):
            message, passed = descriptors.receive(scripted)
            assert message is not None
            assert message["slot"] == number
            for descriptor in passed:
                os.close(descriptor)
            descriptors.send(scripted, {"id": message["id"], "error": "" if number % 2 else "no"})
            loop.turn()
    assert said == [(f"c{n}", "" if n % 2 else "linking it to the network: no") for n in range(count)]


def test_when_the_gate_ends_those_who_wait_are_told(loop: Loop, scripted: socket.socket) -> None:
    said: list[str] = []
    for one in child("a"):
        loop.links.link(one, {"slot": 1, "group": 1, "address": "198.18.0.2"}, said.append)
        scripted.close()
        while not said:
            loop.turn()
    assert said == ["there is no gate to the network"]
    assert not loop.handlers
