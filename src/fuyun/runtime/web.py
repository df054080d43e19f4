"""The runtime `web`: any program that serves HTTP on $PORT. Its keeper makes the connections; the platform speaks HTTP.

docs/contracts/runtime.md, section "Servers". Calls never come here as frames: the platform asks at the door.
"""

from __future__ import annotations

import array
import os
import re
import signal
import socket
import threading
from time import monotonic

from fuyun.runtime import porter
from fuyun.runtime.keeper import Keeper, keep
from fuyun.runtime.lambdaenv import image_command
from fuyun.runtime.problems import Hangup, LoadProblem
from fuyun.runtime.program import Program
from fuyun.runtime.streams import Bucket, spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from fuyun.runtime.calls import Call

SHELL = "/bin/sh"
#: What makes a command more than one program with arguments.
_COMPOUND = re.compile(r"[;&|<>(){}\n]|^\s*(?:exec|if|for|while|case|cd|export|set|trap|\w+=)\b|^\s*\w+=")
_PORT = 8080


class PerSecond(Bucket):
    """Log text of a server, whose lines belong to no request here: the limit holds for every second."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._since_s = monotonic()
        super().__init__(limit_bytes)

    @property
    def log_bytes(self) -> int:
        """What may still be logged."""
        now_s = monotonic()
        if now_s - self._since_s >= 1.0:
            self._since_s, self._left, self.log_cut = now_s, self._limit, False
        return self._left

    @log_bytes.setter
    def log_bytes(self, left: int) -> None:
        self._left = left


class Web(Keeper):
    """Starts the server, tells when it listens, hands out connections to it."""

    def __init__(self, sock: socket.socket, task: dict[str, Any], door: socket.socket) -> None:
        super().__init__(sock, task)
        self._door = door
        self._port = int(task["env"].get("PORT") or (_PORT if self.isolated else _free_port()))
        self._compound = False
        self._server: Optional[Program] = None
        self.app.mode = "web"

    def begin(self) -> None:
        """Start the server; readiness is looked at in a thread of its own."""
        spool.idle = PerSecond(int(self.task["log_bytes"]))
        argv, self._compound = command_line(self.task)
        self.household.watch()
        self._server = self.launch(argv, environment(self.task, self._port))
        threading.Thread(target=self._open, name="fuyun-door", daemon=True).start()

    def take(self, call: Call) -> None:
        """No platform sends one."""
        raise Hangup

    def stop(self) -> None:
        """SIGTERM to the server, and where a shell stands before it, to what the shell started, too."""
        if self._compound and self._server is not None and not self._server.ended.is_set():
            try:
                os.killpg(self._server.pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        super().stop()

    def _open(self) -> None:
        """Wait until the server is ready, then hand out connections until the platform closes the door."""
        readiness = self.task["readiness"]
        limit_s, path = float(readiness["timeout_s"]), str(readiness["path"])
        until_s = monotonic() + limit_s
        found = porter.wait_listening(self._port, path, lambda: monotonic() < until_s and not self.stopping)
        if found and not self.stopping:
            self.fail_start(
                LoadProblem(
                    "function_init_failed",
                    f"the program is not ready on port {self._port} after {limit_s:g} s: {found}; let it listen on "
                    "$PORT at 0.0.0.0 or 127.0.0.1, or raise `readiness.timeout`",
                )
            )
        self.household.output.drain()  # what it printed until now is no request's
        self.ready()
        porter.hand_out(self._door, self._port)


def command_line(task: dict[str, Any]) -> tuple[list[str], bool]:
    """What starts the server, and whether a shell stays before it. LoadProblem without a command and a bootstrap."""
    if task.get("java"):
        from fuyun.runtime import jvmline

        return jvmline.command_line(task, [task["handler"].partition("::")[0]]), False
    command = str(task["command"]).strip()
    if command:
        compound = _COMPOUND.search(command) is not None
        return [SHELL, "-c", command if compound else f"exec {command}"], compound
    if task.get("image"):
        return image_command(task), False
    path = os.path.join(task["code"], "bootstrap")
    if not os.path.exists(path):
        found = ", ".join(sorted(os.listdir(task["code"]))[:12]) or "nothing"
        raise LoadProblem(
            "handler_missing",
            f"there is no `command`, and no executable bootstrap in the code, which holds {found}; add one of them",
        )
    return [path], False


def environment(task: dict[str, Any], port: int) -> dict[str, str]:
    """The server's variables: the function's over a fixed base, and over those the platform's."""
    return {
        **(task["env"] if task.get("image") else _of_code(task)),
        "PORT": str(port),
        "FUYUN_NAMESPACE": task["namespace"],
        "FUYUN_FUNCTION": task["function"],
        "FUYUN_VERSION": task["version"],
        "FUYUN_INSTANCE": task["instance"],
        "FUYUN_MEMORY_BYTES": str(task["memory_bytes"]),
        "FUYUN_TIMEOUT_S": str(task["timeout_s"]),
        "FUYUN_CONCURRENCY": str(task["concurrency"]),
    }


def _of_code(task: dict[str, Any]) -> dict[str, str]:
    """The function's variables over those that lead to what code and layers bring."""
    layers = list(task["layers"])
    python = [os.path.join(each, "python") for each in layers]
    binaries = [os.path.join(folder, "bin") for each in layers for folder in (each, os.path.join(each, "python"))]
    binaries += [os.path.join(each, "node_modules/.bin") for each in (task["code"], *layers)]
    path = task["env"].get("PATH", "/usr/local/bin:/usr/bin:/bin")
    return {
        "PYTHONPATH": os.pathsep.join([task["code"], *python, *layers]),
        "PYTHONUNBUFFERED": "1",
        "NODE_PATH": os.pathsep.join(os.path.join(each, "node_modules") for each in layers),
        **task["env"],
        "PATH": os.pathsep.join([*binaries, path]),
    }


def _free_port() -> int:
    """For an instance without a network namespace of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _door(sock: socket.socket) -> socket.socket:
    """The descriptor that follows the task. EOFError when the platform is gone."""
    found = array.array("i")
    _, ancillary, _, _ = sock.recvmsg(1, socket.CMSG_SPACE(found.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data)
    if not found:
        raise EOFError("the platform is gone")
    return socket.socket(fileno=found[0])


def main(sock: socket.socket, task: dict[str, Any]) -> int:
    """Be an instance of `task` until the platform hangs up; the exit status."""
    try:
        door = _door(sock)
    except (EOFError, OSError):
        return 0
    return keep(Web(sock, task, door))
