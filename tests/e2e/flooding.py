"""Calls one address from many connections until its standard input ends; a process of its own, and of low priority.

`python -m tests.e2e.flooding HOST PORT PATH KEY CONNECTIONS`: says `flooding` once there were as many answers as there
are connections, and at the end how many of each status came since, in how many seconds, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from typing import Any


async def _call(host: str, port: int, request: bytes, answers: Counter[int]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        while True:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(length)
            answers[int(head[9:12])] += 1
    finally:
        writer.close()


async def _flood(host: str, port: int, request: bytes, connections: int) -> dict[str, Any]:
    answers: Counter[int] = Counter()
    tasks = [asyncio.ensure_future(_call(host, port, request, answers)) for _ in range(connections)]
    while answers.total() < connections:
        await asyncio.sleep(0.01)
    before, began = answers.copy(), time.monotonic()
    print("flooding", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    took_s = time.monotonic() - began
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
    return {"answers": answers - before, "seconds": took_s}


def main() -> None:
    """See above."""
    host, port, path, key, connections = sys.argv[1:]
    request = f"POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\ncontent-length: 2\r\n\r\n{{}}"
    os.nice(10)  # what floods is the platform, not this client
    print(json.dumps(asyncio.run(_flood(host, int(port), request.encode(), int(connections)))))


if __name__ == "__main__":
    main()
