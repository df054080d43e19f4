"""The platform under measurement, and the references beside it."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.leaks import descendants
from tests.running import Platform
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".state/bench"
#: The interpreter behind the virtual environment: no .pth files, no site hooks.
BARE_PYTHON = os.path.realpath(getattr(sys, "_base_executable", sys.executable))

HELLO = "def handler(event, context):\n    return {'hello': 'world'}\n"


@dataclass(slots=True)
class Stage:
    """A platform started for the benchmark. `quick` shortens every row: for trying the harness out, not for figures."""

    platform: Platform
    quick: bool

    def seconds(self, normal: float) -> float:
        """Length of a load."""
        return 1.0 if self.quick else normal

    def times(self, normal: int) -> int:
        """Number of single measurements in one repetition."""
        return max(3, normal // 10) if self.quick else normal

    @property
    def gateway(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.platform.gateway.removeprefix("http://").rpartition(":")
        return host, int(port)

    def request(self, function: str, body: bytes = b"") -> bytes:
        """A request to `function` at the gateway, as bytes."""
        lines = [
            f"{'POST' if body else 'GET'} /fn/default/{function} HTTP/1.1",
            f"host: {self.gateway[0]}",
            f"authorization: Bearer {self.platform.key}",
            *([f"content-length: {len(body)}", "content-type: application/json"] if body else []),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def instances(self, function: str) -> list[dict[str, Any]]:
        """Living instances of `function`, from `GET /v1/status`."""
        return self.platform.instances_of(function)

    def blanks(self) -> int:
        """Blanks in reserve now."""
        return sum(int(one["blanks"]) for one in self.platform.host()["zygotes"])

    def wait_blanks(self, count: int, timeout_s: float = 10.0) -> None:
        """Wait until so many are in reserve: making one takes a processor, from a call and from the reference alike."""
        until_s = time.monotonic() + timeout_s
        while self.blanks() < count and time.monotonic() < until_s:
            time.sleep(0.03)  # the platform tells nobody that a blank is made; more often, asking would be load

    def wait_gone(self, function: str, timeout_s: float = 30.0) -> None:
        """Wait until no instance of `function` is alive: the next call is a cold start."""
        wait_until(lambda: not self.instances(function), f"{function} to scale to zero", timeout_s, every_s=0.1)


def fresh_call_ms(address: tuple[str, int], request: bytes) -> tuple[float, bytes]:
    """Connect, ask, read the whole answer; milliseconds from the first to the last, and the answer."""
    began = time.perf_counter_ns()
    with socket.create_connection(address, timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request)
        answer = read_answer(connection)
    return (time.perf_counter_ns() - began) / 1e6, answer


def read_answer(connection: socket.socket) -> bytes:
    """One answer with a content-length; ValueError when its status is not 200."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += receive(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise ValueError(f"not a good answer: {data[:600]!r}")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].split(b":")[1])
    while len(body) < length:
        body += receive(connection)
    return head + b"\r\n\r\n" + body


def receive(connection: socket.socket) -> bytes:
    """Some bytes; ConnectionError at the end."""
    if chunk := connection.recv(65536):
        return chunk
    raise ConnectionError("the connection was closed in the middle of an answer")


def header(answer: bytes, name: str) -> str:
    """The value of a header of a raw answer."""
    for line in answer.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        if line.lower().startswith(name.encode() + b":"):
            return line.split(b":", 1)[1].strip().decode()
    return ""


def run_ms(command: list[str], env: dict[str, str] | None = None) -> float:
    """Milliseconds to start a program and wait for its end, by posix_spawn: the least a parent can pay."""
    began = time.perf_counter_ns()
    pid = os.posix_spawn(command[0], command, env if env is not None else {"PATH": "/usr/bin:/bin"})
    _, status = os.waitpid(pid, 0)
    took = (time.perf_counter_ns() - began) / 1e6
    if status:
        raise RuntimeError(f"{command} ended with {os.waitstatus_to_exitcode(status)}")
    return took


def median_of(times: int, measure: Callable[[], float]) -> float:
    """The middle of `times` measurements."""
    return statistics.median(measure() for _ in range(times))


@contextmanager
def reference_server() -> Iterator[tuple[str, int]]:
    """The bare uvloop + httptools hello server as a process; yields its address."""
    command = [sys.executable, "-m", "bench.reference"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdout is not None
        yield "127.0.0.1", int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def memory_kib(pid: int) -> dict[str, int]:
    """Rss, Pss and Private (clean + dirty) of a process in KiB."""
    found = {"Rss": 0, "Pss": 0, "Private": 0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        if name in ("Rss", "Pss"):
            found[name] = int(value.split()[0])
        elif name in ("Private_Clean", "Private_Dirty"):
            found["Private"] += int(value.split()[0])
    return found


def own_processes(before: set[int]) -> list[int]:
    """Processes below this one (orphans come to it, it is their reaper) that were not there `before`."""
    return [pid for pid in descendants(os.getpid()) if pid not in before]


def cpu_s(pids: Sequence[int]) -> float:
    """CPU seconds the processes used so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
