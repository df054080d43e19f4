"""What processes hold in memory, from /proc/<pid>/smaps_rollup (proc(5)); blocking, for a worker thread."""

from __future__ import annotations

import os
from collections.abc import Iterable


def of_host() -> int:
    """Bytes of memory that this host has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def of(pids: Iterable[int]) -> dict[int, dict[str, int]]:
    """pid -> {`rss_bytes`, `pss_bytes`, `private_bytes`}; pids that are gone or may not be read are left out."""
    found: dict[int, dict[str, int]] = {}
    for pid in pids:
        if pid <= 0:
            continue
        fields: dict[str, int] = {}
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as source:
                for line in source:
                    name, _, rest = line.partition(":")
                    if rest.endswith("kB\n"):
                        fields[name] = int(rest.split()[0]) * 1024
        except OSError:
            continue
        private = fields.get("Private_Clean", 0) + fields.get("Private_Dirty", 0)
        found[pid] = {"rss_bytes": fields.get("Rss", 0), "pss_bytes": fields.get("Pss", 0), "private_bytes": private}
    return found
