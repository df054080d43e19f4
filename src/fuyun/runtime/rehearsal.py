"""Plays the start and the first invocations of an instance in a zygote, so that its children find the way trodden.

A child writes to every page it touches, reference counts included, and the interpreter rewrites code as it learns its
types (PEP 659): each first write copies a page. With the code already adapted and caches filled, a
start copies half the pages (docs/decisions/0009).
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import contextmanager

from fuyun.runtime import descriptors, worker
from fuyun.runtime.channel import Channel, release
from fuyun.runtime.inline import InlineDesk, serve
from fuyun.runtime.instance import born, live
from fuyun.runtime.jsontext import dumps
from fuyun.runtime.loader import load
from fuyun.runtime.looped import Hall
from fuyun.runtime.problems import Hangup
from fuyun.runtime.streams import spool
from fuyun.runtime.syscalls import INSTANCE_NAMESPACES, clone, pretended
from fuyun.runtime.wire import END, HEADER, INVOKE, META, SPECIALIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator, Optional

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
    """Load and serve functions that do nothing. The process must be single-threaded."""
    with _undone():
        for number in range(_LOADS):
            for handler in _HANDLERS:
                _play(handler, number)


def rehearse_life() -> None:
    """The same for the whole life of a blank, system calls pretended."""
    with _undone(), pretended(), _without_openssl():
        app: Optional[App] = None
        for number in range(_LOADS):
            # First what instances of both kinds do, then what only those that load do: `packing` keeps this order.
            app = worker.load(_TASK) if app is None else app
            _fork(number)
            _be_born(number, app)
            _live(number)
        worker.unload()


@contextmanager
def _without_openssl() -> Iterator[None]:
    """Hide it from `forking.renew`: a zygote that has made random numbers with it would give all blanks the same."""
    hidden = sys.modules.pop("_ssl", None)
    try:
        yield
    finally:
        if hidden is not None:
            sys.modules["_ssl"] = hidden


@contextmanager
def _undone() -> Iterator[None]:
    """Put everything back but what every instance has: the root logger's handler and the fixed variables of the
    environment."""
    before = (sys.stdout, sys.stderr, sys.path[:], sys.argv, sys.dont_write_bytecode)
    folder, environment = _working_directory(), dict(os.environ)
    standard = [os.dup(number) for number in range(3)]
    try:
        yield
    finally:
        for number, kept in enumerate(standard):
            os.dup2(kept, number)
            os.close(kept)
        sys.stdout, sys.stderr, sys.path[:], sys.argv, sys.dont_write_bytecode = before
        os.chdir(folder)
        for name in [name for name in os.environ if name.startswith("FUYUN_")]:
            del os.environ[name]
        os.environ.update(environment)
        sys.modules.pop("rehearsed", None)
        sys.path_importer_cache.pop(_FOLDER, None)


def _fork(number: int) -> None:
    """What a zygote or a template does for each child: take a message with descriptors, fork."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        task = {"instance": f"{number:032x}", "template": False}
        message = {"op": "fork", "id": task["instance"], "slot": number, "task": task}
        descriptors.send(theirs, message, (0, 1, 2))
        _, passed = descriptors.receive(ours)
        clone(INSTANCE_NAMESPACES)
        for descriptor in passed:
            os.close(descriptor)


def _live(number: int) -> None:
    """A blank's life: it is told to be a function, answers, and ends with its connection."""
    sys.modules.pop("rehearsed", None)
    task = dumps(dict(_TASK, instance=f"{number:032x}"))
    with _ends(HEADER.pack(len(task), SPECIALIZE, END, 0, 0) + task) as (channel, output, control):
        live(True, channel, output, control)


def _be_born(number: int, app: App) -> None:
    """The life of a template's child."""
    with _ends(b"") as (channel, output, control), socket.socket(socket.AF_UNIX) as own:
        temporary = os.open("/dev/null", os.O_RDONLY)
        worker.keep(app)
        worker.seat(own)
        born(own, [channel, output, control, temporary], app, {"instance": f"{number:032x}", "template": False})


@contextmanager
def _ends(first: bytes) -> Iterator[tuple[int, int, int]]:
    """Channel, output and control of an instance that is called some times."""
    ours, theirs = socket.socketpair()
    control, warden = socket.socketpair()
    with theirs, warden:
        frames = [_invoke(stream, "event" if stream % 2 else "http") for stream in range(_CALLS)]
        theirs.sendall(first + b"".join(frames))
        theirs.shutdown(socket.SHUT_WR)
        warden.sendall(b"gl")
        try:
            yield ours.detach(), os.open("/dev/null", os.O_WRONLY), control.detach()
        finally:
            release()
            spool.unbind()


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # a root that was mounted over it
        return "/"


_FOLDER = os.path.dirname(os.path.abspath(__file__))
_TASK: dict[str, Any] = {
    "namespace": "default", "function": "rehearsal", "version": "1", "handler": _HANDLERS[0], "concurrency": 1,
    "cpu": 1.0, "timeout_s": 30.0, "memory_bytes": 1 << 28, "output_bytes": 1 << 20, "log_bytes": 1 << 20,
    "env": {"PATH": "/usr/bin"}, "tmp_bytes": 1 << 26, "hooks": {}, "code": _FOLDER, "layers": [], "mount": "00/00",
    "mounts": [], "template": False, "rlimits": {},
}  # fmt: skip


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
            desk = InlineDesk(_Stage(frames), app)  # type: ignore[arg-type]
            serve(desk, app.runner(desk))
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
