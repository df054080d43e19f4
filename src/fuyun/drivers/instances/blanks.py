"""Zygotes and the blanks made from them: kept in reserve, replaced when taken, started again when they die."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from fuyun.base import clock, ids
from fuyun.domain.errors import FuyunError, HostUnable, Unavailable
from fuyun.domain.functions import Version, is_oci
from fuyun.domain.interpreters import Interpreter
from fuyun.domain.invocations import StartKind
from fuyun.drivers.instances import bundling, plans
from fuyun.drivers.instances.ground import Ground
from fuyun.drivers.instances.process import Process

_log = structlog.get_logger("fuyun.host")
_ZYGOTE_ARGV = ("-I", "-S", "-c")
#: Blanks being made at once: enough to keep two cores busy, few enough that descriptors in flight stay bounded.
_SPAWNING = 12
#: Tries, with growing pauses, before those who wait are told that it does not work: together half a second.
_TRIES, _PAUSE_S, _LONGEST_PAUSE_S = 5, 0.02, 5.0
#: How long a start waits for a blank.
_TAKE_S = 60.0
#: The reserve is filled up again once the start that took from it is over: to make a blank takes a processor, of which
#: that start needs its own. One who waits for a blank, or an empty reserve, does not wait for this.
_REFILL_S = 0.03
#: Blanks with a Node process in them are large (12 MB each of their own).
_NODE_BLANKS = 2
_BLANK_LIMITS = {"memory": 256 * 2**20, "cpu": 1.0, "pids": 128}


@dataclass(eq=False)
class Family:
    """A zygote of one interpreter and isolation class, with the blanks made from it."""

    interpreter: Interpreter
    isolation: str
    zygote: str = ""
    pid: int = 0
    up: asyncio.Event = field(default_factory=asyncio.Event)
    launching: bool = False
    blanks: deque[Process] = field(default_factory=deque)
    waiters: deque[asyncio.Future[Process]] = field(default_factory=deque)
    spawning: int = 0
    version: Version | None = None  # that its only blank is for
    alone: bool = False  # makes one blank, for a version that asks for an interpreter of its own
    launch_ms: float = 0.0  # how long the zygote took to start
    spawn_ms: float = 0.0  # how long the last blank took
    failures: int = 0  # since something was made
    pause: asyncio.TimerHandle | None = None  # until the next try


class Blanks:
    """All families of this host."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._families: dict[tuple[str, str, str], Family] = {}

    def family(self, interpreter: Interpreter, isolation: str) -> Family:
        """The family of an interpreter and isolation class. HostUnable when the host cannot give the class."""
        if isolation != "process" and not self._ground.options.namespaces:
            raise HostUnable(
                f"this host gives no user namespaces, which isolation class {isolation!r} needs",
                hint="run `fuyun doctor`, or ask for `isolation: process` (no isolation) by name",
                feature="namespaces",
            )
        bundling.require(isolation)
        key = (interpreter.executable, interpreter.node, isolation)
        if key not in self._families:
            self._families[key] = Family(interpreter, isolation)
        return self._families[key]

    def refill(self, family: Family) -> None:
        """Make the blanks that are wanted: one for every waiter, and the usual reserve."""
        if self._ground.closing or family.pause is not None or family not in self._families.values():
            return
        if not family.up.is_set():
            if not family.launching:
                family.launching = True
                self._ground.scope.start(self._launch_zygote(family), "zygote")
            return
        reserve = self._ground.options.blanks if family.isolation == "sandbox" and not family.alone else 0
        if family.interpreter.node:
            reserve = min(reserve, _NODE_BLANKS)
        wanted = len(family.waiters) + reserve - len(family.blanks) - family.spawning
        for _ in range(min(wanted, _SPAWNING - family.spawning)):
            family.spawning += 1
            self._ground.scope.start(self._spawn(family), "spawn")

    def close(self) -> None:
        """Nothing is made any more: tell those who wait."""
        for family in self._families.values():
            if family.pause is not None:
                family.pause.cancel()
            _refuse(family, _going_down())

    async def take(self, family: Family) -> tuple[Process, StartKind]:
        """A blank, and the rung it came from. Unavailable when none can be made in time, HostUnable when never."""
        kind: StartKind = "zygote" if family.up.is_set() else "none"
        try:
            async with asyncio.timeout(_TAKE_S):
                while True:
                    while family.blanks:
                        process = family.blanks.popleft()
                        self._refill_soon(family, _REFILL_S if family.blanks else 0)
                        if not process.gone:
                            return process, "blank"
                    if self._ground.closing:
                        raise _going_down()
                    waiter: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
                    family.waiters.append(waiter)
                    self.refill(family)
                    try:
                        process = await waiter
                    except asyncio.CancelledError:
                        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                            self._hand_out(family, waiter.result())  # it was given one in this very moment
                        raise
                    if not process.gone:
                        return process, kind
        except TimeoutError as error:
            raise Unavailable(
                f"no sandbox could be made within {_TAKE_S:g} s", hint="see the platform's log"
            ) from error

    async def take_alone(self, like: Family, version: Version) -> tuple[Process, StartKind]:
        """A blank of a zygote that is started for it, makes no other and ends. Raises what `take` does."""
        family = Family(like.interpreter, like.isolation, alone=True, version=version)
        key = (family.interpreter.executable, family.interpreter.node, f"{family.isolation} {ids.new_id()}")
        self._families[key] = family
        try:
            return await self.take(family)
        finally:
            del self._families[key]
            if family.pause is not None:
                family.pause.cancel()
            if family.zygote:
                self._ground.warden.send({"op": "kill", "id": family.zygote})

    def times_of(self, zygote: str) -> tuple[float, float]:
        """Milliseconds that the zygote of that id took to start, and its last blank; zeros for one that is gone."""
        found = next((family for family in self._families.values() if family.zygote == zygote), None)
        return (found.launch_ms, found.spawn_ms) if found is not None else (0.0, 0.0)

    def zygotes(self) -> list[dict[str, Any]]:
        """What is told of zygotes."""
        return [
            {"id": f.zygote, "pid": f.pid, "kind": "zygote", "version": f.interpreter.name, "blanks": len(f.blanks)}
            for f in self._families.values()
            if f.up.is_set()
        ]

    # --- what happens to them

    def on_zygote_end(self, id_: str) -> None:
        """A process that is no instance ended; a zygote is replaced."""
        for family in self._families.values():
            if family.zygote == id_ and not self._ground.closing:
                _log.error("zygote died; starting another", interpreter=family.interpreter.name)
                _reset(family)
                self.refill(family)

    def on_warden_lost(self) -> None:
        """The warden died, and everything with it."""
        for family in self._families.values():
            _reset(family)
            family.blanks.clear()

    def on_warden_up(self) -> None:
        """There is a warden again."""
        for family in self._families.values():
            family.failures = 0
            self._go_on(family)

    def _on_blank_end(self, family: Family, process: Process) -> None:
        self._ground.dismiss(process)
        if process in family.blanks:
            family.blanks.remove(process)
            self._refill_soon(family)

    # --- making them

    async def _launch_zygote(self, family: Family) -> None:
        try:
            sandboxed, store = family.isolation != "process", str(self._ground.options.store)
            plan = plans.view(family.interpreter, store=store) if family.isolation == "sandbox" else None
            path = plans.RUNTIME if sandboxed else str(Path(plans.__file__).parents[3])
            options: dict[str, Any] = {"isolation": family.isolation, "node": family.interpreter.node}
            if family.version is not None and is_oci(family.isolation):
                plan = bundling.plan(family.interpreter, family.version, store)
                counted = bool(self._ground.warden.hello.get("cgroup"))
                options |= bundling.options(family.interpreter, family.version, counted)
            message: dict[str, Any] = {
                "op": "zygote", "id": ids.new_id(), "plan": plan, "path": path, "env": plans.environment(),
                "argv": [family.interpreter.executable, *_ZYGOTE_ARGV],
                "options": options,
            }  # fmt: skip
            began = clock.mono_s()
            answer = await self._ground.warden.ask(message)
            family.launch_ms = (clock.mono_s() - began) * 1000
            family.zygote, family.pid = message["id"], answer["pid"]
            family.up.set()
            if family not in self._families.values():  # who asked for it alone does not wait any more
                self._ground.warden.send({"op": "kill", "id": family.zygote})
                return
        except FuyunError as error:
            self._failed(family, error)
        finally:
            family.launching = False
        self.refill(family)

    def _failed(self, family: Family, error: FuyunError) -> None:
        """Try again after a pause; when it fails again and again, tell those who wait."""
        if family.pause is not None or self._ground.closing:
            return
        if not isinstance(error, Unavailable):  # while the warden restarts nothing can be made, and nothing is wrong
            family.failures += 1
        _log.warning("no sandbox made", interpreter=family.interpreter.name, error=error.detail, tries=family.failures)
        if family.failures >= _TRIES:
            _refuse(family, error)
        pause_s = min(_LONGEST_PAUSE_S, _PAUSE_S * 2**family.failures)
        family.pause = asyncio.get_running_loop().call_later(pause_s, self._go_on, family)

    def _go_on(self, family: Family) -> None:
        if family.pause is not None:
            family.pause.cancel()
            family.pause = None
        self.refill(family)

    async def _spawn(self, family: Family) -> None:
        process = self._ground.new_process("blank", family.zygote)
        process.on_end = lambda process: self._on_blank_end(family, process)
        message = {"op": "spawn", "id": process.id, "zygote": family.zygote, "limits": _BLANK_LIMITS}
        try:
            passed = await process.connect()
            began = clock.mono_s()
            try:
                answer = await self._ground.warden.ask(message, passed)
            finally:
                for descriptor in passed:
                    os.close(descriptor)
            family.spawn_ms = (clock.mono_s() - began) * 1000
        except FuyunError as error:
            process.abandon()
            self._failed(family, error)
            return
        finally:
            family.spawning -= 1
            self._refill_soon(family)
        process.pid = answer["pid"]
        if process.gone:
            return
        family.failures = 0
        self._hand_out(family, process)

    def _hand_out(self, family: Family, process: Process) -> None:
        """To the first who waits, or else to the reserve."""
        while family.waiters:
            waiter = family.waiters.popleft()
            if not waiter.done():
                waiter.set_result(process)
                return
        if family.alone:
            process.kill("nobody waits for it any more")
        else:
            family.blanks.append(process)

    def _refill_soon(self, family: Family, after_s: float = 0) -> None:
        asyncio.get_running_loop().call_later(after_s, self.refill, family)


def _reset(family: Family) -> None:
    family.zygote, family.pid = "", 0
    family.up.clear()


def _refuse(family: Family, error: FuyunError) -> None:
    waiters, family.waiters = family.waiters, deque()
    for waiter in waiters:
        if not waiter.done():
            waiter.set_exception(error)


def _going_down() -> Unavailable:
    return Unavailable("the platform is going down", hint="retry in a few seconds", retry_after_s=2)
