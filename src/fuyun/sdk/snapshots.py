"""Hooks around the copy of an initialised instance (a template): what must not be shared is let go before and made anew
after."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, TypeVar

    Hook = TypeVar("Hook", bound=Callable[[], Any])

before: list[Callable[[], Any]] = []
after: list[Callable[[], Any]] = []


def before_snapshot(hook: Hook) -> Hook:
    """Decorator: call `hook()` when initialisation is done and instances are about to be copied from this process.
    Close connections, join threads. Hooks run in reverse order of registration. A function that registers one promises
    that it can be copied afterwards."""
    before.append(hook)
    return hook


def after_restore(hook: Hook) -> Hook:
    """Decorator: call `hook()` in every copy before its first invocation. Reseed generators of your own, reconnect.
    Hooks run in order of registration; one that raises fails the start."""
    after.append(hook)
    return hook


def run_before() -> None:
    """Run the `before_snapshot` hooks. For the runtime."""
    for hook in reversed(before):
        hook()


def run_after() -> None:
    """Run the `after_restore` hooks. For the runtime."""
    for hook in after:
        hook()
