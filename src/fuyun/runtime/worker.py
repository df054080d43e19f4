"""The life of an instance inside its sandbox: become a version, then answer invocations until the platform hangs up.

`load` may run in a template that is forked afterwards: it opens nothing and starts no thread. A template's child calls
`after_fork`, `restore`, then `serve`. The contract with the author is docs/contracts/runtime.md, the frames are `wire`.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from time import monotonic_ns

from fuyun.runtime import forking, inline, layered, streams
from fuyun.runtime.channel import Channel, release
from fuyun.runtime.desk import Leave
from fuyun.runtime.jsontext import dumps
from fuyun.runtime.loader import App, init_problem
from fuyun.runtime.loader import load as _load
from fuyun.runtime.problems import Hangup, LoadProblem
from fuyun.runtime.wire import FAILED, HEADER, READY

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any, Optional

__all__ = ["App", "LoadProblem", "after_fork", "load", "main", "preload", "report_failure", "restore", "serve"]

#: Exit code after a failed start: EX_SOFTWARE of sysexits.h.
START_FAILED = 70
_loaded: list[App] = []


def preload() -> None:
    """Import what every mode needs. For a zygote, before it forks: an instance then imports nothing but its handler."""
    import traceback  # noqa: F401

    import fuyun.sdk  # noqa: F401
    from fuyun.runtime import asgi, looped, threaded, wsgi  # noqa: F401
    from fuyun.runtime.wasm import serving  # noqa: F401


def load(task: dict[str, Any], sock: Optional[socket.socket] = None) -> App:
    """Import the handler and run the initializer (of runtime `layers`: import modules of layers). With `sock`, what the
    code prints meanwhile is sent at once; without, it waits for `serve` or `report_failure`. LoadProblem."""
    send = sock.sendall if sock is not None else None
    if task.get("runtime") == "layers":
        app = layered.furnish(task, send)
    elif task.get("warm_up") and sock is not None:
        from fuyun.runtime.warming import answer_one

        app = _load(task, send, partial(answer_one, sock))
    else:
        app = _load(task, send)
    keep(app)
    return app


def keep(app: App) -> None:
    """This is what was loaded."""
    _loaded[:] = [app]


def unload() -> None:
    """Forget what was loaded."""
    _loaded.clear()


def before_fork() -> None:
    """In a template, once, before it forks: forget what must be unique, and do what only costs the first time."""
    forking.forget()
    forking.renew()


class Seat:
    """What the copies of a template serve with, made before them: each would write to 50 pages more for it. Their own
    connections are at the descriptor that `sock` has here."""

    def __init__(self, sock: socket.socket, app: App) -> None:
        self.desk = inline.InlineDesk(Channel(sock), app)
        self.run = app.runner(self.desk)
        app.load_ms = app.init_ms = 0.0  # a copy's own
        before, mark, after = dumps(app.ready()).partition(b'"init_ms":0.0')
        self._ready = before + mark[:-3], after

    def ready(self, init_ms: float) -> bytes:
        """What READY says. Rounding and writing a float would alone write to ten pages."""
        init_us = int(init_ms * 1000)
        return self._ready[0] + b"%d.%03d" % (init_us // 1000, init_us % 1000) + self._ready[1]


def seat(sock: socket.socket) -> None:
    """In a template whose copies will serve as they are, before it forks: make their seat where the mode has one."""
    app = _loaded[-1]
    if app.style == "inline" and app.initializer is None:
        app.seat = Seat(sock, app)
        streams.spool.unbind()
        streams.spool.bind(app.seat.desk.send)


def after_fork() -> None:
    """In a template's child: renew what must be unique, forget the template's connection and figures."""
    started = monotonic_ns()
    app = _loaded[-1]
    if app.seat is None:
        release()
        streams.spool.unbind()
    else:
        app.seat.desk.meter.restart()
    forking.renew()
    app.load_ms = 0.0
    app.init_ms = (monotonic_ns() - started) / 1e6


def restore() -> None:
    """After `after_fork`: run the author's `after_restore` hooks. What one of them raises is reported by `serve`."""
    started = monotonic_ns()
    app = _loaded[-1]
    snapshots = sys.modules.get("fuyun.sdk.snapshots")
    if snapshots is not None and snapshots.after:
        try:
            snapshots.run_after()
        except BaseException as exc:
            app.broken = init_problem(exc, app.code_dir, "an after_restore hook")
    app.init_ms += (monotonic_ns() - started) / 1e6


