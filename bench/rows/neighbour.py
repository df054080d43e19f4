"""What a flood of one namespace leaves of another's calls."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess

from bench.measure import Row, Sample
from bench.rows.warm import closed_loop_us
from bench.stage import HELLO, Stage

CONNECTIONS = 64
_NOISY = "bench-noisy"


def lone_caller(stage: Stage) -> Sample:
    """Calls per second of one client in a closed loop, beside 64 connections that flood another namespace and alone."""
    platform, times, seconds = stage.platform, stage.times(1000), round(stage.seconds(3))
    tool = shutil.which("wrk")
    if tool is None:
        raise RuntimeError("wrk is not installed; `make tools` installs it")
    spaces = f"{platform.api}/v1/namespaces"
    platform.deploy("bench-lone", HELLO)
    platform.http.post(spaces, json={"name": _NOISY}).raise_for_status()
    platform.deploy("bench-flood", HELLO, namespace=_NOISY)
    key, url = f"authorization: Bearer {platform.key}", platform.url("bench-flood", _NOISY)
    request = stage.request("bench-lone")
    beside: list[float] = []
    alone: list[float] = []
    flooded: list[float] = []
    try:
        for _ in range(3):
            alone.append(1e6 / closed_loop_us(stage.gateway, request, times))
            # The flood lasts longer than what is measured beside it: wrk is ended, and says then what it has seen.
            command = [tool, "-t1", f"-c{CONNECTIONS}", "-d60s", "-H", key, url]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as flood:
                closed_loop_us(stage.gateway, request, 50 * seconds)  # until the flood is under way
                beside.append(1e6 / closed_loop_us(stage.gateway, request, times))
                flood.send_signal(2)
                found = re.search(r"Requests/sec:\s+([\d.]+)", flood.communicate()[0])
            flooded.append(float(found[1]) if found else 0.0)
        if not min(flooded):
            raise RuntimeError("wrk did not flood")
    finally:
        platform.remove("bench-flood", _NOISY)
        platform.http.delete(f"{spaces}/{_NOISY}").raise_for_status()
        platform.remove("bench-lone")
    return Sample(
        statistics.median(beside), statistics.median(alone), {"flood requests/s": round(statistics.median(flooded))}
    )


ROWS = (
    Row(
        name="neighbour", what="calls of one client, one at a time, while 64 connections flood another namespace",
        reference="the same client alone", unit="calls/s", budget=0.2, goal=0.5, better="higher",
        measure=lone_caller,
    ),
)  # fmt: skip
