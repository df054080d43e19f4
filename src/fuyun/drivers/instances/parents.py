"""Processes that instances are forked from, templates and zygotes of layers: asking them, and which of them stay."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from fuyun.base import clock
from fuyun.decide import starts
from fuyun.domain.errors import Unavailable
from fuyun.domain.functions import Version
from fuyun.drivers.instances import attending, loading
from fuyun.drivers.instances.ground import Ground
from fuyun.drivers.instances.process import Process

#: Forks asked of one process at once. A socket's queue of messages may be as short as ten (net.unix.max_dgram_qlen).
_FORKING = 8
#: Copies that a parent's group has memory for at first, what each is given there, and the part of the parent's size
#: that its page tables take at most: with numpy a copy was measured at 0.85 MB (116 copies, kernel 6.18, version 1).
_COPIES, _COPY_BYTES, _TABLES = 64, 2 * 2**20, 128
#: A fork takes milliseconds; a process that needs longer than this does not listen any more.
_FORK_S = 5.0


@dataclass(eq=False, kw_only=True)
class Parent:
    """One process that is forked from and what is known of it."""

    process: Process
    size_bytes: int
    used_s: float
    fork_ms: float = 0.0
    copies: int = 0  # that its group has memory for
    deaf: bool = False  # it did not fork when it was asked
    instances: set[str] = field(default_factory=set)
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_FORKING))


async def fork(ground: Ground, parent: Parent, process: Process, version: Version, more: dict[str, Any]) -> None:
    """Have `parent` make `process`, with the limits of the version; `more`: further fields of the order. Unavailable
    when it does not."""
    if parent.deaf:
        raise Unavailable("it does not listen any more", retry_after_s=1)
    message = {
        "op": "fork", "id": process.id, "template": parent.process.id, "tmp_bytes": version.spec.tmp_bytes,
        "limits": loading.limits_of(version.spec), "network": attending.order_of(process),
        "task": {"instance": process.id, "template": False, "spare": process.kind == "spare"}, **more,
    }  # fmt: skip
    passed = await process.connect()
    _make_room(ground, parent, loading.limits_of(version.spec))
    try:
        answer = await ground.warden.ask(message, passed, _FORK_S)
    finally:
        for descriptor in passed:
            os.close(descriptor)
    process.pid = answer["pid"]


def _make_room(ground: Ground, parent: Parent, limits: dict[str, Any]) -> None:
    """Let the parent's group hold what one copy more takes before it is moved to a group of its own: pages it wrote and
    tables of the kernel's stay charged to the group they were made in (cgroups(7), cgroup-v2.rst)."""
    if len(parent.instances) < parent.copies:
        return
    parent.copies = max(_COPIES, 2 * parent.copies)
    own_bytes = max(limits["memory"], parent.process.memory_bytes)
    limits["memory"] = own_bytes + parent.copies * (_COPY_BYTES + parent.size_bytes // _TABLES)
    ground.warden.send({"op": "limits", "id": parent.process.id, "limits": limits, "room": True})


@dataclass(frozen=True, slots=True)
class Holding:
    """What one kind of parent takes part in the budget with. `rows`: (key, bytes, last used in seconds, milliseconds
    saved per start); `leaving_bytes`: of those that are given up but still have instances."""

    kind: str
    rows: Callable[[], Iterable[tuple[str, int, float, float]]]
    leaving_bytes: Callable[[], int]
    drop: Callable[[str], None]


class Budget:
    """The memory that all parents of this host may hold together: the least worth goes first (`decide.starts.evict`).
    `evicted`: how many went, by kind, since the platform started."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._holdings: dict[str, Holding] = {}
        self._gone: dict[str, tuple[int, float]] = {}  # what was evicted: bytes, milliseconds saved
        self.evicted: Counter[str] = Counter()

    def join(self, holding: Holding) -> None:
        """Count another kind."""
        self._holdings[holding.kind] = holding
        self.evicted[holding.kind] = 0

    @property
    def limit_bytes(self) -> int:
        """All of it."""
        return self._ground.options.template_budget_bytes

    @property
    def left_bytes(self) -> int:
        """What parents leave of it; below zero when those that leave still hold too much."""
        held, rows = self._state()
        return self.limit_bytes - held - sum(row[1] for row in rows)

    def _state(self) -> tuple[int, list[tuple[str, int, float, float]]]:
        """What those hold that leave, and the rows of all others."""
        rows = [
            (f"{one.kind} {key}", size_bytes, used_s, saved_ms)
            for one in self._holdings.values()
            for key, size_bytes, used_s, saved_ms in one.rows()
        ]
        return sum(one.leaving_bytes() for one in self._holdings.values()), rows

    def fit(self) -> None:
        """Drop what there is no room for."""
        held, rows = self._state()
        for name in starts.evict(rows, self.limit_bytes - held):
            kind, _, key = name.partition(" ")
            self.evicted[kind] += 1
            self._gone[name] = next((row[1], row[3]) for row in rows if row[0] == name)
            self._holdings[kind].drop(key)

    def told(self) -> dict[str, Any]:
        """What is told of it."""
        limit_bytes = self.limit_bytes
        held_bytes = limit_bytes - self.left_bytes
        return {"limit_bytes": limit_bytes, "held_bytes": held_bytes, "evicted": dict(self.evicted)}

    def would_keep(self, kind: str, key: str) -> bool:
        """Whether one that is made now would stay, as far as is known: it was not evicted before, or is worth more now
        than others that have its room."""
        name = f"{kind} {key}"
        if name not in self._gone:
            return True
        size_bytes, saved_ms = self._gone[name]
        held, rows = self._state()
        return name not in starts.evict([*rows, (name, size_bytes, clock.mono_s(), saved_ms)], self.limit_bytes - held)

    def forget(self, kind: str, key: str) -> None:
        """Its version is gone."""
        self._gone.pop(f"{kind} {key}", None)


def listen_to(ground: Ground, parent: Process) -> None:
    """Let a parent tell how the processes that it forked ended; it is believed for its own ones only."""

    def tell(id_: str, status: int) -> None:
        process = ground.processes.get(id_)
        if process is not None and process.template is parent:
            process.told_status(status)

    parent.channel.on_exited = tell
