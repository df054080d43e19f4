"""Zygotes of layers: blanks that have mounted a set of layers and imported what a version imported from them.

One belongs to a namespace, an interpreter, a set of layers and an environment (docs/decisions/0023). Instances and
templates of any version that shares these are forked from it and find the imports done. Like a template it is process 1
of their process namespace: one that is not wanted any more ends with the last of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import structlog

from fuyun.base import clock
from fuyun.decide import savings
from fuyun.domain.errors import FuyunError, InstanceLost, Unavailable
from fuyun.domain.functions import Version
from fuyun.domain.runtimes import KEPT, MODULES
from fuyun.drivers.instances import loading, memory
from fuyun.drivers.instances.blanks import Blanks, Family
from fuyun.drivers.instances.ground import Ground
from fuyun.drivers.instances.parents import Budget, Holding, Parent, fork, listen_to
from fuyun.drivers.instances.process import Process

_log = structlog.get_logger("fuyun.host")
#: How long the imports may take.
_IMPORT_S = 60.0
#: Where no control group limits a zygote, what the limits of its copies may be raised to: no limit of memory, and so
#: many processes.
_MOST_BYTES, _MOST_PIDS = 2**62, 65536
#: Start policies of versions that share no imports with others.
_ALONE = ("blank", "plain")


@dataclass(eq=False, kw_only=True)
class LayerZygote(Parent):
    """One set of layers, imported."""

    namespace: str
    interpreter: str
    layers: int
    names: frozenset[str]  # top-level modules it has imported
    import_ms: float
    folders: tuple[tuple[str, int], ...]  # of its layers, with their inodes
    versions: set[str] = field(default_factory=set)  # keys of those that are known to use it


class LayerZygotes:
    """All of this host, within the memory budget."""

    def __init__(self, ground: Ground, blanks: Blanks, budget: Budget) -> None:
        self._ground = ground
        self._blanks = blanks
        self._budget = budget
        self._zygotes: dict[str, LayerZygote] = {}
        self._leaving: set[LayerZygote] = set()  # forgotten, with instances that live
        self._making: dict[str, set[str]] = {}  # sets of layers -> versions that wait for theirs
        self._refused: dict[str, set[str]] = {}  # sets of layers without one -> versions that have them
        self._apart: set[str] = set()  # keys of versions that start without one
        ground.on_dismiss = self._on_dismiss
        budget.join(
            Holding(
                "zygote",
                lambda: [(key, z.size_bytes, z.used_s, z.import_ms) for key, z in self._zygotes.items()],
                lambda: sum(zygote.size_bytes for zygote in self._leaving),
                self._drop,
            )
        )

    def may_share(self, version: Version) -> bool:
        """Whether the version is of a kind that is forked from one."""
        spec = version.spec
        python = spec.runtime not in KEPT and spec.runtime not in MODULES
        shared = python and spec.isolation == "sandbox" and spec.start not in _ALONE
        return shared and bool(version.layers) and version.key not in self._apart

    def find(self, version: Version, env: dict[str, str], family: Family) -> LayerZygote | None:
        """The living one of the version's layers; one whose layers have gone from the store is dropped."""
        if not self._zygotes or not self.may_share(version):
            return None
        key = _key_of(version, env, family)
        zygote = self._zygotes.get(key)
        if zygote is not None and (zygote.process.gone or zygote.deaf or zygote.folders != self._folders(version)):
            self._drop(key)
            return None
        return zygote

    def has(self, version: Version) -> bool:
        """Whether one is known to serve the version."""
        return any(version.key in zygote.versions for zygote in self._zygotes.values())

    def _folders(self, version: Version) -> tuple[tuple[str, int], ...]:
        found = []
        for layer in version.layers:
            path = self._path(layer.digest)
            try:
                found.append((path, os.stat(path).st_ino))
            except OSError:
                return ()
        return tuple(found)

    def _path(self, digest: str) -> str:
        return f"{self._ground.options.store}/{digest[:2]}/{digest}"

    # --- instances and templates of it

    async def start(self, zygote: LayerZygote, version: Version, task: dict[str, Any], process: Process) -> None:
        """Make `process` from it and load the version there. Unavailable or InstanceLost when it does not fork any
        more; what is wrong with the version is raised as by a load in a blank."""
        began = clock.mono_s()
        process.become(version)
        process.template = zygote.process
        zygote.instances.add(process.id)
        zygote.versions.add(version.key)
        zygote.used_s = began
        try:
            await self._ground.networks.link(version, process)
        except FuyunError:
            process.abandon()
            raise
        async with zygote.room:
            try:
                await fork(self._ground, zygote, process, version, {"code": self._path(version.code.digest)})
            except FuyunError as error:
                process.abandon()
                zygote.deaf = True
                raise Unavailable(f"the zygote of its layers could not fork: {error.detail}") from error
        process.specialize(task)
        if process.warming is not None:
            process.warming.send(process)
        await loading.wait_ready(process, "layers", began, 0.0)
        zygote.fork_ms = process.report.start_ms
        altered = process.channel.started.result().altered
        if altered:
            self._apart.add(version.key)
            process.kill("its imports are to be its own")
            raise InstanceLost(f"loading it changes {altered}, which its imports are to see", retry_after_s=0)

    async def fits(self, zygote: LayerZygote, version: Version) -> bool:
        """Whether the version's code hides none of the modules that are imported already: what stands beside the
        handler is found first."""
        folder = self._path(version.code.digest)
        found = await asyncio.get_running_loop().run_in_executor(None, os.listdir, folder)
        if zygote.names.isdisjoint(name.partition(".")[0] for name in found):
            return True
        self._apart.add(version.key)
        return False

    # --- making them

    def consider(self, version: Version, env: dict[str, str], family: Family, process: Process) -> None:
        """The version was loaded without one: make one in the background if its next load would gain by it."""
        ready = process.channel.started.result()
        key = _key_of(version, env, family)
        if not self.may_share(version) or process.report.kind == "layers":
            return
        if ready.altered:
            self._apart.add(version.key)
        elif key in self._refused:
            self._refused[key].add(version.key)
        elif ready.modules and ready.load_ms >= self._ground.options.template_from_ms:
            if key in self._making:
                self._making[key].add(version.key)
            elif key not in self._zygotes and self._budget.would_keep("zygote", key):
                self._making[key] = {version.key}
                self._ground.scope.start(self._make(key, version, env, family, ready.modules), "zygote of layers")

    async def _make(self, key: str, version: Version, env: dict[str, str], family: Family, modules: list[str]) -> None:
        process = None
        try:
            process, _ = await self._blanks.take(family)
            zygote = await self._furnish(version, env, family, modules, process)
        except (FuyunError, TimeoutError) as error:
            _log.warning("no zygote of layers", version=version.key, error=str(error))
            if self._making[key]:
                self._refused[key] = self._making[key]
            if process is not None:
                process.kill("it did not become a zygote of layers")
        else:
            zygote.versions = self._making[key]
            if not zygote.versions:  # they were forgotten meanwhile
                process.kill("it is not needed any more")
            elif not process.gone:
                self._zygotes[key] = zygote
                process.on_end = partial(self._on_end, key)
                listen_to(self._ground, process)
                self._budget.fit()
        finally:
            del self._making[key]

    async def _furnish(
        self, version: Version, env: dict[str, str], family: Family, modules: list[str], process: Process
    ) -> LayerZygote:
        spec, cgroups = version.spec, bool(self._ground.warden.hello.get("cgroup"))
        process.kind, process.memory_bytes = "zygote", spec.memory_bytes
        process.on_end = self._ground.dismiss
        task = loading.task_of(version, env, process.id, template=True, store="", cgroups=cgroups)
        task.update(runtime="layers", modules=modules, mount="", code="", hooks={}, handler="", function="", version="")
        task["env"] = {name: value for name, value in task["env"].items() if not name.startswith("FUYUN_LAYER_")}
        if task["rlimits"]:
            task["rlimits"].update(all_memory=_MOST_BYTES, all_pids=_MOST_PIDS)
        limits = loading.limits_of(spec)
        self._ground.warden.send({"op": "limits", "id": process.id, "limits": limits, "template": True})
        process.specialize(task)
        ready = await asyncio.wait_for(asyncio.shield(process.channel.started), _IMPORT_S)
        if not ready.forkable:
            raise Unavailable(ready.reason)
        sizes = await asyncio.get_running_loop().run_in_executor(None, memory.of, [process.pid])
        return LayerZygote(
            process=process, size_bytes=sizes.get(process.pid, {}).get("private_bytes", 0), used_s=clock.mono_s(),
            namespace=version.namespace, interpreter=family.interpreter.name, layers=len(version.layers),
            names=frozenset(ready.modules), import_ms=ready.load_ms, folders=self._folders(version),
        )  # fmt: skip

    # --- what is told of them

    def import_ms(self, process: Process) -> float:
        """What a load in this process was spared; 0 for one that was not forked from a zygote of layers."""
        known = (*self._zygotes.values(), *self._leaving)
        return next((zygote.import_ms for zygote in known if zygote.process is process.template), 0.0)

    def rows(self) -> list[dict[str, Any]]:
        """What is told of them."""
        found = []
        for zygote in (*self._zygotes.values(), *self._leaving):
            times = savings.Times(import_ms=zygote.import_ms, fork_ms=zygote.fork_ms)
            took_ms, saved_ms = savings.of_rung("layers", times)
            plural = "s" if zygote.layers > 1 else ""
            copies = (one.version for one in self._ground.processes.values() if one.template is zygote.process)
            serves = zygote.versions | {version.key for version in copies if version is not None}
            found.append(
                {
                    "id": zygote.process.id, "pid": zygote.process.pid, "kind": "zygote", "blanks": 0,
                    "version": f"{zygote.namespace}: {zygote.interpreter} with {zygote.layers} layer{plural}",
                    "took_ms": took_ms, "saved_ms": saved_ms, "names": sorted(zygote.names), "serves": sorted(serves),
                }
            )  # fmt: skip
        return found

    # --- ends

    def forget(self, version_key: str) -> None:
        """The version is gone: a set of layers that no other has is given up."""
        self._apart.discard(version_key)
        for key in [key for key, keys in self._refused.items() if version_key in keys]:
            self._refused[key].discard(version_key)
            if not self._refused[key]:
                del self._refused[key]
        for waiting in self._making.values():
            waiting.discard(version_key)
        for key, zygote in list(self._zygotes.items()):
            zygote.versions.discard(version_key)
            if not zygote.versions:
                self._drop(key)
                self._budget.forget("zygote", key)

    def clear(self) -> None:
        """All are gone with the warden."""
        self._zygotes.clear()
        self._leaving.clear()

    def _drop(self, key: str) -> None:
        found = self._zygotes.pop(key, None)
        if found is not None:
            self._leaving.add(found)
            self._end_unused(found)

    def _end_unused(self, zygote: LayerZygote) -> None:
        if zygote in self._leaving and not zygote.instances:
            self._leaving.discard(zygote)
            zygote.process.kill("it is not needed any more")

    def _on_dismiss(self, process: Process) -> None:
        """One that was forked from a zygote of layers, or something else, has ended."""
        for zygote in (*self._zygotes.values(), *self._leaving):
            if zygote.process is process.template:
                zygote.instances.discard(process.id)
                self._end_unused(zygote)

    def _on_end(self, key: str, process: Process) -> None:
        self._ground.dismiss(process)
        if key in self._zygotes and self._zygotes[key].process is process:
            del self._zygotes[key]
        self._leaving = {zygote for zygote in self._leaving if zygote.process is not process}


def _key_of(version: Version, env: dict[str, str], family: Family) -> str:
    """Names what its imports depend on: whose they are, the interpreter, the layers in order, all variables, the number
    of threads that numeric libraries are told."""
    parts = (
        version.namespace, family.interpreter.executable, family.isolation, [a.digest for a in version.layers],
        sorted(env.items()), -int(-version.spec.cpu // 1),
    )  # fmt: skip
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
