"""Memory and CPU of what does nothing: one idle instance, the idle platform."""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.measure import Row, Sample
from bench.stage import BARE_PYTHON, HELLO, Stage, cpu_s, memory_kib, own_processes
from tests.leaks import command_of
from tests.waiting import wait_until

INSTANCES = 8
_ROUNDS = 30


def idle_instance(stage: Stage) -> Sample:
    """Private memory of instances that have each served a request, by their records, and wait for the next."""
    platform = stage.platform
    platform.deploy("bench-hello", HELLO, min_instances=INSTANCES)
    records = f"{platform.api}/v1/namespaces/default/functions/bench-hello/invocations"

    def call(_: int) -> None:
        platform.invoke("bench-hello", {}).raise_for_status()

    def have_served() -> list[dict[str, Any]]:
        found = platform.http.get(records, params={"limit": 500}).raise_for_status().json()["items"]
        names = {record["instance"] for record in found}
        return [instance for instance in ready(stage) if instance["id"] in names]

    try:
        wait_until(lambda: len(ready(stage)) >= INSTANCES, "the instances to be ready", 30)
        with ThreadPoolExecutor(INSTANCES) as callers:
            for _ in range(_ROUNDS):  # calls at once meet different ones, not all
                list(callers.map(call, range(INSTANCES)))
                if len(served := have_served()) >= INSTANCES // 2:
                    break
        if not served:
            raise RuntimeError("no instance that lives has a record of a call")
        private = [memory_kib(found["pid"])["Private"] for found in served]
    finally:
        platform.remove("bench-hello")
    notes = {
        "starts": dict(Counter(found["start"] for found in served)),
        "served": len(served),
        "largest_kib": max(private),
    }
    return Sample(statistics.median(private), bare_interpreter_kib(), notes)


def ready(stage: Stage) -> list[dict[str, Any]]:
    """The row's instances that have started."""
    return [found for found in stage.instances("bench-hello") if found["pid"]]


def bare_interpreter_kib() -> float:
    """Private memory of an interpreter that waits for input."""
    command = [BARE_PYTHON, "-I", "-S", "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = memory_kib(process.pid)["Private"]
        process.communicate(b"\n")
    return float(found)


def idle_platform(stage: Stage) -> dict[str, float]:
    """Megabytes (10^6) resident and proportional, and per cent of a core, of all processes."""
    pids = own_processes(set())
    span_s = stage.seconds(10)
    before, began = cpu_s(pids), time.perf_counter()
    threading.Event().wait(span_s)
    used = (cpu_s(pids) - before) / (time.perf_counter() - began) * 100
    memory = [memory_kib(pid) for pid in pids if os.path.exists(f"/proc/{pid}/exe") and command_of(pid)]
    return {
        "rss_mb": sum(found["Rss"] for found in memory) * 1024 / 1e6,
        "pss_mb": sum(found["Pss"] for found in memory) * 1024 / 1e6,
        "cpu_percent": used,
        "processes": len(memory),
    }


def resident(stage: Stage) -> Sample:
    """Memory, shared pages counted once (the sum of Pss)."""
    found = idle_platform(stage)
    return Sample(found["pss_mb"], 0, found)


def busy(stage: Stage) -> Sample:
    """CPU."""
    found = idle_platform(stage)
    return Sample(found["cpu_percent"], 0, found)


ROWS = (
    Row(
        name="idle-memory", what="idle platform, memory of all processes", reference="-", unit="MB",
        budget=120.0, goal=50.0, better="lower", measure=resident, absolute=True,
    ),
    Row(
        name="idle-cpu", what="idle platform, CPU of all processes", reference="-", unit="% of a core",
        budget=1.0, goal=0.2, better="lower", measure=busy, absolute=True,
    ),
    Row(
        name="instance-memory", what="private memory of an idle hello instance",
        reference='python3 -I -S -c "input()"', unit="KiB", budget=0.5, goal=0.25, better="lower",
        measure=idle_instance,
    ),
)  # fmt: skip