def report_failure(sock: socket.socket, problem: LoadProblem) -> None:
    """Send FAILED, after what the code printed until then."""
    payload = dumps(problem.problem(), "problem")
    try:
        sock.sendall(streams.frames_for_failure() + HEADER.pack(len(payload), FAILED, 0, 0, 0) + payload)
    except OSError:  # the platform is gone: the exit code is all that is left to tell
        pass


def serve(sock: socket.socket, app: App, task: dict[str, Any]) -> int:
    """Send READY, then answer until the connection ends; FAILED instead when an asynchronous initializer, an
    application's start-up or an `after_restore` hook fails. Returns the exit code for the process, which must end with
    it (`os._exit`): in the threaded and asynchronous modes code of the author may still be running."""
    if task.get("instance"):
        app.task["instance"] = os.environ["FUYUN_INSTANCE"] = task["instance"]
    if app.seat is None:
        channel = Channel(sock)
        streams.spool.bind(channel.send)
    else:
        channel = app.seat.desk.channel
    try:
        if app.broken is not None:
            raise app.broken
        if app.style == "async":
            _serve_async(channel, app)
        else:
            _serve_synchronously(channel, app)
    except LoadProblem as found:
        report_failure(sock, found)
        return START_FAILED
    except Hangup:
        return 0
    except Leave as leave:
        return leave.code
    return 0


def _ready_frame(app: App) -> bytes:
    payload = dumps(app.ready()) if app.seat is None else app.seat.ready(app.init_ms)
    return HEADER.pack(len(payload), READY, 0, 0, 0) + payload


def _serve_async(channel: Channel, app: App) -> None:
    from fuyun.runtime.looped import Hall

    started = monotonic_ns()
    hall = Hall(channel, app)
    hall.start()
    app.init_ms += (monotonic_ns() - started) / 1e6
    channel.send(_ready_frame(app))
    hall.serve()


def _serve_synchronously(channel: Channel, app: App) -> None:
    _start_synchronously(app)
    if app.style == "threads":
        from fuyun.runtime.threaded import ThreadedDesk

        desk = ThreadedDesk(channel, app)
        desk.start()
        channel.send(_ready_frame(app))
        desk.serve()
    else:
        channel.send(_ready_frame(app))
        if app.seat is None:
            inline_desk = inline.InlineDesk(channel, app)
            inline.serve(inline_desk, app.runner(inline_desk))
        else:
            inline.serve(app.seat.desk, app.seat.run)


def _start_synchronously(app: App) -> None:
    """Run an asynchronous initializer of an application that is served without a loop."""
    if app.initializer is None:
        return
    import asyncio

    started = monotonic_ns()
    limit_s = app.hook_limit("initializer")
    try:
        asyncio.run(asyncio.wait_for(app.initializer(), limit_s))
    except asyncio.TimeoutError:
        raise LoadProblem("function_init_failed", f"the initializer did not end within {limit_s:g} s") from None
    except BaseException as exc:
        raise init_problem(exc, app.code_dir) from None
    app.init_ms += (monotonic_ns() - started) / 1e6


def main(sock: socket.socket, task: dict[str, Any]) -> int:
    """Load and serve; the exit code for the process."""
    try:
        app = load(task, sock)
    except LoadProblem as found:
        report_failure(sock, found)
        return START_FAILED
    return serve(sock, app, task)
