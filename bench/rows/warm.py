"""Warm calls: throughput by wrk at 16 and 64 connections, latency of one client in a closed loop."""

from __future__ import annotations

import re
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from bench.measure import Row, Sample
from bench.stage import HELLO, Stage, read_answer, reference_server

Files = str | Mapping[str, str | bytes]
_HELLO_REQUEST = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


def wrk(url: str, connections: int, seconds: float, headers: tuple[str, ...] = ()) -> float:
    """Requests per second by wrk, one thread; RuntimeError when any answer was not 2xx or a connection failed."""
    tool = shutil.which("wrk")
    if tool is None:
        raise RuntimeError("wrk is not installed; `make tools` installs it")
    command = [tool, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
    for line in headers:
        command += ["-H", line]
    out = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise RuntimeError(f"wrk saw failures:\n{out}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", out)
    if found is None:
        raise RuntimeError(f"wrk said nothing of use:\n{out}")
    return float(found[1])


def throughput(stage: Stage, connections: int, name: str = "bench-hello", files: Files = HELLO, **spec: Any) -> Sample:
    """A function through the gateway and the reference in turns of a second, both warmed up first: what the host takes
    from this machine changes from one second to the next, and many short turns meet the same of it."""
    platform, turns = stage.platform, stage.times(9)
    platform.deploy(name, files, **spec)
    key = f"authorization: Bearer {platform.key}"
    url = platform.url(name)
    ours: list[float] = []
    reference: list[float] = []
    try:
        with reference_server() as (host, port):
            wrk(url, connections, 2, (key,))
            wrk(f"http://{host}:{port}/", connections, 1)
            for _ in range(turns):
                ours.append(wrk(url, connections, 1, (key,)))
                reference.append(wrk(f"http://{host}:{port}/", connections, 1))
        instances = len(stage.instances(name))
    finally:
        platform.remove(name)
    return Sample(statistics.median(ours), statistics.median(reference), {"instances": instances})


def closed_loop_us(address: tuple[str, int], request: bytes, times: int) -> float:
    """Median microseconds of one request on a kept connection, one at a time."""
    took: list[float] = []
    with socket.create_connection(address, timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(times):
            began = time.perf_counter_ns()
            connection.sendall(request)
            read_answer(connection)
            took.append((time.perf_counter_ns() - began) / 1000)
    return statistics.median(took[times // 10 :])


def latency(
    stage: Stage,
    name: str = "bench-hello",
    files: Files = HELLO,
    times: int = 3000,
    straight: Callable[[], AbstractContextManager[tuple[str, int]]] = reference_server,
    **spec: Any,
) -> Sample:
    """One client, `times` calls; ours and the server that `straight` starts in turns, seconds apart, because an idle
    core wakes slowly."""
    platform, times = stage.platform, stage.times(times)
    platform.deploy(name, files, **spec)
    ours: list[float] = []
    reference: list[float] = []
    try:
        with straight() as address:
            for _ in range(3):
                ours.append(closed_loop_us(stage.gateway, stage.request(name), times))
                reference.append(closed_loop_us(address, _HELLO_REQUEST, times))
    finally:
        platform.remove(name)
    return Sample(statistics.median(ours), statistics.median(reference), {"calls": 3 * times})


ROWS = (
    Row(
        name="throughput-16", what="warm throughput, hello JSON, 16 connections",
        reference="bare uvloop + httptools server", unit="requests/s", budget=0.25, goal=0.5, better="higher",
        measure=lambda stage: throughput(stage, 16),
    ),
    Row(
        name="throughput-64", what="warm throughput, hello JSON, 64 connections",
        reference="bare uvloop + httptools server", unit="requests/s", budget=0.25, goal=0.5, better="higher",
        measure=lambda stage: throughput(stage, 64),
    ),
    Row(
        name="latency", what="warm latency p50, one client, closed loop",
        reference="bare uvloop + httptools server", unit="µs", budget=4.0, goal=2.0, better="lower", measure=latency,
    ),
)  # fmt: skip
