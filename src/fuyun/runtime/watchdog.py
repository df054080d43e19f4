"""Memory limits where no control group can be had: sum what an instance holds, end it when it is too much."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterable

    from fuyun.runtime.children import Child

#: Seconds between two looks; an instance can pass its limit for this long (each process has RLIMIT_DATA besides).
PERIOD_S = 0.2


def tree(pid: int, others: frozenset[int] = frozenset()) -> list[int]:
    """A process and all below it, except `others` and what is below those: instances of a template have limits of
    their own."""
    found, todo = [], [pid]
    while todo:
        pid = todo.pop()
        found.append(pid)
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children") as source:
                    todo += [child for child in map(int, source.read().split()) if child not in others]
        except OSError:
            continue
    return found


def _sum(path: str, names: tuple[str, ...]) -> int:
    with open(path) as source:
        return sum(int(line.split()[1]) * 1024 for line in source if line.startswith(names))


def _anonymous(pid: int) -> int:
    try:
        return _sum(f"/proc/{pid}/status", ("RssAnon", "RssShmem"))
    except OSError:
        return 0  # it is gone


def private_bytes(pid: int, others: frozenset[int] = frozenset()) -> int:
    """Anonymous resident memory of a process and all below it, in bytes; shared pages count once per process."""
    return sum(map(_anonymous, tree(pid, others)))


def proportional_bytes(pid: int, others: frozenset[int] = frozenset()) -> int:
    """The same with every page divided by the processes that share it: a fork does not count its parent's again.
    Dearer: the kernel walks the page tables."""
    total = 0
    for member in tree(pid, others):
        try:
            total += _sum(f"/proc/{member}/smaps_rollup", ("Pss_Anon", "Pss_Shmem"))
        except OSError:
            total += _anonymous(member)
    return total


def is_over(pid: int, limit_bytes: int, others: frozenset[int] = frozenset()) -> bool:
    """Whether a process and all below it, except `others`, hold more than `limit_bytes`; the exact figure is only asked
    for in doubt."""
    return private_bytes(pid, others) > limit_bytes and proportional_bytes(pid, others) > limit_bytes


def check(children: Iterable[Child], kill: Callable[[Child, str], None]) -> None:
    """Call `kill(child, "memory")` for each instance over its limit."""
    instances = [child for child in children if child.kind == "instance" and child.pid and child.memory_bytes]
    pids = frozenset(child.pid for child in instances)
    for child in instances:
        if is_over(child.pid, child.memory_bytes, pids - {child.pid}):
            kill(child, "memory")
