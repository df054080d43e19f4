"""A PostgreSQL of a test's own: a cluster in a folder, by an account without rights, on a free port of the loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests import leaks
from tests.waiting import wait_until

_PASSWORD = "p@ss word"


def programs() -> Path:
    """The folder of PostgreSQL's own programs, which Debian keeps out of the way."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    assert newest, "there is no PostgreSQL; `bash scripts/programs.sh` installs it"
    return newest[-1].parent


class Server:
    """One that runs. `kill` and `start` are for tests that want it to die."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        # The server refuses to run as root; sandboxes have no such account either.
        self._account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None

    def address(self, user: str = "postgres", database: str = "postgres") -> str:
        """As a secret holds it."""
        return f"postgresql://{user}:p%40ss%20word@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def _ids(self) -> dict[str, Any]:
        account = self._account
        return {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}

    def make(self) -> None:
        """Make the cluster."""
        password = self.folder / "password"
        password.write_text(_PASSWORD)
        if self._account is not None:
            for path in (self.folder, password):
                os.chown(path, self._account.pw_uid, self._account.pw_gid)
        command = [
            programs() / "initdb", "-D", self.data, "-U", "postgres", "--auth=scram-sha-256", "-E", "UTF8",
            "--locale=C", "--no-sync", f"--pwfile={password}",
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=self.folder, env={"TZ": "UTC"}, capture_output=True, text=True, **self._ids()
        )
        assert done.returncode == 0, done.stderr
        lines = (
            "wal_level = logical", "listen_addresses = '127.0.0.1'", "unix_socket_directories = ''",
            "shared_buffers = 16MB", "max_wal_senders = 4", "max_replication_slots = 12", "jit = off",
            "max_connections = 30", "autovacuum = off", "wal_sender_timeout = 2s",
        )  # fmt: skip
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")

    def start(self, **settings: str) -> None:
        """Let it run, on the port that it had."""
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        command = [str(programs() / "postgres"), "-D", str(self.data), "-p", str(self.port)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env={"TZ": "UTC"}, stdout=log, stderr=log, process_group=0, **self._ids()
            )
        ready = [programs() / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        wait_until(lambda: subprocess.run(ready).returncode == 0, "PostgreSQL to be ready", 30)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it; by SIGKILL, with every process of it, as a machine that fails does."""
        process, self._process = self._process, None
        if process is None:
            return
        below = leaks.descendants(process.pid)
        if number is signal.SIGKILL:
            for pid in (process.pid, *below):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        else:
            process.send_signal(number)
        process.wait(30)
        for pid in below:  # whose parent it was; they are ours now
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)

    def kill(self) -> None:
        """SIGKILL to all of it."""
        self.stop(signal.SIGKILL)

    def log_tail(self) -> str:
        """What it said last."""
        return (self.folder / "log").read_text(errors="replace")[-4000:]


@contextmanager
def running() -> Iterator[Server]:
    """A server; it and its folder are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="fuyun-postgres-", dir="/tmp"))
    server = Server(folder)
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
