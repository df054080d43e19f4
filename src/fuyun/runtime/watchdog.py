"""Memory limits where no control group can be had: sum what an instance holds, end it when it is too much."""

from __future__ import annotations

import os

#: Seconds between two looks; an instance can pass its limit for this long (each process has RLIMIT_DATA besides).
PERIOD_S = 0.2


def _tree(pid: int) -> list[int]:
    found, todo = [], [pid]
    while todo:
        pid = todo.pop()
        found.append(pid)
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children") as source:
                    todo += [int(child) for child in source.read().split()]
        except OSError:
            continue
    return found


def private_bytes(pid: int) -> int:
    """Anonymous resident memory of a process and all below it, in bytes; 0 when it is gone."""
    total = 0
    for member in _tree(pid):
        try:
            with open(f"/proc/{member}/status") as source:
                total += sum(int(line.split()[1]) * 1024 for line in source if line.startswith(("RssAnon", "RssShmem")))
        except OSError:
            continue
    return total


def check(children: object, kill: object) -> None:
    """Call `kill(child, "memory")` for each instance over its limit."""
    for child in list(children):  # type: ignore[call-overload]
        if (
            child.kind == "instance"
            and child.pid
            and child.memory_bytes
            and private_bytes(child.pid) > child.memory_bytes
        ):
            kill(child, "memory")  # type: ignore[operator]
