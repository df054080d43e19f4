"""What went wrong, as the platform is told: codes of `domain/errors.py`, the author's frames, no others.

A Problem is the JSON object `{"code", "message", "error_type", "traceback": [line, ...]}`; see
docs/contracts/runtime.md, section "Errors".
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import traceback
    from typing import Any

_RUNTIME = os.path.dirname(os.path.abspath(__file__)) + os.sep
#: Longest message and traceback of a Problem, so that an error never outgrows a frame or a log.
MESSAGE_CHARS = 8192
TRACEBACK_LINES = 80


class LoadProblem(Exception):
    """Start-up failed. `code` is function_load_failed, handler_missing or function_init_failed; `traceback` is a list
    of lines holding the author's frames only."""

    def __init__(self, code: str, message: str, error_type: str = "", traceback: list[str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.error_type = error_type
        self.traceback = traceback or []

    def problem(self) -> dict[str, Any]:
        """The Problem to send."""
        return problem(self.code, self.message, self.error_type, self.traceback)


class Hangup(BaseException):
    """The platform closed the connection, or broke the protocol: there is nobody left to answer."""


def problem(code: str, message: str, error_type: str = "", traceback: list[str] | None = None) -> dict[str, Any]:
    """A Problem, within its limits."""
    if len(message) > MESSAGE_CHARS:
        message = message[:MESSAGE_CHARS] + "…"
    return {"code": code, "message": message, "error_type": error_type, "traceback": traceback or []}


def describe(exc: BaseException) -> str:
    """`Type: text` of an exception, also when its `__str__` raises."""
    name = type_name(exc)
    try:
        text = str(exc)
    except Exception as inner:
        text = f"<its __str__ raised {type(inner).__name__}>"
    return f"{name}: {text}" if text else name


def type_name(exc: BaseException) -> str:
    """Qualified name of the exception's class, without `builtins.`."""
    kind = type(exc)
    return (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


def raised(exc: BaseException, code_dir: str, code: str = "function_raised") -> dict[str, Any]:
    """The Problem of an exception that came out of the author's code. MemoryError becomes function_out_of_memory: under
    `rlimit` limits it is how the kernel's refusal arrives."""
    if isinstance(exc, MemoryError) and code == "function_raised":
        code = "function_out_of_memory"
    return problem(code, describe(exc), type_name(exc), trim(exc, code_dir))


def trim(exc: BaseException, code_dir: str) -> list[str]:
    """The traceback as lines: frames below `code_dir`, and the innermost frame where the error arose in a library."""
    import traceback

    try:
        found = traceback.TracebackException(type(exc), exc, exc.__traceback__, limit=-200)
        _trim_chain(found, code_dir.rstrip("/") + "/", set())
        lines = "".join(found.format()).splitlines()
    except Exception as inner:  # an exception whose attributes misbehave must not hide that it was raised
        return [describe(exc), f"(no traceback: {describe(inner)})"]
    if len(lines) > TRACEBACK_LINES:
        cut = len(lines) - TRACEBACK_LINES
        half = TRACEBACK_LINES // 2
        lines = [*lines[:half], f"  ... {cut} lines left out ...", *lines[-half:]]
    return [line[:1000] for line in lines]


def _trim_chain(found: traceback.TracebackException, code_dir: str, seen: set[int]) -> None:
    if id(found) in seen:
        return
    seen.add(id(found))
    stack = found.stack
    theirs = [f for f in stack if not f.filename.startswith(_RUNTIME) and not f.filename.startswith("<frozen ")]
    kept = [f for f in theirs if f.filename.startswith(code_dir)]
    if theirs and (not kept or kept[-1] is not theirs[-1]):
        kept.append(theirs[-1])
    stack[:] = kept
    for other in (found.__cause__, found.__context__, *(getattr(found, "exceptions", None) or ())):
        if other is not None:
            _trim_chain(other, code_dir, seen)
