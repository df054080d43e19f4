"""Control groups, version 1 and 2: limits, accounting and freezing of an instance.

A `Tree` owns one folder (v2) or one per controller (v1) below the group the platform runs in, and makes a group per
instance in it. Files and units: Linux `cgroup-v1/memory.txt`, `cgroup-v1/freezer-subsystem.txt`, `cgroup-v2.rst`. All
paths come from the constructor, so that a recorded tree can stand in for the kernel's.
"""

from __future__ import annotations

import abc
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator

_PERIOD_US = 100000
V1_CONTROLLERS = ("memory", "pids", "cpu", "cpuacct", "freezer")
V2_CONTROLLERS = ("memory", "pids", "cpu")


def _write(path: str, text: object) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(descriptor, str(text).encode())
    finally:
        os.close(descriptor)


def _read(path: str, default: str = "") -> str:
    try:
        with open(path) as source:
            return source.read()
    except OSError:
        return default


def _try(path: str, text: object) -> bool:
    """Write where that is offered; False where it is not. That less could be done than was asked for is no failure."""
    if not os.path.exists(path):
        return False
    try:
        _write(path, text)
    except OSError:
        pass
    return True


def _field(path: str, name: str) -> int:
    """The number behind `name` in a file of `name number` lines; 0 when absent."""
    for line in _read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _shares(memory_bytes: int) -> int:
    """CPU weight follows memory: 1024 (v1) stands for 1 GiB."""
    return max(2, min(262144, memory_bytes >> 20))


class Group(abc.ABC):
    """One instance's group. Subclasses say where the files are."""

    @abc.abstractmethod
    def limits(self, memory_bytes: int, cpu: float, pids: int) -> None:
        """Set hard limits: bytes of memory (no swap beyond it), cores, processes and threads."""

    @abc.abstractmethod
    def attach(self, pid: int) -> None:
        """Move a process in."""

    @abc.abstractmethod
    def stats(self) -> dict[str, int]:
        """`memory`, `peak` (bytes), `cpu_us`, `oom_kills`."""

    @abc.abstractmethod
    def freeze(self, frozen: bool) -> None:
        """Stop or go on scheduling everything inside."""

    @abc.abstractmethod
    def reclaim(self) -> bool:
        """Let the kernel take back what memory it can: clean pages of files, and where the host has swap the others.
        Waits until it has; False where the kernel offers no such thing."""

    @abc.abstractmethod
    def folders(self) -> list[str]:
        """Its folders, for removal."""

    def pids(self) -> list[int]:
        """Processes inside, as far as this process can name them."""
        found = {int(pid) for folder in self.folders() for pid in _read(folder + "/cgroup.procs").split()}
        return sorted(found - {0})

    def remove(self) -> bool:
        """Remove it; False while the kernel still counts a dying process in it."""
        return all(_remove(folder) for folder in self.folders())


class GroupV1(Group):
    """A group in the hierarchies of version 1: one folder per controller."""

    def __init__(self, paths: dict[str, str]) -> None:
        self._paths = paths
        for path in paths.values():
            os.makedirs(path, exist_ok=True)

    def limits(self, memory_bytes: int, cpu: float, pids: int) -> None:
        memory = self._paths["memory"]
        swap = memory + "/memory.memsw.limit_in_bytes"
        order = [memory + "/memory.limit_in_bytes", swap]
        if os.path.exists(swap) and int(_read(swap, "0").strip() or 0) < memory_bytes:
            order.reverse()  # the sum may never be below the memory limit while it is changed
        for path in order:
            if os.path.exists(path):
                _write(path, memory_bytes)
        sockets = memory + "/memory.kmem.tcp.limit_in_bytes"  # until it is set, buffers of TCP count for nobody
        if os.path.exists(sockets):
            _write(sockets, memory_bytes)
        _write(self._paths["pids"] + "/pids.max", pids)
        if "cpu" in self._paths:
            _write(self._paths["cpu"] + "/cpu.shares", _shares(memory_bytes))
            if os.path.exists(self._paths["cpu"] + "/cpu.cfs_quota_us"):
                _write(self._paths["cpu"] + "/cpu.cfs_quota_us", int(cpu * _PERIOD_US))

    def attach(self, pid: int) -> None:
        for folder in set(self._paths.values()):
            _write(folder + "/cgroup.procs", pid)

    def stats(self) -> dict[str, int]:
        memory = self._paths["memory"]
        accounting = self._paths.get("cpuacct", "")
        return {
            "memory": int(_read(memory + "/memory.usage_in_bytes", "0")),
            "peak": int(_read(memory + "/memory.max_usage_in_bytes", "0")),
            "cpu_us": int(_read(accounting + "/cpuacct.usage", "0")) // 1000 if accounting else 0,
            "oom_kills": _field(memory + "/memory.oom_control", "oom_kill"),
        }

    def freeze(self, frozen: bool) -> None:
        if "freezer" in self._paths:
            _write(self._paths["freezer"] + "/freezer.state", "FROZEN" if frozen else "THAWED")

    def reclaim(self) -> bool:
        return _try(self._paths["memory"] + "/memory.force_empty", 0)

    def folders(self) -> list[str]:
        return sorted(set(self._paths.values()))


