"""Cold starts from HTTP to HTTP on a fresh connection, with no instance of the function alive."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections import Counter
from typing import Any

from bench.measure import Row, Sample
from bench.rows.warm import Files
from bench.stage import BARE_PYTHON, HELLO, STATE, Stage, fresh_call_ms, header, run_ms

_DATA = """
import numpy
import pandas


def handler(event, context):
    return {"mean": float(pandas.Series(numpy.arange(5)).mean())}
"""
_DATA_PACKAGES = ("numpy", "pandas")


def cold_calls(stage: Stage, names: list[str], reference: list[str], env: dict[str, str] | None) -> Sample:
    """Call each name once while none of its instances lives, with one run of the reference before each, and the reserve
    filled before both: they are starts from a blank."""
    ours: list[float] = []
    theirs: list[float] = []
    kinds: Counter[str] = Counter()
    time.sleep(
        1.0
    )  # what was just deployed is out of the way, and the reserve as full as it gets: that is what is read
    reserve = stage.blanks()
    for name in names:
        stage.wait_gone(name)
        stage.wait_blanks(reserve)
        theirs.append(run_ms(reference, env))
        took, answer = fresh_call_ms(stage.gateway, stage.request(name))
        ours.append(took)
        kinds[header(answer, "fuyun-start")] += 1
    if kinds["warm"]:
        raise RuntimeError(f"{kinds['warm']} calls met a warm instance: these are no cold starts")
    notes = {"starts": dict(kinds), "slowest_ms": max(ours), "quickest_ms": min(ours), "calls": len(names)}
    return Sample(statistics.median(ours), statistics.median(theirs), notes)


def first_calls(stage: Stage, name: str, files: Files, count: int, reference: list[str], **spec: Any) -> Sample:
    """`count` functions, `name` with a number, each called for the first time since its instances were retired."""
    names = [f"{name}-{number}" for number in range(stage.times(count))]
    for one in names:
        stage.platform.deploy(one, files, idle_timeout_s=1.0, **spec)
    try:
        return cold_calls(stage, names, reference, None)
    finally:
        for one in names:
            stage.platform.remove(one)


def stdlib(stage: Stage) -> Sample:
    """Handlers that import nothing."""
    return first_calls(stage, "bench-cold", HELLO, 40, [BARE_PYTHON, "-I", "-S", "-c", "pass"])


def data_packages() -> str:
    """A folder with numpy and pandas for the reference, installed once."""
    target = STATE / f"data-{sys.version_info.major}.{sys.version_info.minor}"
    if not (target / "pandas").exists():
        target.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "install", "-q", "--progress-bar=off", "--target", str(target)]
        subprocess.run([*command, *_DATA_PACKAGES], check=True)
        subprocess.run([BARE_PYTHON, "-m", "compileall", "-q", str(target)], check=False)
    return str(target)


def data(stage: Stage) -> Sample:
    """One function with a template, called each time its last instance was retired."""
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": data_packages()}
    stage.platform.deploy(
        "bench-data", _DATA, requirements="\n".join(_DATA_PACKAGES), idle_timeout_s=1.0, memory_bytes=512 * 2**20
    )
    try:
        names = ["bench-data"] * stage.times(12)
        return cold_calls(stage, names, [BARE_PYTHON, "-c", "import numpy, pandas"], env)
    finally:
        stage.platform.remove("bench-data")


ROWS = (
    Row(
        name="cold-stdlib", what="cold start p50, HTTP to HTTP, handler on the standard library",
        reference="python3 -I -S -c pass", unit="ms", budget=1.0, goal=0.5, better="lower", measure=stdlib,
    ),
    Row(
        name="cold-data", what="cold start p50, handler that imports numpy and pandas, from its template",
        reference='python3 -c "import numpy, pandas"', unit="ms", budget=0.05, goal=0.02, better="lower", measure=data,
    ),
)  # fmt: skip
