"""The warden's side of the gate, over a real gate's socket whose other end the test holds, or a real gate."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fuyun.runtime import descriptors, gate, sandbox, syscalls
from fuyun.runtime.children import Child
from fuyun.runtime.links import Links


class Loop:
    """What the warden's loop does."""

    def __init__(self) -> None:
        self.handlers: dict[int, Callable[[], None]] = {}
        self.told: list[tuple[dict[str, Any], socket.socket]] = []
        self.links = Links(self.handlers.__setitem__, lambda descriptor: self.handlers.pop(descriptor, None), self.tell)

    def tell(self, message: dict[str, Any], passed: tuple[int, ...]) -> None:
        """Keep what the platform would get."""
        self.told.append((message, socket.socket(fileno=os.dup(passed[0]))))

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


@pytest.fixture
def elsewhere() -> Iterator[Child]:
    """A child in a network namespace of its own, whose loopback is up."""
    if os.geteuid() != 0:
        pytest.skip("enters a network namespace, which needs root: run the tests as root as well")
    held, ending = os.pipe()
    up, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ending)
            syscalls.call("unshare", syscalls.NEWUSER | syscalls.NEWNET)
            sandbox.loopback_up()
            os.write(tell, b"u")
            os.read(held, 1)
        finally:
            os._exit(0)
    os.close(held)
    os.close(tell)
    assert os.read(up, 1) == b"u"
    pidfd = os.pidfd_open(pid)
    yield Child("there", "instance", pid=pid, pidfd=pidfd)
    for descriptor in (ending, up, pidfd):
        os.close(descriptor)
    os.waitpid(pid, 0)


def connects(port: int, pid: int) -> bool:
    """Whether a process in the network of `pid` reaches 127.0.0.1:`port`."""
    code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"
    done = subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c", code], capture_output=True)
    return done.returncode == 0


def test_a_listener_is_made_in_the_network_of_the_child_and_nowhere_else(loop: Loop, elsewhere: Child) -> None:
    said: list[str] = []
    before = os.readlink("/proc/self/ns/net")
    loop.links.link(elsewhere, {"listen": 9002}, said.append)
    assert said == [""]
    assert os.readlink("/proc/self/ns/net") == before
    (message, listener), *others = loop.told
    with listener:
        assert (message, others) == ({"ev": "listening", "id": "there"}, [])
        assert listener.getsockname() == ("127.0.0.1", 9002)
        assert connects(9002, elsewhere.pid)
        assert not connects(9002, os.getpid())
        loop.links.link(elsewhere, {"listen": 9002}, said.append)
        assert said == ["", "listening in its network: Address already in use"]
    loop.links.listeners.close()
    assert not loop.links.pids


def test_a_child_that_is_gone_is_a_problem(loop: Loop) -> None:
    said: list[str] = []
    loop.links.link(Child("a", "instance"), {"listen": 9002}, said.append)
    assert said == ["listening in its network: Bad file descriptor"]
    assert loop.told == []
    assert not loop.links.pids


def test_a_maker_that_ends_is_a_problem_once(loop: Loop, elsewhere: Child) -> None:
    said: list[str] = []
    loop.links.link(elsewhere, {"listen": 9002}, said.append)
    (pid,) = loop.links.pids
    os.kill(pid, signal.SIGKILL)
    for _ in range(2):
        loop.links.link(elsewhere, {"listen": 9003}, said.append)
    assert said[0] == said[2] == ""
    assert said[1].startswith("listening in its network: ")
    loop.links.listeners.close()
    for _, listener in loop.told:
        listener.close()
