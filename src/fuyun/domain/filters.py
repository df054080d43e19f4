"""The filter language: which events a rule, a subscription or a trigger takes. Its text, read and checked.

A filter is a mapping; all of its lines must hold:

    type: order.created                     equals
    source: {prefix: /shop/}                one of the operators below; several in one mapping must all hold
    data.country: [DE, {prefix: A}]         a list: any of its tests
    data.amount: {numeric: [">", 0, "<=", 100]}
    any: [{...}, {...}]                     of filters; `all` likewise
    not: {...}                              of a filter

A line's key is an attribute of the event (`id`, `source`, `type`, `subject`, `time`, `datacontenttype`, an extension),
or `data` with a path into JSON: `data.order.country`; a dot or backslash that belongs to a name has a backslash before
it. Where a path leads to an array, the test holds when it holds for one of its items.

| operator | holds when the value |
|---|---|
| `equals` | is this text, number, truth value or null |
| `equals-ignore-case`, `prefix`, `suffix` | is a text that equals, begins, ends so |
| `anything-but` | is there and none of these (one value or a list) |
| `numeric` | is a number and all comparisons hold: `=`, `!=`, `<`, `<=`, `>`, `>=` |
| `exists` | is there (`true`) or not (`false`); null is there |
| `not` | does not pass the test; a value that is missing does not either |

Reading a filter takes time linear in its size, matching one linear in filter and event: there are no patterns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from fuyun.domain.errors import BadRequest
from fuyun.domain.names import nearest

#: A filter may be nested so deep and hold so many tests.
MOST_DEPTH = 8
MOST_TESTS = 200
#: Characters of a text in a filter.
_MOST_TEXT = 1024

Scalar: TypeAlias = str | int | float | bool | None
Comparison = Literal["=", "!=", "<", "<=", ">", ">="]
_COMPARISONS: tuple[Comparison, ...] = ("=", "!=", "<", "<=", ">", ">=")
OPERATORS = ("equals", "equals-ignore-case", "prefix", "suffix", "anything-but", "numeric", "exists", "not")
_TEXTS = ("equals-ignore-case", "prefix", "suffix")


@dataclass(frozen=True, slots=True)
class Equals:
    """The value is one of these."""

    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class OfText:
    """The value is a text that `how` of `text` holds for."""

    how: Literal["equals-ignore-case", "prefix", "suffix"]
    text: str


@dataclass(frozen=True, slots=True)
class AnythingBut:
    """The value is none of these, and there."""

    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Numeric:
    """All comparisons hold."""

    comparisons: tuple[tuple[Comparison, float], ...]


@dataclass(frozen=True, slots=True)
class Exists:
    """The value is there, or is not."""

    there: bool


@dataclass(frozen=True, slots=True)
class NotTest:
    """The test does not hold."""

    test: Test


@dataclass(frozen=True, slots=True)
class AnyTest:
    """One of the tests holds."""

    tests: tuple[Test, ...]


@dataclass(frozen=True, slots=True)
class AllTests:
    """All tests hold."""

    tests: tuple[Test, ...]


Test: TypeAlias = Equals | OfText | AnythingBut | Numeric | Exists | NotTest | AnyTest | AllTests


@dataclass(frozen=True, slots=True)
class Line:
    """A test of what `path` leads to: the name of an attribute, or "data" and the names below it."""

    path: tuple[str, ...]
    test: Test


@dataclass(frozen=True, slots=True)
class AllOf:
    """All parts hold; without any it always does."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One part holds."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class NotOf:
    """The part does not hold."""

    part: Filter


Filter: TypeAlias = Line | AllOf | AnyOf | NotOf


def read_filter(text: Any, where: str = "filter") -> Filter:
    """The filter that `text`, as JSON or YAML gives it, stands for. BadRequest names the place below `where`, what was
    found there and what is possible."""
    return _Reader().filter(text, where, 0)


