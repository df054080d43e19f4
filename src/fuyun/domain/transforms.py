"""Templates that make an event's new data out of the event."""

from __future__ import annotations

import re
from typing import Any

from fuyun.domain.errors import BadRequest
from fuyun.domain.functions import Wire
from fuyun.domain.names import nearest

_VALUE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
#: In a text of a template `{{` and `}}` stand for themselves, `{NAME}` for a value; any other brace is a mistake.
PIECES = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]{0,62})\}|[{}]")
_MOST_DEPTH = 20


class Transform(Wire, frozen=True, kw_only=True):
    """`values` are names for JSONPath queries (RFC 9535) of the event in CloudEvents' JSON format; `template` is any
    JSON in which `{NAME}` stands for a value: alone in a text for the value itself, inside one for its text."""

    values: dict[str, str] = {}
    template: Any


def check_template(transform: Transform, where: str = "transform") -> None:
    """BadRequest unless every name in the template has a value, and every value a plain name. The queries are checked
    where they are compiled."""
    for name in transform.values:
        if not _VALUE.fullmatch(name):
            raise BadRequest(
                f"{where}.values: {name[:80]!r} is no name", hint="use letters, digits and _", path=f"{where}.values"
            )
    _check(transform.template, transform.values, f"{where}.template", 0)


def _check(template: Any, values: dict[str, str], where: str, depth: int) -> None:
    if depth > _MOST_DEPTH:
        raise BadRequest(f"{where[:120]}: nested deeper than {_MOST_DEPTH}", hint="write it flatter", path=where[:120])
    if isinstance(template, str):
        for piece in PIECES.finditer(template):
            _check_piece(piece, values, where)
    elif isinstance(template, dict):
        for key, inner in template.items():
            _check(inner, values, f"{where}.{key}", depth + 1)
    elif isinstance(template, list):
        for place, inner in enumerate(template):
            _check(inner, values, f"{where}[{place}]", depth + 1)


def _check_piece(piece: re.Match[str], values: dict[str, str], where: str) -> None:
    name = piece[1]
    if name is None and piece[0] in "{}":
        raise BadRequest(
            f"{where}: a {piece[0]!r} at character {piece.start() + 1} that belongs to no {{NAME}}",
            hint=f"write {piece[0] * 2} for the brace itself",
            path=where,
        )
    if name is not None and name not in values:
        close = nearest(name, values)
        raise BadRequest(
            f"{where}: {{{name}}} has no value" + (f"; did you mean {{{close}}}?" if close else ""),
            hint=f"add {name}: $.data... to values",
            path=where,
        )
