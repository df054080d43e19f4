"""Records into a stream and out of it, through the control API, beside rows that SQLite commits one by one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx

from bench.measure import Row, Sample
from bench.rows.accepts import commits_per_second
from bench.stage import Stage

CLIENTS, BATCH = 32, 100
_RECORDS = {"records": [{"key": f"k{number}", "data": {"n": number, "text": "x" * 80}} for number in range(BATCH)]}


def _measured(stage: Stage, ask: Callable[[httpx.AsyncClient, str], Awaitable[int]], filled: int) -> float:
    """Records per second that `ask` moves, from `CLIENTS` at once; the stream holds `filled` batches before."""
    platform = stage.platform
    url = f"{platform.api}/v1/namespaces/default/streams/bench"

    async def main() -> float:
        headers = {"authorization": f"Bearer {platform.key}"}
        async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=60) as client:
            (await client.put(url, json={"partitions": 4})).raise_for_status()
            for _ in range(filled):
                (await client.post(f"{url}/records", json=_RECORDS)).raise_for_status()
            moved = 0
            began_s = time.perf_counter()
            until_s = began_s + stage.seconds(5)

            async def work() -> None:
                nonlocal moved
                while time.perf_counter() < until_s:
                    count = await ask(client, url)  # `moved` is read behind the wait
                    moved += count

            await asyncio.gather(*(work() for _ in range(CLIENTS)))
            spent_s = time.perf_counter() - began_s
            (await client.delete(url)).raise_for_status()
            return moved / spent_s

    return asyncio.run(main())


def appends(stage: Stage) -> Sample:
    """Batches of a hundred records, durable when they are answered."""

    async def append(client: httpx.AsyncClient, url: str) -> int:
        return len((await client.post(f"{url}/records", json=_RECORDS)).raise_for_status().json())

    reference = commits_per_second(stage.times(2000))
    return Sample(_measured(stage, append, 0), reference)


def reads(stage: Stage) -> Sample:
    """Pages of a hundred records."""

    async def read(client: httpx.AsyncClient, url: str) -> int:
        found = await client.get(f"{url}/records", params={"limit": BATCH, "partition": 1})
        return len(found.raise_for_status().json()["records"])

    reference = commits_per_second(stage.times(2000))
    return Sample(_measured(stage, read, 20), reference)


ROWS = (
    Row(
        name="stream-append", what=f"records appended durably, {BATCH} a request, {CLIENTS} clients",
        reference="single-row commits of SQLite, same journal mode and fsync", unit="1/s", budget=3.0, goal=10.0,
        better="higher", measure=appends,
    ),
    Row(
        name="stream-read", what=f"records read, {BATCH} a request, {CLIENTS} clients",
        reference="single-row commits of SQLite, same journal mode and fsync", unit="1/s", budget=5.0, goal=20.0,
        better="higher", measure=reads,
    ),
)  # fmt: skip
