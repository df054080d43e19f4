"""What a warden makes of messages that are none: from the platform, from zygotes, on the sockets of instances."""

from __future__ import annotations

import copy
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuyun.runtime import descriptors, messages
from fuyun.runtime.warden import Warden
from tests.waiting import wait_until

SOURCE = Path(__file__).resolve().parents[2] / "src"
OPTIONS = {"name": "fuyun-test", "limits": "none", "uid_base": 0, "namespaces": False, "root": False}
LIMITS = {"memory": 2**26, "cpu": 1.0, "pids": 32}
PLAN = {
    "binds": [["/usr", "/usr", "ro"]], "links": [["usr/bin", "/bin"]], "folders": ["/run"], "closed": [],
    "files": {"/etc/hostname": "x\n"}, "network": False, "tmp_bytes": 4096,
}  # fmt: skip
#: One right order of each kind.
ORDERS: dict[str, dict[str, Any]] = {
    "zygote": {"plan": PLAN, "options": {"isolation": "sandbox"}, "argv": ["/bin/sh"], "path": "/opt", "env": {}},
    "spawn": {"zygote": "known", "limits": LIMITS},
    "fork": {"template": "known", "limits": LIMITS, "tmp_bytes": 4096, "task": {}},
    "limits": {"limits": LIMITS},
    "run": {"plan": None, "argv": ["/bin/true"], "env": {"PATH": "/bin"}, "cwd": "/", "limits": LIMITS},
    "freeze": {"frozen": True},
    "kill": {},
    "stats": {},
}  # fmt: skip
#: What no field of an order may be.
WRONG = st.sampled_from([
    1.5, -1, "relative/path\0", [None], [["/etc", "../../etc", "rw"]], [["/etc", "/etc", "exec"]], {"memory": -1},
    {"a": 1}, {"memory": 1, "cpu": "x", "pids": 1}, {"memory": 1, "cpu": 1.0, "pids": 0}, {**PLAN, "tmp_bytes": "1"},
    {**PLAN, "folders": ["../x"]}, {**PLAN, "files": {"etc": "x"}}, 2**70, [],
])  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


class Listening(Warden):
    """A warden that writes down what it would do."""

    def __init__(self, platform: socket.socket) -> None:
        super().__init__(platform, dict(OPTIONS))
        self.done: list[str] = []
        for op in ORDERS:
            setattr(self, f"_do_{op}", lambda message, passed, op=op: self.done.append(op))


@contextmanager
def listening() -> Iterator[tuple[Listening, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.settimeout(5)
    with ours, theirs:
        warden = Listening(ours)
        try:
            yield warden, theirs
        finally:
            warden._selector.close()


def ordered(warden: Listening, theirs: socket.socket, data: bytes, passed: int) -> None:
    """Send bytes with descriptors, and let the warden read them."""
    reader, writer = os.pipe()
    try:
        descriptors.send_packed(theirs, data, [writer] * passed)
    finally:
        os.close(writer)
    warden._on_platform()
    assert os.read(reader, 1) == b"", "the warden kept a descriptor"
    os.close(reader)


def refusal(theirs: socket.socket) -> dict[str, Any]:
    message, passed = descriptors.receive(theirs)
    assert message is not None
    assert passed == []
    assert message["ev"] == "failed"
    assert message["message"]
    return message


@pytest.mark.parametrize("op", ORDERS)
def test_right_orders_are_carried_out(op: str) -> None:
    with listening() as (warden, theirs):
        warden._children["known"] = object()  # type: ignore[assignment]
        ordered(warden, theirs, json.dumps({"op": op, "id": "01a2-b", **ORDERS[op]}).encode(), 3)
        assert warden.done == [op]


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(ORDERS)), st.data())
def test_an_order_with_one_thing_wrong_is_refused_and_nothing_is_done(op: str, data: st.DataObject) -> None:
    order = copy.deepcopy({"op": op, "id": "01a2-b", **ORDERS[op]})
    needed = {"spawn": 2, "fork": 2, "run": 1}.get(op, 0)
    free = {"options", "task"}  # any object is one
    kinds = ["id", "op", "missing", "wrong"] + ["descriptors"] * bool(needed) + ["taken"] * (op in messages._MAKERS)
    kind = data.draw(st.sampled_from(kinds))
    fields = sorted(set(ORDERS[op]) - free)
    passed = needed
    if kind == "id" or (kind in ("missing", "wrong") and not fields):
        order["id"] = data.draw(st.sampled_from([None, "", "../up", "a/b", "a..b", "x" * 65, 7, [], "a\0", "a\n"]))
    elif kind == "op":
        order["op"] = data.draw(st.sampled_from([None, "", "hello", "_do_kill", "__init__", 3, ["kill"], {}]))
    elif kind == "missing":
        del order[data.draw(st.sampled_from(fields))]
    elif kind == "wrong":
        order[data.draw(st.sampled_from(fields))] = data.draw(WRONG)
    elif kind == "taken":
        order["id"] = "known"
    else:
        passed = data.draw(st.integers(0, needed - 1))
    with listening() as (warden, theirs):
        warden._children["known"] = object()  # type: ignore[assignment]
        ordered(warden, theirs, json.dumps(order).encode(), passed)
        assert warden.done == []
        refusal(theirs)
        assert list(warden._children) == ["known"]


