"""Errors of invocations: section 6 of docs/contracts/runtime.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.runtime.driver import Reply, worker

BODY = """
import json, os, sys, threading

class Odd(Exception):
    def __str__(self):
        raise RuntimeError("no text for you")

def fail(event):
    if event == "raise":
        raise ValueError("bad thing")
    if event == "library":
        json.loads("{")
    if event == "chained":
        try:
            {}["k"]
        except KeyError as exc:
            raise ValueError("outer") from exc
    if event == "odd":
        raise Odd
    if event == "memory":
        raise MemoryError
    if event == "recursion":
        fail(event)
    if event == "interrupt":
        raise KeyboardInterrupt
    if event == "base":
        raise BaseException("base")
    if event == "long":
        raise ValueError("x" * 100000)
    if event == "exit":
        sys.exit(7)
    if event == "exit-text":
        sys.exit("sorry")
    if event == "os-exit":
        os._exit(9)
    if event == "surrogate":
        raise ValueError("\\udc80")
    return "fine"
"""
SYNC = BODY + "\ndef handler(event, context):\n    return fail(event)\n"
ASYNC = BODY + "\nasync def handler(event, context):\n    return fail(event)\n"
STYLES = [
    pytest.param(SYNC, 1, id="inline"),
    pytest.param(SYNC, 4, id="threads"),
    pytest.param(ASYNC, 4, id="async"),
]


def error(reply: Reply) -> dict[str, Any]:
    assert reply.error is not None, reply
    return reply.error


@pytest.mark.parametrize(("code", "concurrency"), STYLES)
def test_raised(tmp_path: Path, code: str, concurrency: int) -> None:
    """[R 6.1] [R 6.2] [R 6.4] [R 6.6]; the instance serves on after each."""
    with worker(tmp_path, code, concurrency=concurrency) as w:
        reply = w.event("raise")
        found = error(reply)
        assert (found["code"], found["error_type"]) == ("function_raised", "ValueError")
        assert found["message"] == "ValueError: bad thing"
        lines = [line for line in found["traceback"] if line.startswith("  File")]
        assert len(lines) == 2
        assert all("/code/app.py" in line for line in lines), lines
        assert found["traceback"][-1] == "ValueError: bad thing"
        assert reply.logs[-1] == {"s": "log", "l": "error", "t": "\n".join(found["traceback"])}

        lines = [line for line in error(w.event("library"))["traceback"] if line.startswith("  File")]
        assert ["app.py" in line for line in lines] == [True, True, False]
        assert "decoder.py" in lines[-1]

        text = "\n".join(error(w.event("chained"))["traceback"])
        assert "KeyError: 'k'" in text
        assert "direct cause" in text
        assert "fuyun/runtime" not in text

        assert "RuntimeError" in error(w.event("odd"))["message"]
        assert error(w.event("memory"))["code"] == "function_out_of_memory"
        found = error(w.event("recursion"))
        assert found["error_type"] == "RecursionError"
        assert len(found["traceback"]) < 100
        assert error(w.event("interrupt"))["error_type"] == "KeyboardInterrupt"
        assert error(w.event("base"))["error_type"] == "BaseException"
        assert len(error(w.event("long"))["message"]) < 10_000
        assert error(w.event("surrogate"))["code"] == "function_raised"
        assert w.event("fine").json == "fine"


@pytest.mark.parametrize(("code", "concurrency"), STYLES)
@pytest.mark.parametrize(("event", "status"), [("exit", 7), ("exit-text", 1)])
def test_system_exit(tmp_path: Path, code: str, concurrency: int, event: str, status: int) -> None:
    """[R 6.3]"""
    with worker(tmp_path, code, concurrency=concurrency) as w:
        found = error(w.event(event))
        assert found["code"] == "function_exited"
        assert "sys.exit" in found["message"]
        w.wait_eof()
        assert w.wait_exit() == status


@pytest.mark.parametrize(("code", "concurrency"), STYLES)
def test_process_ends_without_a_word(tmp_path: Path, code: str, concurrency: int) -> None:
    """[R 6.3]"""
    with worker(tmp_path, code, concurrency=concurrency) as w:
        w.wait_ready()
        w.begin({"id": "1", "kind": "event", "headers": []}, b'"os-exit"')
        w.wait_eof()
        assert w.wait_exit() == 9


@pytest.mark.parametrize("concurrency", [1, 4])
def test_forked_child_does_not_answer(tmp_path: Path, concurrency: int) -> None:
    """[R 6.7]"""
    code = """
    import os
    def handler(event, context):
        child = os.fork()
        if child == 0:
            return "from the child"
        os.waitpid(child, 0)
        return "from the parent"
    """
    with worker(tmp_path, code, concurrency=concurrency) as w:
        for _ in range(3):
            assert w.event().json == "from the parent"


def test_subprocess_and_multiprocessing(tmp_path: Path) -> None:
    """[R 6.7]"""
    code = """
    import multiprocessing, subprocess, sys
    def double(n):
        print("child prints")
        return 2 * n
    def handler(event, context):
        with multiprocessing.get_context("fork").Pool(2) as pool:
            doubled = pool.map(double, [1, 2, 3])
        said = subprocess.run([sys.executable, "-c", "print('sub')"], capture_output=True, text=True).stdout
        return [doubled, said]
    """
    with worker(tmp_path, code) as w:
        assert w.event().json == [[2, 4, 6], "sub\n"]


def test_exception_group_keeps_the_authors_frames(tmp_path: Path) -> None:
    """[R 6.2]"""
    code = """
    import asyncio
    async def bad(n):
        raise ValueError(n)
    async def handler(event, context):
        async with asyncio.TaskGroup() as group:
            group.create_task(bad(1))
            group.create_task(bad(2))
    """
    with worker(tmp_path, code) as w:
        found = error(w.event())
        text = "\n".join(found["traceback"])
        assert found["error_type"] == "ExceptionGroup"
        assert "ValueError: 1" in text
        assert "in bad" in text
        assert "fuyun/runtime" not in text


@pytest.mark.parametrize(("code", "concurrency"), STYLES)
def test_garbage_from_the_platform_ends_the_instance(tmp_path: Path, code: str, concurrency: int) -> None:
    """[R 12.6]"""
    with worker(tmp_path, code, concurrency=concurrency) as w:
        w.wait_ready()
        w.sock.sendall(b"\xff" * 64)
        w.wait_eof()
        assert w.wait_exit() == 0


def test_frames_that_arrive_in_parts_and_together(tmp_path: Path) -> None:
    """[R 12.1]: requests cut at every byte, and several in one write, are answered one by one."""
    from fuyun.runtime import wire
    from tests.runtime.driver import event_head

    code = "def handler(event, context):\n    return event\n"
    with worker(tmp_path, code) as w:
        w.wait_ready()
        streams = []
        send = w.sock.sendall
        sent: list[bytes] = []
        w.send = lambda kind, stream, payload=b"", flags=0: sent.append(  # type: ignore[method-assign,misc]
            wire.frame(kind, stream, payload, flags)
        )
        streams = [w.begin(event_head(), str(n).encode()) for n in range(20)]
        data = b"".join(sent)
        for start in range(0, 300):
            send(data[start : start + 1])
        send(data[300:])
        assert [w.wait(stream).json for stream in streams] == list(range(20))
