"""Node functions: cold starts from a blank that has Node waiting, and warm throughput."""

from __future__ import annotations

import os
import shutil
import statistics
from typing import Any

from bench.measure import Row, Sample
from bench.rows.cold import cold_calls
from bench.rows.warm import wrk
from bench.stage import Stage, reference_server

_HELLO = {"index.js": "exports.handler = async () => ({ hello: 'world' });"}
_SPEC: dict[str, Any] = {"runtime": "nodejs", "handler": "index.handler"}


def _node() -> str:
    found = shutil.which("node")
    if found is None:
        raise RuntimeError("Node.js is not installed; apt install nodejs")
    return os.path.realpath(found)


def cold(stage: Stage) -> Sample:
    """Functions called for the first time since their instances were retired, one after the other."""
    names = [f"bench-node-{number}" for number in range(stage.times(20))]
    for name in names:
        stage.platform.deploy(name, _HELLO, idle_timeout_s=1.0, **_SPEC)
    try:
        return cold_calls(stage, names, [_node(), "-e", "0"], None)
    finally:
        for name in names:
            stage.platform.remove(name)


def throughput(stage: Stage) -> Sample:
    """Hello through the gateway and the reference in turns."""
    platform, seconds = stage.platform, stage.seconds(3)
    platform.deploy("bench-node", _HELLO, concurrency=16, **_SPEC)
    key = f"authorization: Bearer {platform.key}"
    ours: list[float] = []
    reference: list[float] = []
    with reference_server() as (host, port):
        wrk(platform.url("bench-node"), 16, 2, (key,))
        for _ in range(3):
            ours.append(wrk(platform.url("bench-node"), 16, seconds, (key,)))
            reference.append(wrk(f"http://{host}:{port}/", 16, seconds))
    instances = len(stage.instances("bench-node"))
    platform.remove("bench-node")
    return Sample(statistics.median(ours), statistics.median(reference), {"instances": instances})


ROWS = (
    Row(
        name="cold-nodejs", what="cold start p50, HTTP to HTTP, Node handler from a blank",
        reference="node -e 0", unit="ms", budget=0.3, goal=0.15, better="lower", measure=cold,
    ),
    Row(
        name="throughput-nodejs", what="warm throughput, hello JSON by Node, 16 connections",
        reference="bare uvloop + httptools server", unit="requests/s", budget=0.1, goal=0.25, better="higher",
        measure=throughput,
    ),
)  # fmt: skip
