"""What a test may leave behind: nothing. Snapshots of tasks, descriptors, child processes, mounts and cgroups."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36

#: Processes that a fixture of more than one test has started, and ends; they may be started anew within a test.
shared: set[int] = set()


def adopt_orphans() -> None:
    """Become the parent of every orphaned descendant, so that a leaked process shows up as a child."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def pending_tasks() -> set[str]:
    """Names of asyncio tasks that are not done, on any loop of this process."""
    registries = [getattr(asyncio.tasks, name, ()) for name in ("_all_tasks", "_scheduled_tasks", "_eager_tasks")]
    tasks = {task for registry in registries for task in list(registry) if not task.done()}
    return {repr(task) for task in tasks if not task.get_loop().is_closed()}


def open_descriptors() -> dict[int, str]:
    """Descriptor -> what it points to."""
    found: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return {fd: target for fd, target in found.items() if not target.startswith("/proc/")}


def children() -> set[int]:
    """Living child processes; zombies that nobody waits for are reaped on the way."""
    pids: set[int] = set()
    for task in os.listdir("/proc/self/task"):
        with suppress(OSError):
            pids.update(int(pid) for pid in Path(f"/proc/self/task/{task}/children").read_text().split())
    return {pid for pid in pids - shared if state_of(pid) not in ("", "Z", "X")}


def state_of(pid: int) -> str:
    """The process's state letter, "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def command_of(pid: int) -> str:
    """The process's command line, for messages."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def descendants(pid: int) -> list[int]:
    """Every process below `pid`, parents first."""
    found: list[int] = []
    todo = [pid]
    while todo:
        below: set[int] = set()
        current = todo.pop(0)
        with suppress(OSError):
            for task in os.listdir(f"/proc/{current}/task"):
                with suppress(OSError):
                    below.update(int(p) for p in Path(f"/proc/{current}/task/{task}/children").read_text().split())
        found += sorted(below)
        todo += sorted(below)
    return found


def mounts() -> set[str]:
    """Mount points of this namespace that name Fuyun."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line.split(" ")[4] for line in lines if "fuyun" in line}


def cgroups() -> set[str]:
    """Control groups named fuyun*, at most three levels below their hierarchy's root."""
    return set(_cgroups(Path("/sys/fs/cgroup"), 5))


def _cgroups(folder: Path, depth: int) -> Iterator[str]:
    try:
        below = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for entry in below:
        if entry.name.startswith("fuyun"):
            yield entry.path
        elif depth > 1:
            yield from _cgroups(Path(entry.path), depth - 1)


def settled_descriptors(before: dict[int, str], kept: set[int]) -> dict[int, str]:
    """Descriptors opened since `before`, after a collection gave forgotten objects their chance; none of `kept`."""
    if set(_new(before)) <= kept:
        return {}
    gc.collect()
    return {fd: target for fd, target in _new(before).items() if fd not in kept}


def _new(before: dict[int, str]) -> dict[int, str]:
    return {fd: target for fd, target in open_descriptors().items() if before.get(fd) != target}
