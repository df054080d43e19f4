"""What processes hold in memory, from /proc/<pid>/smaps_rollup (proc(5)); blocking, for a worker thread."""

from __future__ import annotations

import os
from collections.abc import Iterable

from fuyun.runtime import watchdog


def of_host() -> int:
    """Bytes of memory that this host has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def of(pids: Iterable[int]) -> dict[int, dict[str, int]]:
    """pid -> {`rss_bytes`, `pss_bytes`, `private_bytes`}; pids that are gone or may not be read are left out."""
    found = {pid: _of_one(pid) for pid in pids if pid > 0}
    return {pid: sizes for pid, sizes in found.items() if sizes}


def of_trees(pids: Iterable[int]) -> dict[int, dict[str, int]]:
    """The same, each with all processes below it but those of `pids` and what is below these: an instance's own, such
    as the program behind its keeper. Private is what no other process has; what an instance's processes share with
    each other counts by its share (Pss) only."""
    known = frozenset(pids)
    found: dict[int, dict[str, int]] = {}
    for pid in known:
        if pid <= 0:
            continue
        for member in watchdog.tree(pid, known - {pid}):
            sizes = _of_one(member)
            if sizes:
                held = found.get(pid, {})
                found[pid] = {name: held.get(name, 0) + value for name, value in sizes.items()}
    return found


def _of_one(pid: int) -> dict[str, int]:
    fields: dict[str, int] = {}
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as source:
            for line in source:
                name, _, rest = line.partition(":")
                if rest.endswith("kB\n"):
                    fields[name] = int(rest.split()[0]) * 1024
    except OSError:
        return {}
    private = fields.get("Private_Clean", 0) + fields.get("Private_Dirty", 0)
    return {"rss_bytes": fields.get("Rss", 0), "pss_bytes": fields.get("Pss", 0), "private_bytes": private}
