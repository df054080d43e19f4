"""A host and a builder in memory: versions load unless they are told to fail, code compiles to itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuyun.domain.errors import BuildFailed, FuyunError, HostUnable
from fuyun.domain.functions import Artifact, Version
from fuyun.ports.blobs import BlobStore
from fuyun.ports.instances import Instance, StartPlan, StartReport


class MemoryHost:
    """`ports.instances.InstanceHost`: `failing[function]` is what preparing it raises."""

    def __init__(self) -> None:
        self.failing: dict[str, FuyunError] = {}
        self.forgotten: list[str] = []

    async def start(
        self, version: Version, env: dict[str, str], on_gone: Callable[[Instance, FuyunError], None]
    ) -> Instance:
        raise HostUnable("this host starts nothing")

    async def prepare(self, version: Version, env: dict[str, str]) -> StartReport:
        if version.function in self.failing:
            raise self.failing[version.function]
        return StartReport(kind="blank", start_ms=1.0, init_ms=2.0)

    def plan_of(self, version: Version) -> StartPlan:
        return StartPlan(policy=version.spec.start, rung="blank", reason="a socket is open")

    def forget(self, version_key: str) -> None:
        self.forgotten.append(version_key)

    async def inventory(self) -> dict[str, Any]:
        zygote = {"id": "z1", "kind": "zygote", "version": "python3.11", "pid": 42, "pss_bytes": 2**20, "blanks": 2}
        return {"platform": {"pid": 1, "rss_bytes": 5}, "zygotes": [{**zygote, "took_ms": 1.5, "saved_ms": 20.0}]}

    async def close(self) -> None:
        """Nothing runs."""


class MemoryBuilder:
    """`ports.builds.Builder`: every requirement that is not called `missing` builds."""

    def __init__(self, blobs: BlobStore, scratch: Path) -> None:
        self._blobs = blobs
        self._scratch = scratch

    async def build(self, requirements: str, interpreter: Path, progress: Callable[[str], None]) -> Artifact:
        progress("resolving")
        if "missing" in requirements:
            raise BuildFailed("no such package: missing", hint="correct the name", log=["ERROR: missing"])
        self._scratch.mkdir(exist_ok=True)
        (self._scratch / "installed.py").write_text("")
        return await self._blobs.adopt(self._scratch, requirements)

    async def compile(self, code: Artifact, interpreter: Path, progress: Callable[[str], None]) -> Artifact:
        return code
