"""How `probe` finds things out, and says so."""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable


def check(name: str, state: str, found: str, todo: str = "", required: bool = False) -> dict[str, Any]:
    """One line of the table. `state` is ok, limited or missing; without a `required` one functions cannot run."""
    return {"name": name, "state": state, "found": found, "todo": todo if state != "ok" else "", "required": required}


def attempt(action: Callable[[], str]) -> tuple[bool, str]:
    """Run `action` in a child process: (True, what it returned) or (False, its error)."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(read_end)
            try:
                text, code = action(), 0
            except OSError as exc:
                text = f"{exc.strerror or exc} ({errno.errorcode.get(exc.errno or 0, exc.errno)})"
            except Exception as exc:
                text = f"{type(exc).__name__}: {exc}"
            os.write(write_end, text.encode("utf-8", "replace")[:4000])
        finally:
            os._exit(code)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        said = pipe.read().decode("utf-8", "replace")
    _, status = os.waitpid(pid, 0)
    return status == 0, said or (f"ended with status {status}" if status else "")


def read(path: str) -> str:
    """A file's text without surrounding space, "" when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