class GroupV2(Group):
    """A group of version 2."""

    def __init__(self, path: str) -> None:
        self._path = path
        os.makedirs(path, exist_ok=True)

    def limits(self, memory_bytes: int, cpu: float, pids: int) -> None:
        _write(self._path + "/memory.max", memory_bytes)
        for name, value in (("memory.swap.max", 0), ("memory.oom.group", 1)):
            if os.path.exists(f"{self._path}/{name}"):
                _write(f"{self._path}/{name}", value)
        _write(self._path + "/pids.max", pids)
        if os.path.exists(self._path + "/cpu.max"):
            _write(self._path + "/cpu.max", f"{int(cpu * _PERIOD_US)} {_PERIOD_US}")
            _write(self._path + "/cpu.weight", max(1, min(10000, _shares(memory_bytes) * 100 // 1024)))

    def attach(self, pid: int) -> None:
        _write(self._path + "/cgroup.procs", pid)

    def stats(self) -> dict[str, int]:
        current = int(_read(self._path + "/memory.current", "0"))
        return {
            "memory": current,
            "peak": int(_read(self._path + "/memory.peak", str(current))),
            "cpu_us": _field(self._path + "/cpu.stat", "usage_usec"),
            "oom_kills": _field(self._path + "/memory.events", "oom_kill"),
        }

    def freeze(self, frozen: bool) -> None:
        _write(self._path + "/cgroup.freeze", int(frozen))

    def reclaim(self) -> bool:
        """While it is frozen it may swap; what is swapped out then comes back as it is needed."""
        swap, size = self._path + "/memory.swap.max", _read(self._path + "/memory.current", "0").strip()
        _try(swap, "max")
        done = _try(self._path + "/memory.reclaim", size)
        _try(swap, 0)
        return done

    def folders(self) -> list[str]:
        return [self._path]


class Tree:
    """One run's own part of the hierarchy, called `name` (FAMILY.RUN). `version` is 1, 2 or 0 (none may be used;
    `reason` says why)."""

    def __init__(self, name: str, mounts: str = "/proc/self/mounts", membership: str = "/proc/self/cgroup") -> None:
        self.version, self.reason = 0, ""
        self._bases: dict[str, str] = {}
        own: dict[str, str] = {}
        for line in _read(membership).splitlines():
            _, controllers, path = line.split(":", 2)
            own.update(dict.fromkeys(controllers.split(","), path))
        points = [line.split() for line in _read(mounts).splitlines() if " cgroup" in line]
        try:
            self._open_v2(name, points, own)
            if not self.version:
                self._open_v1(name, points, own)
        except OSError as error:
            self.version, self.reason = 0, f"{error.filename}: {error.strerror}"
            self.close()
        if not self.version and not self.reason:
            self.reason = "no mounted hierarchy has the controllers memory and pids"

    def _open_v2(self, name: str, points: list[list[str]], own: dict[str, str]) -> None:
        for _, point, kind, *_rest in points:
            if kind != "cgroup2" or not {"memory", "pids"} <= set(_read(point + "/cgroup.controllers").split()):
                continue
            here = (point + own.get("", "/")).rstrip("/")
            wanted = [c for c in V2_CONTROLLERS if c in _read(here + "/cgroup.controllers").split()]
            if not {"memory", "pids"} <= set(wanted):
                raise PermissionError(1, "memory and pids are not delegated to this group", here)
            base = f"{here}/{name}"
            os.makedirs(base, exist_ok=True)
            # No processes beside groups (cgroups(7)), except in the true root, which alone has no cgroup.type.
            if os.path.exists(here + "/cgroup.type") and _read(here + "/cgroup.procs").split():
                os.makedirs(here + "/fuyun-platform", exist_ok=True)
                for pid in _read(here + "/cgroup.procs").split():
                    _write(here + "/fuyun-platform/cgroup.procs", pid)
            for folder in (here, base):
                _write(folder + "/cgroup.subtree_control", " ".join("+" + c for c in wanted))
            self.version, self._bases = 2, {"": base}
            return

    def _open_v1(self, name: str, points: list[list[str]], own: dict[str, str]) -> None:
        for controller in V1_CONTROLLERS:
            for _, point, kind, options, *_rest in points:
                if kind == "cgroup" and controller in options.split(","):
                    here = (point + own.get(controller, "/")).rstrip("/")
                    self._bases[controller] = f"{here if os.path.isdir(here) else point}/{name}"
        if {"memory", "pids"} <= set(self._bases):
            for base in self._bases.values():
                os.makedirs(base, exist_ok=True)
            self.version = 1

    @property
    def bases(self) -> list[str]:
        """Its folders."""
        return sorted(set(self._bases.values()))

    def create(self, name: str) -> Group:
        """A new group called `name`."""
        if self.version == 2:
            return GroupV2("{}/{}".format(self._bases[""], name))
        return GroupV1({controller: f"{base}/{name}" for controller, base in self._bases.items()})

    def sweep(self, kill: Callable[[int], None]) -> bool:
        """Empty our part: `kill(pid)` for every process left in it, then remove its groups. True when empty."""
        return all(_empty(base, kill) for base in set(self._bases.values()))

    def sweep_others(self) -> None:
        """Remove what earlier runs with our name left. Their processes died with them; what a run that is still ending
        holds stays until it has removed it itself."""
        clear_up(self.bases, others=True)

    def close(self) -> None:
        """Remove what `sweep` emptied."""
        for base in set(self._bases.values()):
            _remove(base)


def _remove(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _empty(base: str, kill: Callable[[int], None]) -> bool:
    """Remove every group below `base`; pids of another pid namespace read as 0 and are not ours to end."""
    clean = True
    for folder, _, _ in os.walk(base, topdown=False):
        if folder != base:
            for pid in _read(folder + "/cgroup.procs").split():
                if int(pid) > 0:
                    kill(int(pid))
            clean = _remove(folder) and clean
    return clean


def thaw(bases: list[str]) -> None:
    """Thaw every group in `Tree.bases` of version 1, whose freezer holds even SIGKILL back. For who outlives the tree's
    owner; OSError when it may not."""
    for base in bases:
        for folder, _, files in os.walk(base):
            if "freezer.state" in files:
                _write(folder + "/freezer.state", "THAWED")


def clear_up(bases: list[str], others: bool = False) -> None:
    """Remove what all runs (`others`: all but this one) with the name of `Tree.bases` left, as far as nothing lives in
    it."""
    for base in bases:
        parent, own = os.path.split(base)
        family = own.rpartition(".")[0] + "."
        for name in os.listdir(parent) if os.path.isdir(parent) else ():
            if (
                name.startswith(family)
                and not (others and name == own)
                and _empty(f"{parent}/{name}", lambda pid: None)
            ):
                _remove(f"{parent}/{name}")


def stats_in_parts(groups: Iterable[tuple[str, Group | None]]) -> Iterator[dict[str, Any]]:
    """`stats` of named groups, in parts that each fit a message, the last one marked."""
    items = [(name, group.stats()) for name, group in groups if group is not None]
    for start in range(0, len(items) or 1, 200):
        yield {"stats": dict(items[start : start + 200]), "last": start + 200 >= len(items)}
