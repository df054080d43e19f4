"""Messages into a queue and out of it, through the control API, beside rows that SQLite commits one by one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx

from bench.measure import Row, Sample
from bench.rows.accepts import commits_per_second
from bench.stage import Stage

CLIENTS, BATCH = 16, 100
_MESSAGES = {"messages": [{"data": {"n": number, "text": "x" * 80}} for number in range(BATCH)]}
_REFERENCE = "single-row commits of SQLite, same journal mode and fsync"

#: One turn of a client: how many messages it moved.
Turn = Callable[[httpx.AsyncClient, str], Awaitable[int]]


async def _send(client: httpx.AsyncClient, url: str) -> int:
    return len((await client.post(f"{url}/messages", json=_MESSAGES)).raise_for_status().json()["sent"])


async def _take(client: httpx.AsyncClient, url: str) -> int:
    """Receive and acknowledge."""
    found = (await client.post(f"{url}/receive", json={"max": BATCH})).raise_for_status().json()["messages"]
    receipts = [one["receipt"] for one in found]
    if receipts:
        (await client.post(f"{url}/acknowledge", json={"receipts": receipts})).raise_for_status()
    return len(receipts)


def _per_second(stage: Stage, turn: Turn, held: int) -> float:
    """Messages per second that `CLIENTS` move at once. With `held` batches in the queue they stop when it is empty."""
    platform = stage.platform
    url = f"{platform.api}/v1/namespaces/default/queues/bench"

    async def main() -> float:
        headers = {"authorization": f"Bearer {platform.key}"}
        async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=60) as client:
            (await client.put(url, json={})).raise_for_status()
            for _ in range(held):
                await _send(client, url)
            moved = 0
            began_s = time.perf_counter()
            until_s = began_s + stage.seconds(5)

            async def work() -> None:
                nonlocal moved
                while time.perf_counter() < until_s:
                    count = await turn(client, url)
                    moved += count
                    if not count:
                        return

            await asyncio.gather(*(work() for _ in range(CLIENTS)))
            spent_s = time.perf_counter() - began_s
            (await client.delete(url)).raise_for_status()
            return moved / spent_s

    return asyncio.run(main())


def sends(stage: Stage) -> Sample:
    """Durable when they are answered."""
    reference = commits_per_second(stage.times(2000))
    return Sample(_per_second(stage, _send, 0), reference)


def takes(stage: Stage) -> Sample:
    """Received with a lease and acknowledged, both durably, until the queue is empty."""
    reference = commits_per_second(stage.times(2000))
    return Sample(_per_second(stage, _take, stage.times(200)), reference)


ROWS = (
    Row(
        name="queue-send", what=f"messages sent durably, {BATCH} a request, {CLIENTS} clients",
        reference=_REFERENCE, unit="1/s", budget=3.0, goal=10.0, better="higher", measure=sends,
    ),
    Row(
        name="queue-receive", what=f"messages received and acknowledged, {BATCH} a request, {CLIENTS} clients",
        reference=_REFERENCE, unit="1/s", budget=1.0, goal=5.0, better="higher", measure=takes,
    ),
)  # fmt: skip
