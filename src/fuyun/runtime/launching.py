"""Starts a program from the warden: a zygote or a build, in a root and a user namespace of its own."""

from __future__ import annotations

import os
import resource
import signal
import socket

from fuyun.runtime import descriptors, sandbox, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fuyun.runtime import cgroups

#: Building a root takes milliseconds.
_BUILD_S = 10.0
#: Open files and sockets a program may have unless it asks for more: what select(2) can hold.
_DESCRIPTORS = 1024
#: And where it raises that limit itself: at most so many, and half of what the platform may have. Descriptors under way
#: over Unix sockets are counted by user, against the limit of whoever sends (Linux `net/core/scm.c`): without root, an
#: instance allowed as many as the platform could keep it from passing any.
_MOST_DESCRIPTORS = 16384
#: What a zygote's interpreter is given to run: its path, its options. Hooks are collected before any other import.
ZYGOTE = (
    "import sys;sys.path.insert(0,%r);from fuyun.runtime import forkhooks;forkhooks.collect();"
    "from fuyun.runtime.zygote import main;sys.exit(main(3,%r))"
)


def launch(
    message: dict[str, Any],
    argv: list[str],
    kept: dict[int, int],
    ids: tuple[int, int],
    group: cgroups.Group | None = None,
) -> int:
    """Start a program in a root of its own; returns its pid once its ids are mapped. OSError says why not.

    message: `plan` (None: no isolation), `op`, `env` and `cwd`. kept: its descriptor -> ours. ids: the first id of the
    host its user namespace gets and how many.
    """
    plan = message["plan"]
    if plan is None:
        return _exec_plain(argv, message["env"], kept)
    ours, theirs = socket.socketpair()
    flags = syscalls.NEWNS | (syscalls.NEWPID if message["op"] == "run" else 0)
    pid = syscalls.clone(flags)
    if pid == 0:
        _launched(plan, argv, message, kept, theirs)
    theirs.close()
    ours.settimeout(_BUILD_S)  # a folder of the host that does not answer may not hold the warden up
    try:
        problem = ours.recv(4096)
        if problem != b"u":
            raise OSError(0, problem.decode(errors="replace") or "the sandbox could not be built")
        base, count = ids
        sandbox.write_maps(pid, 0, (base, base), count)
        if group is not None:
            group.attach(pid)
        ours.send(b"m")
    except OSError:
        kill_pid(pid)
        raise
    finally:
        ours.close()
    return pid


def kill_pid(pid: int) -> None:
    """SIGKILL; nothing when it is gone."""
    signal_pid(pid, signal.SIGKILL)


def signal_pid(pid: int, number: int) -> None:
    """Signal a process; nothing when it is gone."""
    try:
        os.kill(pid, number)
    except OSError:
        pass


def _launched(
    plan: dict[str, Any], argv: list[str], message: dict[str, Any], kept: dict[int, int], gate: socket.socket
) -> None:
    """In the child of `launch`: build the root, leave the host, become the program. Never returns."""
    told = False
    held: dict[int, int] = {}
    try:
        held = dict(zip(kept, descriptors.aside(kept.values())))
        sandbox.build_root(plan)
        sandbox.leave_host(plan["network"])
        gate.send(b"u")
        if gate.recv(1) != b"m":
            os._exit(70)
        told = True
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        if not plan["network"]:
            sandbox.loopback_up()
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        if message["op"] == "run":
            sandbox.seal_program()
        _exec(argv, message["env"], held, message.get("cwd", "/"))
    except BaseException as error:
        text = f"{type(error).__name__}: {error}".encode()[:4000]
        if told:
            _complain(held.get(2, 2), text + b"\n")
        else:
            gate.send(text)
    finally:
        os._exit(70)


def _complain(descriptor: int, text: bytes) -> None:
    """Say why the program did not start; its standard error is where it was put, or still aside."""
    try:
        os.write(descriptor, text)
    except OSError:
        os.write(2, text)


def _exec(argv: list[str], env: dict[str, str], kept: dict[int, int], cwd: str) -> None:
    empty = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        if descriptor not in kept:
            os.dup2(empty, descriptor)
    for target, source in kept.items():
        os.dup2(source, target)
    os.closerange(max([3, *[target + 1 for target in kept]]), 4096)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    found = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    hard = _MOST_DESCRIPTORS if found < 0 else min(_MOST_DESCRIPTORS, found // 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_DESCRIPTORS, hard), hard))
    os.chdir(cwd)
    os.execve(argv[0], argv, env)


def _exec_plain(argv: list[str], env: dict[str, str], kept: dict[int, int]) -> int:
    """Without any isolation (class `process`)."""
    pid = syscalls.clone(0)
    if pid == 0:
        try:
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            _exec(argv, env, kept, "/")
        finally:
            os._exit(70)
    return pid
