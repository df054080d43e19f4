"""Exit codes. One table: error class -> code; the nearest class in the error's own line of ancestors counts."""

from __future__ import annotations

from fuyun.domain import errors

OK = 0
PLATFORM = 1
USAGE = 2
FUNCTION = 3
NOT_FOUND = 4
CONFLICT = 5
INTERRUPTED = 130

#: What each code means, as the reference prints it.
MEANINGS = {
    OK: "done",
    PLATFORM: "the platform (or the way to it) failed or refused",
    USAGE: "the command, a file or a value it was given is wrong",
    FUNCTION: "the function failed: its code, its dependencies or its limits",
    NOT_FOUND: "what was named does not exist",
    CONFLICT: "it exists already, or something else changed it meanwhile",
    INTERRUPTED: "interrupted by Ctrl-C",
}

CODES: dict[type[errors.FuyunError], int] = {
    errors.FuyunError: PLATFORM,
    errors.BadRequest: USAGE,
    errors.PayloadTooLarge: USAGE,
    errors.NotFound: NOT_FOUND,
    errors.Conflict: CONFLICT,
    errors.PreconditionFailed: CONFLICT,
    errors.FunctionError: FUNCTION,
}


def exit_code(error: errors.FuyunError) -> int:
    """The exit code for an error."""
    for cls in type(error).__mro__:
        if issubclass(cls, errors.FuyunError) and cls in CODES:
            return CODES[cls]
    return PLATFORM
