"""The life of one instance before, between and after its user code: blank, function, template.

`live` runs in a zygote's child, `born` in a template's. Both end in `worker.serve`. `control` is a socket to the
warden: it says hello (the kernel adds who is speaking), waits to be put into its control group, and, for a blank,
waits until the limits of its function are set. Up to `sandbox.seal` nothing here has seen a byte of user code.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket

from fuyun.runtime import becoming, descriptors, forkhooks, forking, nodejs, sandbox, syscalls, wire, worker
from fuyun.runtime.jsontext import loads
from fuyun.runtime.problems import LoadProblem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fuyun.runtime.loader import App

#: The functions below `signal`, whose wrappers make enumeration members of what they return.
_signal: Any = vars(signal)["_signal"]


def _adopt_output(output: int) -> None:
    empty = os.open("/dev/null", os.O_RDONLY)
    os.dup2(empty, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for descriptor in (empty, output):
        if descriptor > 2:
            os.close(descriptor)


def enrol(control: int) -> None:
    """Say hello and wait until the warden has put this process into its control group."""
    os.write(control, b"hello")
    if not os.read(control, 1):
        raise EOFError("the warden is gone")


def _exactly(channel: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = channel.recv(size - len(data))
        if not piece:
            raise EOFError("the platform is gone")
        data += piece
    return data


def receive_task(channel: socket.socket) -> dict[str, Any]:
    size, kind, _, _, _ = wire.HEADER.unpack(_exactly(channel, wire.HEADER_SIZE))
    if kind != wire.SPECIALIZE:
        raise ValueError(f"the first frame is of kind {kind}, not SPECIALIZE")
    return dict(loads(str(_exactly(channel, size), "utf-8")))


def live(isolated: bool, channel_fd: int, output: int, control_fd: int, *, node: str = "") -> int:
    """Be a blank, then the function it is told to be, until the channel closes; the exit status. `node`: an executable
    to be started ahead."""
    forkhooks.arm()
    forking.reseed()
    _adopt_output(output)
    if not isolated:
        os.setsid()
    control = socket.socket(fileno=control_fd)
    ruleset = sandbox.enter() if isolated else -1
    enrol(control_fd)
    if isolated:
        syscalls.call("unshare", syscalls.NEWCGROUP)
    if node:
        nodejs.prepare(node, channel_fd, ruleset if isolated else None)
    channel = socket.socket(fileno=channel_fd)
    try:
        task = receive_task(channel)
    except EOFError:
        return 0
    if not control.recv(1):  # the limits are set
        return 0
    limits = task.get("rlimits", {})
    sandbox.resource_limits(limits)
    if isolated:
        if limits:
            sandbox.small_buffers()
            sandbox.refuse_uncounted()
        sandbox.mount_code(task["mount"], task["mounts"], task["tmp_bytes"])
        if task.get("image"):
            becoming.enter_image(task)
        sandbox.seal(ruleset, template=task["template"])
    if not task["template"]:
        control.close()
    return _become(channel, control, task)


def _become(channel: socket.socket, control: socket.socket, task: dict[str, Any]) -> int:
    if not task["template"]:
        return becoming.become(channel, task)
    try:
        app = worker.load(task, channel)
    except LoadProblem as problem:
        worker.report_failure(channel, problem)
        return 1
    channel.sendall(wire.frame(wire.READY, 0, json.dumps(app.ready()).encode()))
    return _breed(channel, control, app, task) if app.forkable else 0


def _breed(channel: socket.socket, control: socket.socket, app: App, task: dict[str, Any]) -> int:
    """Be a template: fork an instance for every message with [channel, output, control, tmp]; a zygote of layers: a
    blank for one that has [..., code] besides."""
    nursery = _Nursery(channel)
    own = control.fileno()
    worker.before_fork()
    if app.mode != "layers":
        worker.seat(channel)
    gc.collect()
    gc.freeze()
    if app.task.get("rlimits"):
        sandbox.raise_limits()
    while True:
        message, passed = descriptors.receive(control)
        if message is None:
            return 0
        _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGCHLD,))
        forkhooks.arm(False)
        try:
            pid = syscalls.clone(syscalls.INSTANCE_NAMESPACES)
        except OSError:  # no room for one more: who waits for it is told so by the end of its socket
            pid = -1
        if pid == 0:
            status = 70
            try:
                os.close(own)
                if app.mode == "layers":
                    status = hatched(channel, passed, app)
                else:
                    status = born(channel, passed, app, message["task"])
            finally:
                os._exit(status)
        if pid > 0:
            nursery.born[pid] = message["task"]["instance"]
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGCHLD,))
        for descriptor in passed:
            os.close(descriptor)


class _Nursery:
    """Tells the platform how instances ended: only their parent, the template, learns it."""

    def __init__(self, channel: socket.socket) -> None:
        self.born: dict[int, str] = {}
        self._channel = channel
        self._busy = self._again = False
        signal.signal(signal.SIGCHLD, self._reap)

    def _reap(self, *_: object) -> None:
        self._again = True
        if self._busy:  # another one ended meanwhile: who is at it looks once more
            return
        self._busy = True
        while self._again:
            self._again = False
            for pid in list(self.born):
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    told = {"instance": self.born.pop(pid), "status": os.waitstatus_to_exitcode(status)}
                    self._channel.sendall(wire.frame(wire.EXITED, 0, json.dumps(told).encode()))
        self._busy = False


def _leave_nest(channel: socket.socket, channel_fd: int, output: int, tmp: int) -> int:
    """First steps of a copy: its own connection, signals, output and namespaces. Its Landlock ruleset.

    The connection takes the place of the template's: a new socket object would write to fifteen pages."""
    os.dup2(channel_fd, channel.fileno(), False)
    os.close(channel_fd)
    forkhooks.arm()
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGCHLD,))
    _adopt_output(output)
    return sandbox.enter_from_template(tmp)


