"""Whether a filter takes an event: filters compiled to closures. Pure."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import msgspec

from fuyun.domain.events import Event
from fuyun.domain.filters import (
    AllOf,
    AllTests,
    AnyOf,
    AnyTest,
    AnythingBut,
    Equals,
    Exists,
    Filter,
    Line,
    NotOf,
    NotTest,
    Numeric,
    OfText,
    Scalar,
    Test,
    read_filter,
)

#: Stands for a value that is not there.
MISSING: Final = object()

_Check = Callable[[Any], bool]
_SIGNS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


class View:
    """An event as filters see it. The data is decoded when a filter first asks for it; data that is no JSON is not
    there."""

    __slots__ = ("_data", "_event")

    def __init__(self, event: Event) -> None:
        self._event = event
        self._data: Any = View

    def value(self, path: tuple[str, ...]) -> Any:
        """What `path` leads to, MISSING where it leads nowhere; a list of it for every item of arrays on the way."""
        if path[0] != "data":
            return self._attribute(path[0])
        if self._data is View:
            self._data = _decoded(self._event)
        return _walk(self._data, path, 1)

    def _attribute(self, name: str) -> Any:
        event = self._event
        match name:
            case "id" | "source" | "type":
                return getattr(event, name)
            case "subject":
                return event.subject or MISSING
            case "time":
                return event.time_text
            case "datacontenttype":
                return event.content_type
            case _:
                return event.extensions.get(name, MISSING)


def compiled(found: Filter) -> Callable[[View], bool]:
    """A function that says whether `found` takes an event."""
    match found:
        case Line(path, test):
            check = _check(test)
            return lambda view: check(view.value(path))
        case AllOf(parts):
            every = tuple(map(compiled, parts))
            return lambda view: all(part(view) for part in every)
        case AnyOf(parts):
            some = tuple(map(compiled, parts))
            return lambda view: any(part(view) for part in some)
        case NotOf(part):
            inner = compiled(part)
            return lambda view: not inner(view)


def matches(found: Filter, event: Event) -> bool:
    """Whether `found` takes `event`; who asks for many events keeps what `compiled` gives."""
    return compiled(found)(View(event))


@lru_cache(maxsize=1024)
def compiled_text(text: bytes) -> Callable[[View], bool]:
    """What `compiled` gives for a filter as JSON, kept for those who ask again. BadRequest when it is none."""
    return compiled(read_filter(msgspec.json.decode(text)))


def _check(test: Test) -> _Check:
    """A function of a value, MISSING for none. An array passes when one of its items does."""
    match test:
        case Exists(there):
            return lambda value: (value is not MISSING) is there
        case NotTest(inner):
            negated = _check(inner)
            return lambda value: value is not MISSING and not negated(value)
        case AnyTest(tests):
            some = tuple(map(_check, tests))
            return lambda value: any(one(value) for one in some)
        case AllTests(tests):
            every = tuple(map(_check, tests))
            return lambda value: all(one(value) for one in every)
        case AnythingBut(values):
            refused = _either(_equal_to(values))
            return lambda value: value is not MISSING and not refused(value)
        case Equals(values):
            return _either(_equal_to(values))
        case OfText(how, text):
            return _either(_of_text(how, text))
        case Numeric(comparisons):
            signs = tuple((_SIGNS[sign], number) for sign, number in comparisons)
            return _either(lambda value: _is_number(value) and all(holds(value, number) for holds, number in signs))


def _either(check: _Check) -> _Check:
    """`check` of a value itself, or of one item of an array."""

    def either(value: Any) -> bool:
        if isinstance(value, list):
            return any(either(item) for item in value)
        return value is not MISSING and check(value)

    return either


def _equal_to(values: tuple[Scalar, ...]) -> _Check:
    # 1 equals 1.0, and neither equals true: JSON's kinds, not Python's.
    known = frozenset((isinstance(value, bool), value) for value in values)
    return lambda value: not isinstance(value, dict) and (isinstance(value, bool), value) in known


def _of_text(how: str, text: str) -> _Check:
    match how:
        case "prefix":
            return lambda value: isinstance(value, str) and value.startswith(text)
        case "suffix":
            return lambda value: isinstance(value, str) and value.endswith(text)
        case _:
            folded = text.casefold()
            return lambda value: isinstance(value, str) and value.casefold() == folded


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _decoded(event: Event) -> Any:
    if not event.is_json or not event.data:
        return MISSING
    try:
        return msgspec.json.decode(event.data)
    except (msgspec.DecodeError, RecursionError):
        return MISSING


def _walk(value: Any, path: tuple[str, ...], place: int) -> Any:
    if place == len(path) or value is MISSING:
        return value
    if isinstance(value, dict):
        return _walk(value.get(path[place], MISSING), path, place + 1)
    if isinstance(value, list):
        found = [item for item in (_walk(item, path, place) for item in value) if item is not MISSING]
        return found or MISSING
    return MISSING
