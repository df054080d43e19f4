"""What the node holds ready and runs, what that takes in memory and saves in milliseconds."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from fuyun.decide import savings
from fuyun.drivers.instances import memory
from fuyun.drivers.instances.blanks import Blanks
from fuyun.drivers.instances.ground import Ground
from fuyun.drivers.instances.layerzygotes import LayerZygotes
from fuyun.drivers.instances.parents import Budget
from fuyun.drivers.instances.process import Process
from fuyun.drivers.instances.templates import Templates

#: What is listed besides zygotes.
_KINDS = ("blank", "template", "spare", "instance")


class Inventory:
    """Looks at the parts of the instance host."""

    def __init__(
        self, ground: Ground, blanks: Blanks, templates: Templates, layers: LayerZygotes, budget: Budget
    ) -> None:
        self._ground = ground
        self._blanks = blanks
        self._templates = templates
        self._layers = layers
        self._budget = budget

    async def take(self) -> dict[str, Any]:
        """Zygotes, blanks, templates, spares and instances with pids and memory in bytes; none that is being made."""
        warden = self._ground.warden
        held = [process for process in self._ground.processes.values() if process.pid and process.kind in _KINDS]
        rows = [self._row(process) for process in held]
        zygotes = self._blanks.zygotes()
        for zygote in zygotes:
            launch_ms, spawn_ms = self._blanks.times_of(zygote["id"])
            took_ms, saved_ms = savings.of_rung("zygote", savings.Times(launch_ms=launch_ms, spawn_ms=spawn_ms))
            zygote.update(took_ms=took_ms, saved_ms=saved_ms)
        zygotes += self._layers.rows()
        pids, own = [row["pid"] for row in [*rows, *zygotes]], [warden.pid, os.getpid()]
        sizes = await asyncio.get_running_loop().run_in_executor(
            None, lambda: {**memory.of_trees(pids), **memory.of(own)}
        )
        for row in [*rows, *zygotes]:
            row.update(sizes.get(row["pid"], {}))
        return {
            "warden": {"pid": warden.pid, **warden.hello, **sizes.get(warden.pid, {})},
            "platform": {"pid": os.getpid(), **sizes.get(os.getpid(), {})},
            "zygotes": zygotes,
            **{f"{kind}s": [row for row in rows if row["kind"] == kind] for kind in _KINDS},
            "budget": self._budget.told(),
        }

    def _row(self, process: Process) -> dict[str, Any]:
        key = process.version.key if process.version is not None else ""
        took_ms, saved_ms = self._worth(process)
        return {
            "id": process.id, "pid": process.pid, "kind": process.kind, "version": key, "inflight": process.inflight,
            "start": process.report.kind, "reason": self._templates.reasons.get(key, ""),
            "took_ms": took_ms, "saved_ms": saved_ms,
        }  # fmt: skip

    def _worth(self, process: Process) -> tuple[float | None, float | None]:
        """What a start from it takes and saves; of an instance what its own start took and saved."""
        launch_ms, spawn_ms = self._blanks.times_of(process.zygote)
        template, report = self._templates.of(process), process.report
        times = savings.Times(launch_ms=launch_ms, spawn_ms=spawn_ms)
        if template is not None:
            loaded = template.process.report
            times = savings.Times(
                load_ms=loaded.start_ms + loaded.init_ms, fork_ms=template.fork_ms, take_ms=template.take_ms
            )
        elif report.kind == "layers":
            times = savings.Times(import_ms=self._layers.import_ms(process))
        if process.kind != "instance":
            return savings.of_rung(process.kind, times)
        took_ms = report.place_ms + report.start_ms + report.init_ms
        return took_ms, savings.of_start(report.kind, took_ms, times)
