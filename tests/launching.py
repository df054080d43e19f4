"""Processes of Fuyun's command line, forked from one that has it imported: to import it takes a second of processor,
half of what starting a platform costs. `tests/cli/test_up.py`, the demo and others start it as a user does."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TextIO

_REPOSITORY = Path(__file__).resolve().parents[1]
_PROGRAM = (Path(__file__).parent / "launcher.py").read_text(encoding="utf-8")


class Process:
    """A forked process: as much of `subprocess.Popen` as tests use."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin: TextIO | None = None
        self.stdout: TextIO | None = None

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        """Ended and forgotten."""
        self.kill()
        self.wait()
        for file in (self.stdin, self.stdout):
            if file is not None:
                file.close()

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. `subprocess.TimeoutExpired` when it runs on for `timeout` seconds."""
        if self.poll() is None:
            descriptor = os.pidfd_open(self.pid)
            try:
                poller = select.poll()
                poller.register(descriptor, select.POLLIN)
                until_s = None if timeout is None else time.monotonic() + timeout
                while self.poll() is None:
                    left_s = None if until_s is None else until_s - time.monotonic()
                    if left_s is not None and left_s <= 0:
                        raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
                    poller.poll(None if left_s is None else left_s * 1000)
            finally:
                os.close(descriptor)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """A signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Launcher:
    """One per interpreter and account, started when it is first used."""

    def __init__(self, python: str, env: Mapping[str, str], ids: Mapping[str, Any]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [python, "-c", _PROGRAM, str(theirs.fileno())],
                env=dict(env), cwd="/", stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], **ids,
            )  # fmt: skip
        self._socket = ours
        self.pid = self._process.pid
        self.descriptor = ours.fileno()

    def start(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, files: Sequence[int], *,
        session: bool = False, module: str = "",
    ) -> Process:  # fmt: skip
        """Run the command line, or another module, with `argv`; `files` are its standard descriptors."""
        asked = {"module": module, "argv": list(argv), "env": dict(env), "cwd": str(cwd), "session": session}
        socket.send_fds(self._socket, [json.dumps(asked).encode()], list(files))
        told = self._socket.recv(64)
        if not told:
            raise RuntimeError("the launcher of the tests' platforms has ended; it says above why")
        return Process(int(told))

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._process.wait(10)


_launchers: dict[tuple[str, tuple[tuple[str, str], ...], str], Launcher] = {}


def launcher(python: str, env: Mapping[str, str], ids: Mapping[str, Any]) -> Launcher:
    """The launcher of an interpreter with an environment and an account."""
    key = (python, tuple(sorted(env.items())), str(ids))
    if key not in _launchers:
        _launchers[key] = Launcher(python, env, ids)
    return _launchers[key]


def run(
    one: Launcher, argv: Sequence[str], env: Mapping[str, str], cwd: Path, stdin: bytes, timeout_s: float
) -> subprocess.CompletedProcess[bytes]:
    """As `subprocess.run(..., capture_output=True)`."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        process = one.start(argv, env, cwd, [given.fileno(), out.fileno(), err.fileno()])
        try:
            process.wait(timeout_s)
        except BaseException:
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            raise
        return subprocess.CompletedProcess(list(argv), process.wait(), _content(out), _content(err))


def begin(module: str, *argv: str, **env: str) -> Process:
    """As `subprocess.Popen([python, "-m", module, ...], text=True)` in the repository, with pipes to its standard input
    and output; `env` is added to the tests' own."""
    tree = os.environ.get("PYTHONPATH")
    one = launcher(sys.executable, {"PATH": os.environ["PATH"], **({"PYTHONPATH": tree} if tree else {})}, {})
    given, stdin = os.pipe()
    stdout, said = os.pipe()
    try:
        process = one.start(argv, {**os.environ, **env}, _REPOSITORY, [given, said, 2], module=module)
    finally:
        os.close(given)
        os.close(said)
    process.stdin, process.stdout = os.fdopen(stdin, "w"), os.fdopen(stdout)
    return process


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def pids() -> set[int]:
    """Of the launchers, which stay for the session."""
    return {one.pid for one in _launchers.values()}


def descriptors() -> set[int]:
    """Of the launchers."""
    return {one.descriptor for one in _launchers.values()}


def close() -> None:
    """End all."""
    while _launchers:
        _launchers.popitem()[1].close()


__all__ = ["Launcher", "Process", "begin", "close", "descriptors", "launcher", "pids", "run"]
