"""Node functions: cold starts from a blank that has Node waiting, and warm throughput."""

from __future__ import annotations

import os
import shutil
from typing import Any

from bench.measure import Row, Sample
from bench.rows.cold import first_calls
from bench.rows.warm import throughput
from bench.stage import Stage

_HELLO = {"index.js": "exports.handler = async () => ({ hello: 'world' });"}
_SPEC: dict[str, Any] = {"runtime": "nodejs", "handler": "index.handler"}


def _node() -> str:
    found = shutil.which("node")
    if found is None:
        raise RuntimeError("Node.js is not installed; apt install nodejs")
    return os.path.realpath(found)


def cold(stage: Stage) -> Sample:
    """From a blank in which Node waits."""
    return first_calls(stage, "bench-node", _HELLO, 20, [_node(), "-e", "0"], **_SPEC)


def warm(stage: Stage) -> Sample:
    """Sixteen calls at once in each instance."""
    return throughput(stage, 16, "bench-node", _HELLO, concurrency=16, **_SPEC)


ROWS = (
    Row(
        name="cold-nodejs", what="cold start p50, HTTP to HTTP, Node handler from a blank",
        reference="node -e 0", unit="ms", budget=0.3, goal=0.15, better="lower", measure=cold,
    ),
    Row(
        name="throughput-nodejs", what="warm throughput, hello JSON by Node, 16 connections",
        reference="bare uvloop + httptools server", unit="requests/s", budget=0.1, goal=0.25, better="higher",
        measure=warm,
    ),
)  # fmt: skip