class _Reader:
    """Counts what one filter holds."""

    def __init__(self) -> None:
        self._tests = 0

    def filter(self, text: Any, where: str, depth: int) -> Filter:
        self._check_depth(where, depth)
        if not isinstance(text, Mapping):
            raise _wrong(where, text, "a mapping of attributes to tests", "write for example {type: order.created}")
        parts = tuple(self._part(str(key), value, f"{where}.{key}", depth) for key, value in text.items())
        return parts[0] if len(parts) == 1 else AllOf(parts)

    def _part(self, key: str, value: Any, where: str, depth: int) -> Filter:
        if key == "not":
            return NotOf(self.filter(value, where, depth + 1))
        if key in ("all", "any"):
            if not isinstance(value, (list, tuple)) or not value:
                raise _wrong(where, value, "a list of filters", f"write {key}: [{{...}}, {{...}}]")
            parts = tuple(self.filter(item, f"{where}[{place}]", depth + 1) for place, item in enumerate(value))
            return AllOf(parts) if key == "all" else AnyOf(parts)
        return Line(_path(key, where), self._test(value, where, depth + 1))

    def _test(self, value: Any, where: str, depth: int) -> Test:
        self._check_depth(where, depth)
        self._tests += 1
        if self._tests > MOST_TESTS:
            raise BadRequest(
                f"{where}: a filter of more than {MOST_TESTS} tests",
                hint="split it, or filter in the function",
                path=where,
            )
        if isinstance(value, Mapping):
            if not value:
                raise _wrong(where, value, "a test", f"use one of {', '.join(OPERATORS)}")
            tests = tuple(self._operator(str(name), given, f"{where}.{name}", depth) for name, given in value.items())
            return tests[0] if len(tests) == 1 else AllTests(tests)
        if isinstance(value, (list, tuple)):
            if not value:
                raise _wrong(where, value, "a list of values or tests", "name at least one")
            if all(_is_scalar(item) for item in value):
                return Equals(tuple(_scalar(item, where) for item in value))
            return AnyTest(tuple(self._test(item, f"{where}[{place}]", depth + 1) for place, item in enumerate(value)))
        return Equals((_scalar(value, where),))

    def _operator(self, name: str, given: Any, where: str, depth: int) -> Test:
        match name:
            case "equals":
                return Equals((_scalar(given, where),))
            case "equals-ignore-case" | "prefix" | "suffix":
                if not isinstance(given, str):
                    raise _wrong(where, given, "a text", f"write {name}: TEXT")
                return OfText(name, str(_scalar(given, where)))
            case "anything-but":
                values = given if isinstance(given, (list, tuple)) and given else [given]
                return AnythingBut(tuple(_scalar(item, where) for item in values))
            case "numeric":
                return Numeric(_comparisons(given, where))
            case "exists":
                if not isinstance(given, bool):
                    raise _wrong(where, given, "true or false", "write exists: true")
                return Exists(given)
            case "not":
                return NotTest(self._test(given, where, depth + 1))
        close = nearest(name, OPERATORS)
        raise BadRequest(
            f"{where}: {name[:80]!r} is no operator" + (f"; did you mean {close!r}?" if close else ""),
            hint=f"use one of {', '.join(OPERATORS)}; for a name inside data write data.NAME",
            path=where,
        )

    def _check_depth(self, where: str, depth: int) -> None:
        if depth > MOST_DEPTH:
            raise BadRequest(
                f"{where[:200]}: nested deeper than {MOST_DEPTH}", hint="write it flatter", path=where[:200]
            )


def _path(key: str, where: str) -> tuple[str, ...]:
    names, name, escaped = [], "", False
    for character in key:
        if escaped:
            name, escaped = name + character, False
        elif character == "\\":
            escaped = True
        elif character == ".":
            names.append(name)
            name = ""
        else:
            name += character
    names.append(name)
    if escaped or not all(names) or len(key) > _MOST_TEXT:
        raise _wrong(where[:200], key[:80], "an attribute, or data.NAME", "write \\. for a dot that belongs to a name")
    if len(names) > 1 and names[0] != "data":
        raise _wrong(where, key, "an attribute, or data.NAME", f"for what is in the data write data.{key}")
    return tuple(names)


def _comparisons(given: Any, where: str) -> tuple[tuple[Comparison, float], ...]:
    hint = 'write numeric: [">", 0, "<=", 100]'
    if not isinstance(given, (list, tuple)) or not given or len(given) % 2:
        raise _wrong(where, given, "a list of comparisons and numbers", hint)
    found: list[tuple[Comparison, float]] = []
    for sign, number in zip(given[::2], given[1::2]):
        if sign not in _COMPARISONS:
            raise _wrong(where, sign, f"one of {' '.join(_COMPARISONS)}", hint)
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
            raise _wrong(where, number, "a number", hint)
        found.append((sign, number))
    return tuple(found)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


def _scalar(value: Any, where: str) -> Scalar:
    if not _is_scalar(value) or (isinstance(value, float) and not math.isfinite(value)):
        raise _wrong(where, value, "a text, a number, true, false or null", f"or use one of {', '.join(OPERATORS)}")
    if isinstance(value, str) and len(value) > _MOST_TEXT:
        raise BadRequest(f"{where}: a text of {len(value)} characters", hint=f"use up to {_MOST_TEXT}", path=where)
    found: Scalar = value
    return found


def _wrong(where: str, found: Any, wanted: str, hint: str) -> BadRequest:
    return BadRequest(f"{where} is {str(found)[:80]!r}, not {wanted}", hint=hint, path=where)
