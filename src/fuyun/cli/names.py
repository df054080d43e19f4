"""Names of functions for the shell's completion, asked of the platform while the person waits."""

from __future__ import annotations

import threading
from contextlib import suppress

import typer

#: A platform that takes longer completes nothing: the shell stands still meanwhile.
ANSWER_S = 0.3


def function_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The namespace's functions that begin with `incomplete`; none when the platform does not say in time."""
    from fuyun.client.platform import Platform

    namespace = str(ctx.params.get("namespace") or "")
    found: list[str] = []

    def ask() -> None:
        # Whatever goes wrong, there is nobody to tell: the shell shows what is written beside what is typed.
        with suppress(Exception), Platform(namespace=namespace) as platform:
            found.extend(item.name for item in platform.list_functions())

    import httpx  # noqa: F401  (importing it takes a third of the time, and is not the platform's doing)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(ANSWER_S)
    return [] if asking.is_alive() else sorted(name for name in found if name.startswith(incomplete))
