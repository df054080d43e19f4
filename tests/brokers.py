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
        command = self.command()
        with (self.folder / "out.log").open("ab") as out:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **self.env},
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        leaks.shared.add(self._process.pid)
        try:
            wait_until(self._up, f"{command[0]} to serve", self.timeout_s)
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
            below = leaks.descendants(self._process.pid)  # Erlang's helpers leave the group
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # a group of its own, which `start` made
            self._process.wait()
            for pid in below:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            wait_until(lambda: all(leaks.state_of(pid) in ("", "Z", "X") for pid in below), "its helpers to be gone")
            leaks.shared.discard(self._process.pid)
            self._process = None

    def end(self) -> None:
        """It is not started any more."""
        self.kill()

    @property
    def running(self) -> bool:
        """Whether it was started."""
        return self._process is not None

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


class NatsServer(Server):
    """With JetStream, in files."""

    def command(self) -> list[str]:
        return ["nats-server", "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.folder / "data")]

    def answers(self) -> bool:
        return self.said(b"").startswith(b"INFO")

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"


class Epmd(Server):
    """The port mapper that Erlang wants, one of our own: what is there already belongs to others."""

    def command(self) -> list[str]:
        return ["epmd", "-address", "127.0.0.1", "-port", str(self.port)]

    def answers(self) -> bool:
        self.connect().close()
        return True


class RabbitServer(Server):
    """Run by whoever runs the tests: no account, no service, nothing outside its folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._epmd = Epmd(folder / "epmd")
        self._other_port = free_port()
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nlog.console = false\nlog.file.level = error\n"
            "vm_memory_high_watermark.absolute = 256MB\ndisk_free_limit.absolute = 10MB\n"
        )
        (folder / "plugins").write_text("[].\n")

    def command(self) -> list[str]:
        return ["/usr/lib/rabbitmq/bin/rabbitmq-server"]

    @property
    def env(self) -> dict[str, str]:
        folder = str(self.folder)
        return {
            "HOME": folder, "ERL_EPMD_PORT": str(self._epmd.port), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"fuyun{self.port}@localhost", "RABBITMQ_DIST_PORT": str(self._other_port),
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia", "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf", "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_PID_FILE": f"{folder}/pid", "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        }  # fmt: skip

    @property
    def timeout_s(self) -> float:
        return 60.0

    def start(self) -> None:
        if not self._epmd.running:
            self._epmd.start()
        super().start()

    def end(self) -> None:
        super().end()
        self._epmd.end()

    def answers(self) -> bool:
        return self.said(b"AMQP\x00\x00\x09\x01")[:1] == b"\x01"

    @property
    def url(self) -> str:
        return f"amqp://127.0.0.1:{self.port}"


class MosquittoServer(Server):
    """Keeps what it holds when it is told to: by itself it does that twice an hour, and when it ends."""

    extra = ""

    def command(self) -> list[str]:
        (self.folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
            f"persistence_location {self.folder}/\nmax_inflight_messages 1000\nmax_queued_messages 0\n"
            f"user root\n{self.extra}"
        )
        return ["mosquitto", "-c", str(self.folder / "mosquitto.conf")]

    def save(self) -> None:
        """Have everything written to the disk, as what publishers were told is."""
        assert self._process is not None
        database = self.folder / "mosquitto.db"
        database.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGUSR1)
        wait_until(database.exists, "Mosquitto to write its database")

    def answers(self) -> bool:
        return self.said(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x0a\x00\x04test")[:1] == b"\x20"

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"


@contextmanager
def running(server: Any) -> Iterator[Any]:
    """`server`, started; its end is the block's."""
    server.start()
    try:
        yield server
    finally:
        server.end()
        shutil.rmtree(server.folder, ignore_errors=True)
