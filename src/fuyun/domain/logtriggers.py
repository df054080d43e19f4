"""Triggers of log lines: which lines, of which function, by what stands in them.

A pattern is in the syntax of RE2, which takes time in proportion to the line, whatever is written:
https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fuyun.domain.errors import BadRequest
from fuyun.domain.names import check_name
from fuyun.domain.wire import Wire

#: Bytes that a compiled pattern may take.
_PATTERN_BYTES = 1 << 20


class LogTrigger(Wire, frozen=True, kw_only=True):
    """Calls the function with lines that functions of its namespace log, from its deployment on; never with its own."""

    function: str = ""  # whose lines; "" is all others of the namespace
    contains: str = ""  # what must stand in the line
    pattern: str = ""  # a regular expression that must match somewhere in it
    alias: str = ""  # qualifier that serves it; "" is $LATEST


def matcher_of(trigger: LogTrigger) -> Callable[[str], bool]:
    """Whether a line's text is wanted, before the policy's filter. BadRequest for a pattern that is none."""
    contains = trigger.contains
    if not trigger.pattern:
        return lambda text: contains in text
    import re2  # 2 MB that only who has such a pattern needs

    options: Any = re2.Options()
    options.log_errors = False
    options.max_mem = _PATTERN_BYTES
    try:
        found = re2.compile(trigger.pattern, options)
    except re2.error as exc:
        why = exc.args[0] if exc.args else b""
        told = why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)
        raise BadRequest(f"{trigger.pattern[:80]!r} is no pattern: {told}", hint="write it in RE2's syntax") from exc
    return lambda text: contains in text and found.search(text) is not None


def check_log(trigger: LogTrigger) -> None:
    """BadRequest that says what of it cannot be."""
    if trigger.function:
        check_name("function", trigger.function)
    if max(len(trigger.contains), len(trigger.pattern)) > 1000:
        raise BadRequest("contains and pattern have up to 1000 characters", hint="write less")
    matcher_of(trigger)
