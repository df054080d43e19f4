"""Real brokers for tests: each a process on free ports of loopback, its data in a folder, killed by its pid."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests import leaks
from tests.waiting import wait_until


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Server:
    """A broker. `start` again after `kill` finds the data that was there."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """What is run."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it serves."""

    @property
    def env(self) -> dict[str, str]:
        """The environment it has beside PATH."""
        return {"HOME": str(self.folder)}

    @property
    def timeout_s(self) -> float:
        """How long its start may take."""
        return 20.0

    def start(self) -> None:
        """Run it; returns when it serves."""
        assert self._process is None
        with (self.folder / "out.log").open("ab") as out:
            self._process = subprocess.Popen(
                self.command(), cwd=self.folder, env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **self.env},
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        leaks.shared.add(self._process.pid)
        try:
            wait_until(self._up, f"{self.command()[0]} to serve", self.timeout_s)
        except TimeoutError as error:
            self.kill()
            raise AssertionError((self.folder / "out.log").read_text(errors="replace")[-4000:]) from error

    def _up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "out.log").read_text(errors="replace")[-4000:]
        with suppress(OSError):
            return self.answers()
        return False

    def kill(self) -> None:
        """SIGKILL, to all of it at once; returns when it is gone."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # a group of its own, which `start` made
            self._process.wait()
            leaks.shared.discard(self._process.pid)
            self._process = None

    def connect(self) -> socket.socket:
        """A connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=1.0)

    def said(self, question: bytes) -> bytes:
        """What it says to `question` first."""
        with self.connect() as found:
            if question:
                found.sendall(question)
            return found.recv(100)


class RedisServer(Server):
    """Every write is on the disk before it is answered."""

    password = ""
    extra: tuple[str, ...] = ()

    def command(self) -> list[str]:
        return [
            "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder),
            "--appendonly", "yes", "--appendfsync", "always", "--save", "", *self.extra,
        ]  # fmt: skip

    def answers(self) -> bool:
        return self.said(b"PING\r\n").startswith((b"+PONG", b"-NOAUTH"))

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


@contextmanager
def running(server: Any) -> Iterator[Any]:
    """`server`, started; its end is the block's."""
    server.start()
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(server.folder, ignore_errors=True)
