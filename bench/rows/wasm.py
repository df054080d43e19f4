"""WebAssembly: what one call costs inside its instance and from HTTP to HTTP, and a cold start."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from bench.measure import Row, Sample
from bench.rows.cold import first_calls
from bench.rows.warm import latency
from bench.stage import BARE_PYTHON, Stage
from tests.runtime.driver import Worker, worker
from tests.runtime.modules import ECHO, compiled

_PYTHON = "def handler(event, context):\n    return event['body']\n"


def _run_ms(w: Worker, times: int) -> float:
    """Median of what the worker itself says a call took, from reading it to having its answer."""
    took = [w.http("/", b'{"hello": "world"}', method="POST").usage[0] / 1000 for _ in range(times)]
    return statistics.median(took[times // 10 :])


def call(stage: Stage) -> Sample:
    """Instantiate, call, drop: a worker with a module and, in turns, one with a Python handler that does the same."""
    times = stage.times(2000)
    with tempfile.TemporaryDirectory() as folder:
        modules, handlers = Path(folder, "wasm"), Path(folder, "python")
        modules.mkdir()
        handlers.mkdir()
        with worker(modules, "", **compiled(modules, ECHO)) as ours, worker(handlers, _PYTHON) as theirs:
            pairs = [(_run_ms(ours, times), _run_ms(theirs, times)) for _ in range(3)]
    notes = {"python_handler_ms": statistics.median(pair[1] for pair in pairs)}
    return Sample(statistics.median(pair[0] for pair in pairs), 0.0, notes)


def cold(stage: Stage) -> Sample:
    """Loading the engine and the compiled module."""
    reference = [BARE_PYTHON, "-I", "-S", "-c", "pass"]
    return first_calls(stage, "bench-wasm", {"app.wat": ECHO}, 20, reference, runtime="wasm", handler="app.wat")


def warm(stage: Stage) -> Sample:
    """One client in a closed loop."""
    return latency(stage, "bench-wasm", {"app.wat": ECHO}, 1000, runtime="wasm", handler="app.wat")


ROWS = (
    Row(
        name="wasm-call", what="WebAssembly: instantiate, call and drop, as the instance measures it",
        reference="none", unit="ms", budget=0.2, goal=0.1, better="lower", measure=call,
        absolute=True,
    ),
    Row(
        name="wasm-cold", what="cold start p50, HTTP to HTTP, a WebAssembly module",
        reference="python3 -I -S -c pass", unit="ms", budget=1.5, goal=1.0, better="lower", measure=cold,
    ),
    Row(
        name="latency-wasm", what="warm latency p50, one client, a WebAssembly module",
        reference="bare uvloop+httptools hello server", unit="µs", budget=6.0, goal=3.0, better="lower", measure=warm,
    ),
)  # fmt: skip
