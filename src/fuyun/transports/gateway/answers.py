"""How the head of an answer is written: status lines, the fields a function chose, problems."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from fuyun.domain.errors import BadResponse, FunctionError, FuyunError
from fuyun.transports.gateway.intake import HOP_BY_HOP, tokens
from fuyun.transports.web.problems import PROBLEM, problem_answer


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


#: Final statuses a function may answer with, as the line they are sent as.
STATUS_LINES: Final[dict[int, str]] = {status: f"HTTP/1.1 {status} {_phrase(status)}\r\n" for status in range(200, 600)}

#: Statuses whose answers have no body (RFC 9110 section 6.4.1).
BODYLESS: Final = frozenset({204, 304})

#: Start of the commonest head: 200 with JSON.
JSON_HEAD: Final = STATUS_LINES[200] + "Content-Type: application/json\r\nContent-Length: "

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

#: Fields the gateway writes itself; a function's own are dropped. Content-Length is read before it is dropped.
_OURS: Final = HOP_BY_HOP | {
    "content-length",
    "date",
    "fuyun-request-id",
    "fuyun-version",
    "fuyun-start",
}
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_KEPT: Final = 4096

#: Field name as a function wrote it -> "Name: " to send, or "" when it is one of ours.
_names: Final[dict[object, str]] = {}


def check_status(status: object) -> str:
    """The status line, or BadResponse for what is not a final HTTP status."""
    line = STATUS_LINES.get(status) if isinstance(status, int) else None
    if line is None:
        raise BadResponse(f"the function answered with status {status!r}", hint="return a statusCode from 200 to 599")
    return line


def _learn(name: object) -> str:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise BadResponse(
            f"the function answered with a header named {name!r}", hint="use letters, digits and '-' in header names"
        )
    prefix = "" if name.lower() in _OURS else f"{name}: "
    if len(name) <= 64:
        if len(_names) >= _KEPT:
            _names.clear()
        _names[name] = prefix
    return prefix


def _value(name: object, value: object) -> str:
    if not isinstance(value, str) or _FORBIDDEN.search(value):
        raise BadResponse(
            f"the function answered with {str(value)[:64]!r} in the header {name!r}",
            hint="remove line breaks and control characters from header values",
        )
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        # Octets above ASCII are opaque (RFC 9110 section 5.5); UTF-8 is what clients that read them expect.
        return value.encode("utf-8", "replace").decode("latin-1")
    return value


def write_fields(headers: Iterable[tuple[object, object]], cors: bool) -> tuple[str, int]:
    """(lines, declared length or -1) of the fields a function chose, in order, repeated ones repeated.

    Dropped are hop-by-hop fields and those the gateway writes; with `cors` also the function's own Access-Control ones,
    because the route's rules are in force. Raises BadResponse for anything that is not a header.
    """
    lines = []
    declared = -1
    listed: list[str] = []
    for name, value in headers:
        prefix = _names.get(name)
        if prefix is None:
            prefix = _learn(name)
        if not (isinstance(value, str) and value.isascii() and value.isprintable()):
            value = _value(name, value)
        if prefix:
            if cors and prefix[:15].lower() == "access-control-":
                continue
            lines.append(f"{prefix}{value}\r\n")
        elif (lower := str(name).lower()) == "content-length":
            if not (value.isascii() and value.isdigit()) or declared not in (-1, int(value)):
                raise BadResponse(f"the function answered with Content-Length {value!r}", hint="leave the header out")
            declared = int(value)
        elif lower == "connection":
            listed += tokens(value)
    if listed:
        lines = [line for line in lines if line.partition(":")[0].lower() not in listed]
    return "".join(lines), declared


def write_problem(error: FuyunError, request_id: str, public: bool) -> tuple[str, str, bytes, int]:
    """(status line, fields, body, status) of the answer that reports `error`.

    To a `public` caller a function's failure is told without its message and traceback: strangers learn nothing of
    the code, and the request id leads its author to the log.
    """
    shown = error
    if public and isinstance(error, FunctionError):
        shown = type(error)("the function failed", hint="its author finds the reason in the log, under this request id")
    status, headers, body = problem_answer(shown, request_id)
    extra = "".join(f"{name.title()}: {value}\r\n" for name, value in headers.items() if "\r" not in value)
    line = STATUS_LINES.get(status) or STATUS_LINES[500]
    return line, f"Content-Type: {PROBLEM}\r\n{extra}", body, status
