"""Plays the start and the first invocations of an instance in a zygote, so that its children find the way trodden.

A child writes to every page it touches, reference counts included, and the interpreter rewrites code as it learns its
types (PEP 659): each first write copies a page. With the code already adapted and caches filled, `load` touches 345
pages instead of 470 and takes 1.7 ms instead of 2.5 ms (CPython 3.11, a busy two-core EPYC virtual machine).
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys

from fuyun.runtime.channel import Channel, release
from fuyun.runtime.inline import serve
from fuyun.runtime.jsontext import dumps
from fuyun.runtime.loader import load
from fuyun.runtime.looped import Hall
from fuyun.runtime.problems import Hangup
from fuyun.runtime.wire import END, HEADER, INVOKE, META

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fuyun.runtime.loader import App

#: CPython 3.11 to 3.14 adapt a function after a handful of calls.
_LOADS = 12
_SERVE_EVERY, _CALLS = 4, 16
_HANDLERS = ("rehearsed.handler", "rehearsed.asynchronous", "rehearsed.application")


class _Stage:
    """A channel without a socket: hands out frames, forgets answers."""

    def __init__(self, frames: list[bytes]) -> None:
        self._frames = frames

    def receive(self, size: int = 0) -> bytes:
        """The next frame; Hangup after the last."""
        if not self._frames:
            raise Hangup
        return self._frames.pop()

    def send(self, data: bytes) -> None:
        """Nobody listens."""

    def credit(self, stream: int, size_bytes: int) -> None:
        """No more will come."""


def rehearse() -> None:
    """Load and serve functions that do nothing, and put everything back but what every instance has: the root logger's
    handler and the fixed variables of the environment. The process must be single-threaded."""
    before = (sys.stdout, sys.stderr, sys.path[:], sys.argv, sys.dont_write_bytecode)
    folder, environment = _working_directory(), dict(os.environ)
    try:
        for number in range(_LOADS):
            for handler in _HANDLERS:
                _play(handler, number)
    finally:
        sys.stdout, sys.stderr, sys.path[:], sys.argv, sys.dont_write_bytecode = before
        os.chdir(folder)
        for name in [name for name in os.environ if name.startswith("FUYUN_")]:
            del os.environ[name]
        os.environ.update(environment)
        sys.modules.pop("rehearsed", None)
        sys.path_importer_cache.pop(_FOLDER, None)


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # a root that was mounted over it
        return "/"


_FOLDER = os.path.dirname(os.path.abspath(__file__))


def _play(handler: str, number: int) -> None:
    sys.modules.pop("rehearsed", None)
    task: dict[str, Any] = {"handler": handler, "code": _FOLDER, "function": "rehearsal", "instance": str(number)}
    app = load(task)
    if number % _SERVE_EVERY:
        return
    frames = [_invoke(stream, "http" if app.mode == "wsgi" or stream % 2 else "event") for stream in range(_CALLS)]
    try:
        if app.style == "async":
            _serve_on_a_loop(app, frames)
        else:
            serve(_Stage(frames), app)  # type: ignore[arg-type]
    except Hangup:
        pass


def _serve_on_a_loop(app: App, frames: list[bytes]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"".join(frames))
        theirs.shutdown(socket.SHUT_WR)
        hall = Hall(Channel(ours), app)
        try:
            hall.serve()
        finally:
            release()
            hall.loop.close()
            asyncio.set_event_loop(None)


def _invoke(stream: int, kind: str) -> bytes:
    head: dict[str, Any] = {
        "id": f"{stream:032x}", "kind": kind, "deadline_ms": 1, "function": "rehearsal", "version": "1", "alias": "",
        "attempt": 1, "trace": "", "method": "POST", "path": "/", "base": "/fn/a/b", "query": "a=1",
        "headers": [["host", "localhost"], ["content-type", "application/json"]], "source": "127.0.0.1",
        "scheme": "http",
    }  # fmt: skip
    meta = dumps(head)
    payload = META.pack(len(meta)) + meta + b'{"name":"x"}'
    return HEADER.pack(len(payload), INVOKE, END, 0, stream) + payload
