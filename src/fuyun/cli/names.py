"""Names of functions for the shell's completion, from the platform or the project file, while the person waits."""

from __future__ import annotations

import threading
from contextlib import suppress

import typer

#: A platform that takes longer completes nothing: the shell stands still meanwhile.
ANSWER_S = 0.3


def function_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The namespace's functions that begin with `incomplete`; none when the platform does not say in time."""
    from fuyun.client.http import load_httpx
    from fuyun.client.platform import Platform

    namespace = str(ctx.params.get("namespace") or "")
    found: list[str] = []

    def ask() -> None:
        # Whatever goes wrong, there is nobody to tell: the shell shows what is written beside what is typed.
        with suppress(Exception), Platform(namespace=namespace) as platform:
            found.extend(item.name for item in platform.list_functions())

    load_httpx()  # takes a third of the time, and is not the platform's doing

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(ANSWER_S)
    return [] if asking.is_alive() else sorted(name for name in found if name.startswith(incomplete))


def project_functions(ctx: typer.Context, incomplete: str) -> list[str]:
    """The project file's functions that begin with `incomplete` and are not chosen yet; none when it cannot be read."""
    from pathlib import Path

    import yaml

    from fuyun.client.project import find_project_file

    # An option that waits for its value ends click's parsing before arguments are given their names.
    path = Path(ctx.args[0] if ctx.args else ctx.params.get("path") or ".")
    found: list[str] = []
    with suppress(Exception):  # as above, there is nobody to tell
        # Only the names: a file that is not finished yet completes as well.
        project = yaml.safe_load(find_project_file(path).read_text(encoding="utf-8"))
        found.extend(str(name) for name in project["functions"])
    chosen = ctx.params.get("function") or ()
    return sorted(name for name in found if name.startswith(incomplete) and name not in chosen)
