"""What may be a name, and the nearest valid one when it is not."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from fuyun.domain.errors import BadRequest

LATEST = "$LATEST"
DEFAULT_NAMESPACE = "default"

_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_QUALIFIER = re.compile(r"\$LATEST|[1-9][0-9]{0,9}|[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")


def check_name(kind: str, name: str) -> str:
    """`name` itself, or BadRequest: 1-63 of a-z, 0-9 and -, starting with a letter, not ending with -."""
    if not _NAME.fullmatch(name):
        raise BadRequest(
            f"{name!r} is not a valid {kind} name",
            hint="use 1 to 63 of a-z, 0-9 and '-', starting with a letter and not ending with '-'",
            path=kind,
        )
    return name


def check_qualifier(qualifier: str) -> str:
    """`qualifier` itself (`$LATEST`, a version number or an alias), or BadRequest."""
    if not _QUALIFIER.fullmatch(qualifier):
        raise BadRequest(
            f"{qualifier!r} is neither $LATEST, a version number nor an alias name",
            hint="write NAME:$LATEST, NAME:3 or NAME:live",
            path="qualifier",
        )
    return qualifier


def check_secret_name(name: str) -> str:
    """`name` itself, or BadRequest: 1-128 of letters, digits, _, . and -, starting with a letter or _."""
    if not _SECRET.fullmatch(name):
        raise BadRequest(
            f"{name[:140]!r} is not a secret's name", path="name",
            hint="use 1 to 128 of A-Z, a-z, 0-9, '_', '.' and '-', starting with a letter or '_'",
        )  # fmt: skip
    return name


def parse_layer(text: str) -> tuple[str, int]:
    """`NAME:NUMBER` as (name, number); 0 stands for the newest where the number is left out. BadRequest."""
    name, colon, number = text.partition(":")
    try:
        check_name("layer", name)
        if colon and not _NUMBER.fullmatch(number):
            raise BadRequest(f"{number!r} is not the number of a version")
    except BadRequest as exc:
        raise BadRequest(
            f"layers: {text[:80]!r} names no layer: {exc.detail}",
            hint="write NAME:NUMBER, or NAME for the newest version; `fuyun layer list` shows them",
            path="layers",
        ) from exc
    return name, int(number) if colon else 0


def check_layers(references: tuple[str, ...], most: int) -> tuple[tuple[str, int], ...]:
    """Each of `references` as `parse_layer` gives it; BadRequest for more than `most`, or a layer named twice."""
    if len(references) > most:
        raise BadRequest(f"layers: {len(references)} layers", hint=f"use at most {most}", path="layers")
    found = tuple(parse_layer(reference) for reference in references)
    names = [name for name, _ in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadRequest(f"layers: {twice!r} stands twice", hint="name each layer once, in one version", path="layers")
    return found


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, or None when none is close."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None
