"""Hooks: section 10 of docs/contracts/runtime.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.runtime.driver import worker

CODE = """
import asyncio, os, time
calls = []

def init():
    calls.append("init")
    print("initialising")
    time.sleep(0.02)

def init_context(context):
    calls.append(context.function)

async def init_async():
    await asyncio.sleep(0.01)
    calls.append(asyncio.get_running_loop().is_running())

def bad():
    raise ValueError("not ready")

async def bad_async():
    raise ValueError("not ready")

def slow():
    try:
        time.sleep(30)
    except Exception:
        pass

async def slow_async():
    await asyncio.sleep(30)

def tidy(context):
    print("tidy", context.instance)

def handler(event, context):
    return calls

async def ahandler(event, context):
    return calls
"""
HANDLERS = [
    pytest.param("app.handler", 1, id="inline"),
    pytest.param("app.handler", 3, id="threads"),
    pytest.param("app.ahandler", 3, id="async"),
]


@pytest.mark.parametrize(("handler", "concurrency"), HANDLERS)
@pytest.mark.parametrize(
    ("hook", "calls"), [("init", ["init"]), ("init_context", ["hello"]), ("init_async", [True])]
)  # fmt: skip
def test_initializer(tmp_path: Path, handler: str, concurrency: int, hook: str, calls: list[Any]) -> None:
    """[R 10.1]"""
    with worker(tmp_path, CODE, handler, concurrency=concurrency, hooks={"initializer": f"app.{hook}"}) as w:
        ready = w.wait_ready()
        assert w.event().json == calls
        if hook == "init":
            assert ready["init_ms"] >= 20
            assert w.idle_logs[0]["t"] == "initialising"


@pytest.mark.parametrize(("handler", "concurrency"), HANDLERS)
@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("bad", "ValueError: not ready"),
        ("bad_async", "ValueError: not ready"),
        ("slow", "did not end within 0.1 s"),
        ("slow_async", "did not end within 0.1 s"),
    ],
)
def test_initializer_that_fails(tmp_path: Path, handler: str, concurrency: int, hook: str, said: str) -> None:
    """[R 6.5] [R 10.1]"""
    hooks = {"initializer": f"app.{hook}", "initializer_timeout_s": 0.1}
    with worker(tmp_path, CODE, handler, concurrency=concurrency, hooks=hooks) as w:
        found = w.wait_failed()
        assert found["code"] == "function_init_failed"
        assert said in found["message"]
        w.wait_eof()
        assert w.wait_exit() == 70


def test_hook_that_is_not_there(tmp_path: Path) -> None:
    """[R 6.5]"""
    with worker(tmp_path, CODE, hooks={"pre_stop": "app.tidi"}) as w:
        found = w.wait_failed()
        assert found["code"] == "handler_missing"
        assert "did you mean 'tidy'?" in found["message"]


@pytest.mark.parametrize(("handler", "concurrency"), HANDLERS)
def test_pre_stop_and_pre_freeze(tmp_path: Path, handler: str, concurrency: int) -> None:
    """[R 10.2] [R 10.3]"""
    hooks = {"pre_stop": "app.tidy", "pre_freeze": "app.slow", "pre_freeze_timeout_s": 0.1}
    with worker(tmp_path, CODE, handler, concurrency=concurrency, hooks=hooks) as w:
        assert w.wait_ready()["hooks"] == ["pre_freeze", "pre_stop"]
        found = w.hook("pre_freeze")
        assert found["code"] == "function_timed_out"
        assert w.event().json == []
        assert w.hook("pre_stop") == {"ok": True}
        assert w.idle_logs[-1]["t"] == "tidy i-1"


@pytest.mark.parametrize(("handler", "concurrency"), HANDLERS)
def test_async_and_failing_hooks(tmp_path: Path, handler: str, concurrency: int) -> None:
    """[R 10.2] [R 10.3]"""
    hooks = {"pre_stop": "app.bad_async", "pre_freeze": "app.init_async"}
    with worker(tmp_path, CODE, handler, concurrency=concurrency, hooks=hooks) as w:
        assert w.hook("pre_freeze") == {"ok": True}
        found = w.hook("pre_stop")
        assert (found["code"], found["error_type"]) == ("function_raised", "ValueError")
        assert w.event().json == [True]


def test_hooks_that_are_not_set_are_fine(tmp_path: Path) -> None:
    """[R 10.2]"""
    with worker(tmp_path, CODE) as w:
        assert w.wait_ready()["hooks"] == []
        assert w.hook("pre_stop") == {"ok": True}
