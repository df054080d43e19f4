"""Lifecycle hooks: `initializer`, `pre_freeze`, `pre_stop`, each with its own time limit."""

from __future__ import annotations

import sys

from fuyun.runtime.jsontext import dumps
from fuyun.runtime.problems import Hangup, problem, raised
from fuyun.runtime.wire import HEADER, HOOKED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

    from fuyun.runtime.loader import App


class HookTimeout(BaseException):
    """The hook passed its limit. Not an Exception, so that `except Exception` in the hook does not swallow it."""


class Limit:
    """Raises HookTimeout in the block after `limit_s` seconds, by a signal: for the main thread."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._previous: Any = None

    def __enter__(self) -> None:
        import signal

        self._previous = signal.signal(signal.SIGALRM, self._expire)
        signal.setitimer(signal.ITIMER_REAL, self._limit_s)

    def __exit__(self, *_: object) -> None:
        import signal

        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if self._previous is None else self._previous)

    def _expire(self, _number: int, _frame: object) -> None:
        raise HookTimeout


def _is_main_thread() -> bool:
    threading = sys.modules.get("threading")
    return threading is None or threading.current_thread() is threading.main_thread()


def _call_in_thread(call: Callable[[], Any], limit_s: float) -> None:
    """Call it in a thread of its own, which is left behind when it takes longer than `limit_s`: HookTimeout."""
    import threading

    raised_there: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as exc:
            raised_there.append(exc)

    thread = threading.Thread(target=run, name="fuyun-hook", daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        raise HookTimeout
    if raised_there:
        raise raised_there[0]


def hook_name(payload: bytes) -> str:
    """The hook a HOOK frame asks for."""
    from json import loads

    try:
        return str(loads(payload)["hook"])
    except (ValueError, KeyError, TypeError):
        raise Hangup from None


def hooked_frame(stream: int, found: Optional[dict[str, Any]]) -> bytes:
    """HOOKED: fine, or the Problem."""
    payload = dumps(found or {"ok": True})
    return HEADER.pack(len(payload), HOOKED, 1, 0, stream) + payload


def run_hook(app: App, name: str, call: Callable[[], Any]) -> Optional[dict[str, Any]]:
    """Call a synchronous hook within its limit; its Problem, or None when it is fine."""
    limit_s = app.hook_limit(name)
    try:
        if _is_main_thread():
            with Limit(limit_s):
                call()
        else:
            _call_in_thread(call, limit_s)
    except HookTimeout:
        return problem("function_timed_out", f"{name} did not end within {limit_s:g} s")
    except Hangup:
        raise
    except BaseException as exc:
        return raised(exc, app.code_dir)
    return None


def answer_hook(app: App, stream: int, payload: bytes) -> bytes:
    """Run the hook that a HOOK frame asks for in a synchronous mode; a missing hook is fine."""
    name = hook_name(payload)
    hook = app.hooks.get(name)

    def call() -> None:
        result = hook() if hook is not None else None
        if hasattr(result, "__await__"):
            import asyncio

            asyncio.run(_await(result))

    found = run_hook(app, name, call) if hook is not None else None
    if name == "pre_freeze":
        give_memory_back()
    return hooked_frame(stream, found)


def give_memory_back() -> None:
    """Before a freeze: collect garbage and return the C library's free pages to the kernel (malloc_trim(3); musl has
    none). It is what a host without swap gets back of an instance's own memory."""
    import ctypes
    import gc

    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


async def _await(awaitable: Any) -> Any:
    return await awaitable