def born(channel: socket.socket, passed: list[int], app: App, task: dict[str, Any]) -> int:
    """Be an instance forked from a template, whose connection was `channel`: own namespaces, own /tmp, own randomness,
    sealed for good. A spare waits here until it is needed."""
    channel_fd, output, control_fd, tmp = passed
    ruleset = _leave_nest(channel, channel_fd, output, tmp)
    enrol(control_fd)
    syscalls.call("unshare", syscalls.NEWCGROUP)
    os.close(control_fd)
    limits = app.task.get("rlimits")
    if limits:
        sandbox.resource_limits({name: limits[name] for name in limits if name != "all_pids"})
        sandbox.small_buffers()
    sandbox.seal(ruleset)
    worker.after_fork()
    if task.get("spare"):
        try:
            receive_task(channel)
        except EOFError:
            return 0
    worker.restore()
    return worker.serve(channel, app, task)


def hatched(channel: socket.socket, passed: list[int], furnished: App) -> int:
    """Be a blank forked from a zygote of layers, then the function it is told to be, which may be a template."""
    channel_fd, output, control_fd, tmp, code = passed
    ruleset = _leave_nest(channel, channel_fd, output, tmp)
    syscalls.attach(code, sandbox.CODE)
    os.close(code)
    enrol(control_fd)
    syscalls.call("unshare", syscalls.NEWCGROUP)
    control = socket.socket(fileno=control_fd)
    try:
        task = receive_task(channel)
    except EOFError:
        return 0
    limits = task.get("rlimits", {})
    sandbox.resource_limits(limits)
    if limits:
        sandbox.small_buffers()
    sandbox.seal(ruleset, template=task["template"])
    worker.after_fork()
    worker.restore()
    if furnished.broken is not None:
        worker.report_failure(channel, furnished.broken)
        return 1
    if not task["template"]:
        control.close()
    return _become(channel, control, task)
