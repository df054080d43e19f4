"""Runs scenes by name, one a line on standard input: `ok` or the traceback as a JSON text per line on standard output.

`python -m tests.drivers.instances.scenes.run` as whoever is to play them. All are played on one loop, beside or on the
one open host (`hosts.Shared`).
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import os
import re
import sys
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import ModuleType
from typing import Any

from tests import leaks
from tests.drivers.instances.scenes import (
    breaking,
    ending,
    keepers,
    keeping,
    layering,
    nodes,
    programs,
    servers,
    sparing,
    starting,
    warming,
)
from tests.drivers.instances.scenes.hosts import SHARED
from tests.drivers.instances.scenes.rig import INTERPRETERS

MODULES: tuple[ModuleType, ...] = (
    starting, ending, breaking, programs, keeping, sparing, layering, keepers, nodes, servers, warming,
)  # fmt: skip
#: How long what a scene has used may take to go.
_GOING_S = 10.0


def scenes() -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
    """Every scene by its name."""
    return {
        f"{module.__name__.rpartition('.')[2]}.{name}": function
        for module in MODULES
        for name, function in vars(module).items()
        if inspect.iscoroutinefunction(function) and function.__module__ == module.__name__ and name[0] != "_"
    }


async def _held() -> Counter[str]:
    """What this process holds: tasks, descriptors, processes, folders of control groups."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    pids = [pid for pid in leaks.descendants(os.getpid()) if leaks.state_of(pid) not in ("", "Z", "X")]
    groups = [path for path in leaks.cgroups() if f"/fuyun-rig-{os.getpid()}" in path]
    found = Counter(f"task {getattr(task.get_coro(), '__qualname__', task)}" for task in tasks)
    found.update("descriptor " + re.sub(r"\d+", "", target) for target in leaks.open_descriptors().values())
    found.update(f"process {leaks.command_of(pid)}" for pid in pids)
    found.update(f"control group in {group}" for group in groups for path in Path(group).glob("*/"))
    found.update(f"control groups {group}" for group in groups)
    return found


async def _let_go(before: Counter[str]) -> None:
    """Wait until all is as it was before."""
    try:
        async with asyncio.timeout(_GOING_S):
            while (now := await _held()) != before:
                if all(name.startswith("descriptor") for name in (now - before) + (before - now)):
                    gc.collect()  # gives forgotten objects their chance
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"left behind: {dict(now - before)}; missing: {dict(before - now)}") from None


class Stage:
    """Where scenes are played, on one loop. `errors`: what was raised where nobody catches it."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self._runner = asyncio.Runner()
        self._empty = self._runner.run(_held())
        if not INTERPRETERS.all():
            raise AssertionError("no interpreter")

    def play(self, name: str) -> None:
        """Play one scene; it may leave no task, descriptor, process, control group or change of the host behind."""
        try:
            self._runner.run(self._play(scenes()[name]))
        except BaseException:  # nobody knows what state the host is in, or what goes on
            self._runner.run(SHARED.close())
            self._runner.close()
            self._runner = asyncio.Runner()
            raise

    async def _play(self, scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if not SHARED.is_open:
            await SHARED.open()
        before = await _held()
        await scene()
        await _let_go(before)
        SHARED.check()
        self._check_errors()

    def close(self) -> None:
        """End the host: nothing at all may be left."""
        self._runner.run(SHARED.close())
        self._runner.run(_let_go(self._empty))
        self._runner.close()
        gc.collect()
        self._check_errors()

    def _check_errors(self) -> None:
        errors, self.errors = self.errors, []
        assert not errors, "\n".join(errors)


def main() -> int:
    """Serve names until the end of input; a status that is not zero says that something was left at the end."""
    warnings.simplefilter("error")
    leaks.adopt_orphans()
    stage = Stage()
    sys.unraisablehook = lambda raised: stage.errors.append(f"{raised.err_msg or ''} {raised.exc_value!r}")
    threading.excepthook = lambda raised: stage.errors.append(repr(raised.exc_value))
    for line in sys.stdin:
        try:
            stage.play(line.strip())
        except BaseException:
            print(json.dumps(traceback.format_exc()), flush=True)
        else:
            print('"ok"', flush=True)
    stage.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
