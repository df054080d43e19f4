"""ETags, If-Match and If-None-Match over revisions (RFC 9110, sections 8.8 and 13)."""

from __future__ import annotations

import re

from starlette.requests import Request

from fuyun.domain.errors import BadRequest, PreconditionFailed

_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')


def etag(revision: int) -> str:
    """The entity tag of a revision: `"3"`."""
    return f'"{revision}"'


def expected_revision(request: Request, current: int | None, kind: str) -> int | None:
    """What a write may go out from: `current` (None: there is none yet) must keep the request's conditions, else
    PreconditionFailed. The answer is the revision to compare-and-set against (0: must be absent), None without any."""
    match, none_match = request.headers.get("if-match"), request.headers.get("if-none-match")
    if match is None and none_match is None:
        return None
    found = "" if current is None else etag(current)
    if match is not None and not _strong_match(match, current):
        raise PreconditionFailed(
            f"the {kind} is at revision {found}, not {match}"
            if found
            else f"there is no such {kind}, If-Match is {match}",
            hint="read it again and decide on what it is now",
            etag=found,
        )
    if none_match is not None and _weak_match("If-None-Match", none_match, current):
        raise PreconditionFailed(
            f"the {kind} exists, at revision {found}", hint="use If-Match to change it", etag=found
        )
    return current or 0


def not_modified(request: Request, current: int) -> bool:
    """True when a read's If-None-Match names the current revision."""
    given = request.headers.get("if-none-match")
    return given is not None and _weak_match("If-None-Match", given, current)


def _strong_match(value: str, current: int | None) -> bool:
    tags = _tags("If-Match", value)
    if tags is None:
        return current is not None
    return current is not None and (False, str(current)) in tags


def _weak_match(header: str, value: str, current: int | None) -> bool:
    tags = _tags(header, value)
    if tags is None:
        return current is not None
    return current is not None and any(tag == str(current) for _, tag in tags)


def _tags(header: str, value: str) -> list[tuple[bool, str]] | None:
    """The list of (weak, tag), or None for `*`."""
    if value.strip() == "*":
        return None
    tags: list[tuple[bool, str]] = []
    for part in value.split(","):
        found = _TAG.fullmatch(part.strip())
        if found is None:
            raise BadRequest(f"{header} is {value!r}", hint='write it as an ETag came, like "3", or *', path=header)
        tags.append((found[1] is not None, found[2]))
    return tags
