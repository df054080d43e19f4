"""Hooks that modules register with `os.register_at_fork`, kept from running when a zygote forks a blank.

They repair locks and thread tables for forks of processes that have threads. A zygote has one thread and holds no lock
when it forks, so there is nothing to repair, while running them would copy 165 pages in every blank (CPython 3.11).
A template, which forks in the same state, does without them too. Everywhere else they are armed: a fork that an
author's code makes runs them all.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

_found: dict[str, list[Callable[[], Any]]] = {"before": [], "after_in_parent": [], "after_in_child": []}
_armed = False
_register = os.register_at_fork


def collect() -> None:
    """Take what modules register from now on. Call it before the import of any module that does."""
    _register(
        before=lambda: _armed and _run(_found["before"][::-1]),  # the order of os.register_at_fork
        after_in_parent=lambda: _armed and _run(_found["after_in_parent"]),
        after_in_child=lambda: _armed and _run(_found["after_in_child"]),
    )
    vars(os)["register_at_fork"] = _note


def settle() -> None:
    """What is registered from now on is not taken."""
    vars(os)["register_at_fork"] = _register


def _note(**hooks: Callable[[], Any]) -> None:
    for kind, hook in hooks.items():
        _found[kind].append(hook)


def arm(armed: bool = True) -> None:
    """Whether they run from the next fork on."""
    global _armed
    _armed = armed


def _run(hooks: list[Callable[[], Any]]) -> bool:
    for hook in hooks:
        hook()
    return True
