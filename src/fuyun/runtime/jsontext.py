"""JSON as the runtime needs it: strict, compact UTF-8 out, and the path of what cannot be written.

Standard `json.dumps` builds an encoder per call; the C encoder made once here takes a third of the time (1.5 µs against
4.5 µs for `{"hello": "world", "n": 1}` on a 2.x GHz EPYC, CPython 3.11).
"""

from __future__ import annotations

import json
from json import encoder as _encoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

#: Parses one JSON document: text -> value; ValueError when it is none.
loads: Callable[[str], Any] = json.JSONDecoder().decode
#: Parses the JSON value that starts at an index: (text, index) -> (value, end). For text known to be well-formed.
scan: Callable[[str, int], tuple[Any, int]] = vars(json.JSONDecoder())["scan_once"]


class NotJson(Exception):
    """A value cannot be written as JSON. `str()` names the path and the type found there."""


def _refuse(value: object) -> object:
    raise NotJson(type(value).__name__)


def _make() -> Callable[[Any], str]:
    native = getattr(_encoder, "c_make_encoder", None)
    if native is None:
        return json.JSONEncoder(
            ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"), default=_refuse
        ).encode
    write = native(None, _refuse, _encoder.encode_basestring, None, ":", ",", False, False, False)
    join = "".join
    return lambda value: join(write(value, 0))


_write = _make()
_write_ascii = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_refuse).encode


def dumps(value: Any, root: str = "result") -> bytes:
    """`value` as compact UTF-8 JSON. NotJson names what cannot be written, e.g. `result['x'][0] is a set`."""
    try:
        return _write(value).encode()
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8, but it has an escape
        return _write_ascii(value).encode()
    except (NotJson, TypeError, ValueError, RecursionError) as exc:
        raise NotJson(locate(value, root) or f"{root} cannot be written as JSON: {exc}") from None


def locate(value: Any, path: str = "result") -> str:
    """What stops `value` from being JSON, in words that start with its path; "" when nothing does."""
    return _locate(value, path, [])


def _locate(value: Any, path: str, above: list[int]) -> str:
    if value is None or isinstance(value, (str, bool, int)):
        return ""
    if isinstance(value, float):
        return f"{path} is {value}, which JSON has no number for" if value - value != 0 else ""
    if not isinstance(value, (dict, list, tuple)):
        return f"{path} is a {type(value).__name__}"
    if id(value) in above:
        return f"{path} contains itself"
    if len(above) > 200:
        return f"{path[:80]}… is nested more than 200 levels deep"
    above.append(id(value))
    try:
        if isinstance(value, dict):
            for key, item in value.items():
                if not (key is None or isinstance(key, (str, int, float))):
                    return f"{path} has a key of type {type(key).__name__}: {key!r:.80}"
                found = _locate(item, f"{path}[{key!r:.80}]", above)
                if found:
                    return found
        else:
            for index, item in enumerate(value):
                found = _locate(item, f"{path}[{index}]", above)
                if found:
                    return found
    finally:
        above.pop()
    return ""
