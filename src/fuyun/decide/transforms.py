"""An event's new data by a template. Pure; the JSONPath package is imported when the first transform is compiled."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from fuyun.domain.errors import BadRequest
from fuyun.domain.events import Event, structured
from fuyun.domain.transforms import PIECES, Transform, check_template

if TYPE_CHECKING:
    from jsonpath import JSONPathEnvironment

#: Bytes that a transform may make of one event.
MOST_BYTES = 2**20
#: Characters of a query.
_MOST_QUERY = 1024

_Values = dict[str, Any]


def compiled(transform: Transform) -> Callable[[Event], Event]:
    """A function that gives an event with the new data. BadRequest when the transform is not valid, and from the
    function for an event of which it makes more than `MOST_BYTES`."""
    check_template(transform)
    queries = {name: _query(name, text) for name, text in transform.values.items()}

    def apply(event: Event) -> Event:
        seen = msgspec.json.decode(structured(event))
        found = {name: query(seen) for name, query in queries.items()}
        data = msgspec.json.encode(_filled(transform.template, found))
        if len(data) > MOST_BYTES:
            raise BadRequest(
                f"the transform makes {len(data)} bytes of event {event.id[:80]!r}, {MOST_BYTES} are the most",
                hint="take less of the event",
            )
        made: Event = msgspec.structs.replace(event, content_type="application/json", data=data)
        return made

    return apply


@cache
def _environment() -> JSONPathEnvironment:
    from jsonpath import JSONPathEnvironment

    made = JSONPathEnvironment(strict=True)
    # Patterns of strangers can take exponential time in a backtracking engine.
    for name in ("match", "search"):
        made.function_extensions.pop(name, None)
    return made


def _query(name: str, text: str) -> Callable[[Any], Any]:
    """A function that gives what the query finds: the value of one that leads to one place (null where nothing is), a
    list otherwise."""
    from jsonpath import JSONPath, JSONPathError

    where = f"transform.values.{name}"
    if len(text) > _MOST_QUERY:
        raise BadRequest(f"{where}: a query of {len(text)} characters", hint=f"use up to {_MOST_QUERY}", path=where)
    try:
        query = _environment().compile(text)
    except (JSONPathError, RecursionError, ValueError) as exc:
        said = str(exc).partition("\n")[0]
        raise BadRequest(
            f"{where} is {text[:80]!r}, not a JSONPath query: {said}", hint="write for example $.data.order.id",
            path=where,
        ) from exc  # fmt: skip
    if not (isinstance(query, JSONPath) and query.singular_query()):
        return query.findall

    def one(seen: Any) -> Any:
        found = query.findall(seen)
        return found[0] if found else None

    return one


def _filled(template: Any, values: _Values) -> Any:
    if isinstance(template, str):
        whole = PIECES.fullmatch(template)
        if whole is not None and whole[1] is not None:
            return values[whole[1]]
        return PIECES.sub(lambda piece: _piece(piece, values), template)
    if isinstance(template, dict):
        return {key: _filled(inner, values) for key, inner in template.items()}
    if isinstance(template, list):
        return [_filled(inner, values) for inner in template]
    return template


def _piece(piece: re.Match[str], values: _Values) -> str:
    if piece[1] is None:
        return piece[0][0]
    value = values[piece[1]]
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
