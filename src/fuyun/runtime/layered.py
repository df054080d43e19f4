"""Zygotes of layers: what a load tells of its imports, and a process that has done those imports and is only forked.

Such a process has run code of its namespace, so it is shut in like a template and has no right that an instance lacks;
it knows no function (docs/decisions/0023).
"""

from __future__ import annotations

import os
import sys
from time import monotonic_ns

from fuyun.runtime import forking, streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

    from fuyun.runtime.loader import App

#: A version that loads more modules than this from its layers tells of none.
_MODULES = 6000


class Learning:
    """Looks on while a version is loaded. `folders`: those of its layers."""

    def __init__(self, task: dict[str, Any], folders: list[str]) -> None:
        self._folders = tuple(folder + "/" for folder in folders)
        self._environment = dict(os.environ)
        self._path = sys.path[:]

    def result(self) -> dict[str, Any]:
        """`modules`: those that came from layers, in the order of their import. `altered`: what the load changed that a
        module may look at when it is imported, "" for nothing: an import before the load would be another."""
        altered = "its environment" if os.environ != self._environment else ""
        if sys.path != self._path:
            altered = "sys.path"
        found = [name for name, module in list(sys.modules.items()) if self._is_layers(name, module)]
        return {"modules": found if len(found) <= _MODULES else [], "altered": altered}

    def _is_layers(self, name: str, module: object) -> bool:
        origin = getattr(getattr(module, "__spec__", None), "origin", None)
        own = getattr(module, "__name__", "") == name
        return own and isinstance(origin, str) and origin.startswith(self._folders)


def furnish(task: dict[str, Any], send: Optional[Callable[[bytes], None]] = None) -> App:
    """Import the `modules` of the task from its layers, under its environment. The result is no function's: it only
    says whether and why (not) it can be forked."""
    from fuyun.runtime.loader import DEFAULTS, App, search_layers, set_environment

    task = {**DEFAULTS, **task}
    streams.install("", int(task["log_bytes"]), send)
    set_environment(task)
    search_layers(task)
    before, known = forking.Holdings.now(), set(sys.modules)
    environment, path = dict(os.environ), sys.path[:]
    started = monotonic_ns()
    problem = _import_all(task["modules"])
    app = App(task, None, "layers", False)
    app.load_ms = (monotonic_ns() - started) / 1e6
    forking.judge(app, before)
    if os.environ != environment or sys.path != path:
        problem = problem or "importing them changes the environment"
    if problem:
        app.forkable, app.reason = False, problem
    app.learned = {"modules": sorted({name.partition(".")[0] for name in set(sys.modules) - known})}
    return app


def _import_all(names: list[str]) -> str:
    """Why one could not be imported, "" when all are."""
    import gc

    gc.disable()
    try:
        for name in names:
            if name not in sys.modules:
                __import__(name)
    except BaseException as error:
        return f"importing {name} without the function failed: {type(error).__name__}: {error}"[:500]
    finally:
        gc.enable()
    return ""