@settings(max_examples=300)
@given(st.binary(min_size=1, max_size=300) | ANYTHING.map(lambda value: json.dumps(value).encode()), st.integers(0, 8))
def test_noise_is_refused_and_nothing_is_done(data: bytes, passed: int) -> None:
    with listening() as (warden, theirs):
        ordered(warden, theirs, data, passed)
        assert warden.done == []
        refusal(theirs)
        assert warden._going


def test_more_nesting_than_a_parser_takes_is_noise() -> None:
    with listening() as (warden, theirs):
        ordered(warden, theirs, b"[" * 60_000, 1)
        assert "no JSON object" in refusal(theirs)["message"]


# --- from zygotes and instances


@contextmanager
def zygote_of(warden: Warden) -> Iterator[tuple[Any, socket.socket]]:
    """A process that a warden takes for its zygote, and that process's end of the socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    run = subprocess.Popen(["/bin/sleep", "600"])
    from fuyun.runtime.children import Child
    from fuyun.runtime.orders import Orders

    child = Child("zygote", "zygote", ours, pid=run.pid, options={"isolation": "sandbox"})
    child.orders = Orders(ours, 0.0)
    child.pidfd = os.pidfd_open(run.pid)
    warden._children["zygote"] = child
    warden._zygotes["zygote"] = child, child.orders
    try:
        with theirs:
            yield child, theirs
    finally:
        run.kill()
        run.wait()
        if child.control is not None:
            child.control.close()
        os.close(child.pidfd)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.binary(min_size=1, max_size=200)
    | ANYTHING.map(lambda value: json.dumps(value).encode())
    | st.sampled_from([
        b'{"ev":"failed"}', b'{"ev":"failed","id":"other","message":"x"}', b'{"ev":"failed","id":["other"]}',
        b'{"ev":"gone","id":"other","status":0}', b'{"ev":"ready","id":"other"}', b'{"op":"kill","id":"other"}',
    ])
)  # fmt: skip
def test_a_zygote_that_says_anything_else_is_ended_and_nobody_else_is(data: bytes) -> None:
    with listening() as (warden, platform), zygote_of(warden) as (child, theirs):
        warden._children["other"] = object()  # type: ignore[assignment]
        reader, writer = os.pipe()
        descriptors.send_packed(theirs, data, [writer])
        os.close(writer)
        warden._on_zygote(child)
        assert os.read(reader, 1) == b"", "the warden kept a descriptor"
        os.close(reader)
        assert child.killed == "the zygote broke its protocol"
        assert set(warden._children) == {"zygote", "other"}
        platform.setblocking(False)
        with pytest.raises(BlockingIOError):  # nothing of it reaches the platform
            platform.recv(1)


def test_a_zygote_may_say_that_it_is_ready_once_and_what_failed() -> None:
    with listening() as (warden, platform), zygote_of(warden) as (child, theirs):
        theirs.send(b'{"ev":"zygote"}')
        warden._on_zygote(child)
        message, passed = descriptors.receive(platform)
        assert message == {"ev": "zygote", "id": "zygote"}
        for descriptor in passed:
            os.close(descriptor)
        from fuyun.runtime.children import Child

        warden._children["ordered"] = Child("ordered", "instance", zygote=child)
        child.orders.give("ordered", {}, [], 0.0)
        theirs.send(b'{"ev":"failed","id":"ordered","message":"no room"}')
        warden._on_zygote(child)
        assert refusal(platform)["message"] == "no room"
        assert not child.killed
        theirs.send(b'{"ev":"zygote"}')
        warden._on_zygote(child)
        assert child.killed


@settings(max_examples=60)
@given(st.binary(max_size=100), st.integers(0, 3))
def test_a_hello_is_believed_for_what_the_kernel_says_and_nothing_else(data: bytes, passed: int) -> None:
    with listening() as (warden, platform):
        child, theirs = warden._expect({"id": "new", "limits": LIMITS}, "sandbox")
        reader, writer = os.pipe()
        with theirs:
            descriptors.send_packed(theirs, data, [writer] * passed)
            os.close(writer)
            warden._on_hello(child)
            assert os.read(reader, 1) == b"", "the warden kept a descriptor"
            os.close(reader)
            if data == b"hello":
                assert child.pid == os.getpid()
            else:
                refusal(platform)
                assert "new" not in warden._children
                assert child.pid == 0


def test_who_says_hello_cannot_claim_to_be_another() -> None:
    with listening() as (warden, platform):
        child, theirs = warden._expect({"id": "new", "limits": LIMITS}, "sandbox")
        claim = [(socket.SOL_SOCKET, 2, struct.pack("iII", 2**22, 0, 0))]
        with theirs:
            with pytest.raises(OSError, match=r"Operation not permitted|No such process"):
                theirs.sendmsg([b"hello"], claim)
            theirs.send(b"hello")
            warden._on_hello(child)
            assert child.pid == os.getpid()
            message, passed = descriptors.receive(platform)
            assert message == {"ev": "ready", "id": "new"}
            for descriptor in passed:
                os.close(descriptor)
            warden._forget("new")


# --- a real one


def test_a_running_warden_outlives_all_that() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    code = (
        f"import sys;sys.path.insert(0,{str(SOURCE)!r});from fuyun.runtime.founding import main;"
        f"main({theirs.fileno()},{OPTIONS!r})"
    )
    with ours, subprocess.Popen([sys.executable, "-I", "-S", "-c", code], pass_fds=[theirs.fileno()]) as run:
        theirs.close()
        ours.settimeout(20)
        message, _ = descriptors.receive(ours)
        assert message is not None
        assert message["ev"] == "hello"
        before = len(os.listdir(f"/proc/{run.pid}/fd"))
        noise = [
            b"x",
            b"[]",
            b"null",
            b"{}",
            b'{"op":"kill"}',
            b'{"op":["kill"],"id":"a"}',
            b"\xff" * 60_000,
            b"[" * 60_000,
        ]
        for number in range(200):
            descriptors.send_packed(ours, noise[number % len(noise)], [ours.fileno()] * (number % 9))
            refusal(ours)
        descriptors.send(ours, {"op": "stats", "id": "s"})
        message, _ = descriptors.receive(ours)
        assert message == {"ev": "stats", "id": "s", "stats": {}, "last": True}
        wait_until(lambda: len(os.listdir(f"/proc/{run.pid}/fd")) <= before, "what was passed to be closed")
        ours.shutdown(socket.SHUT_RDWR)
        assert run.wait(20) == 0


@pytest.mark.parametrize("code", [1, None, [], "", "relative", "/a/../b", "/a\0"])
def test_the_code_of_a_copy_is_a_folder_by_its_whole_path(code: object) -> None:
    order = {"op": "fork", "id": "01a2-b", **ORDERS["fork"], "code": code}
    with listening() as (warden, theirs):
        warden._children["known"] = object()  # type: ignore[assignment]
        ordered(warden, theirs, json.dumps(order).encode(), 2)
        assert warden.done == []
        assert "fork: code is" in refusal(theirs)["message"]
