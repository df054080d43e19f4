"""From no instance to a hundred at once."""

from __future__ import annotations

import asyncio
import json
import os
import time

from bench.measure import Row, Sample
from bench.stage import BARE_PYTHON, Stage

INSTANCES = 100
#: Every call holds its instance this long, so that no instance serves two of the burst; it is taken off the figure.
HOLD_S = 2.0

#: The function: names the process it runs in, and keeps it for the length of the burst. Its sleep is the load,
#: and is taken off the figure.
_HOLD = f"""
import secrets
import time

me = ""


def handler(event, context):
    global me
    me = me or secrets.token_hex(8)
    time.sleep({HOLD_S})  # the load itself: no instance may serve two of the burst
    return {{"instance": me}}
"""


async def ask(address: tuple[str, int], request: bytes) -> str:
    """One call on a connection of its own; the instance's name for itself."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(f"not a good answer: {head!r} {await reader.read(500)!r}")
        length = next(
            int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        )
        return str(json.loads(await reader.readexactly(length))["instance"])
    finally:
        writer.close()
        await writer.wait_closed()


async def ask_all(address: tuple[str, int], request: bytes) -> tuple[float, set[str]]:
    """Everyone at once; seconds until the last answer, and the instances that answered."""
    began = time.perf_counter()
    names = await asyncio.gather(*(ask(address, request) for _ in range(INSTANCES)))
    return time.perf_counter() - began, set(names)


def bare_starts_s() -> float:
    """A hundred bare interpreters, two at a time."""
    command = [BARE_PYTHON, "-I", "-S", "-c", "pass"]
    began = time.perf_counter()
    running: set[int] = set()
    for _ in range(INSTANCES):
        while len(running) == 2:
            running.discard(os.wait()[0])
        running.add(os.posix_spawn(command[0], command, {"PATH": "/usr/bin:/bin"}))
    while running:
        running.discard(os.wait()[0])
    return time.perf_counter() - began


def burst(stage: Stage) -> Sample:
    """The time until all have answered, without the time they were asked to hold on."""
    platform = stage.platform
    platform.deploy("bench-burst", _HOLD, idle_timeout_s=1.0, memory_bytes=64 * 2**20, timeout_s=60.0)
    try:
        stage.wait_gone("bench-burst")
        took_s, instances = asyncio.run(ask_all(stage.gateway, stage.request("bench-burst")))
        stage.wait_gone("bench-burst", 60)
    finally:
        platform.remove("bench-burst")
    return Sample(took_s - HOLD_S, bare_starts_s(), {"instances": len(instances)})


ROWS = (
    Row(
        name="burst", what=f"burst 0 to {INSTANCES} instances, all answered",
        reference=f"{INSTANCES} x python3 -I -S -c pass, two at a time", unit="s", budget=1.5, goal=0.7,
        better="lower", measure=burst,
    ),
)  # fmt: skip
