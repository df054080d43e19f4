"""Runs scenes by name, one a line on standard input: `ok` or the traceback as a JSON text per line on standard output.

`python -m tests.drivers.instances.scenes.run` as an account without rights; `play` in the tests' own process.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import traceback
import warnings
from collections.abc import Awaitable, Callable
from types import ModuleType

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
from tests.drivers.instances.scenes.rig import INTERPRETERS
from tests.waiting import wait_until

MODULES: tuple[ModuleType, ...] = (
    starting, ending, breaking, programs, keeping, sparing, layering, keepers, nodes, servers, warming,
)  # fmt: skip


def scenes() -> dict[str, Callable[[], Awaitable[None]]]:
    """Every scene by its name."""
    return {
        f"{module.__name__.rpartition('.')[2]}.{name}": function
        for module in MODULES
        for name, function in vars(module).items()
        if inspect.iscoroutinefunction(function) and function.__module__ == module.__name__ and name[0] != "_"
    }


def play(name: str) -> None:
    """Run one scene; it may leave no task, descriptor, process or control group behind."""
    if not INTERPRETERS.all():
        raise AssertionError("no interpreter")
    descriptors, children = leaks.open_descriptors(), leaks.children()
    asyncio.run(scenes()[name]())  # type: ignore[arg-type]
    wait_until(lambda: not leaks.children() - children, "its processes to end", 5)
    assert not (opened := leaks.settled_descriptors(descriptors)), f"descriptors left open: {opened}"
    ours = f"fuyun-rig-{os.getpid()}."
    wait_until(lambda: not [path for path in leaks.cgroups() if ours in path], "its control groups to go", 5)


def main() -> None:
    """Serve names until the end of input."""
    warnings.simplefilter("error")
    leaks.adopt_orphans()
    for line in sys.stdin:
        try:
            play(line.strip())
        except BaseException:
            print(json.dumps(traceback.format_exc()), flush=True)
        else:
            print('"ok"', flush=True)


if __name__ == "__main__":
    main()
