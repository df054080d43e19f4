"""Reading the heads of calls.

A head is one JSON object (`ports/instances.py`, Head). The platform writes `id` (32 digits) and `deadline_ms` (13 until
the year 2286) first, so that they stand at the same place in every head.
"""

from __future__ import annotations

from fuyun.runtime.jsontext import scan
from fuyun.runtime.wire import META

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ID = META.size + len(b'{"id":"')
_BETWEEN = b'","deadline_ms":'
_ID_END = _ID + 32
_DEADLINE = _ID_END + len(_BETWEEN)
_REST = _DEADLINE + 13


class Heads:
    """Clients that poll ask the same again and again: what follows the id and the deadline is parsed when it comes for
    the second time in a row, and then no more (0.9 µs instead of 3.2 µs for a head of 290 bytes, CPython 3.11)."""

    def __init__(self) -> None:
        self._rest = b""
        self._parsed: dict[str, Any] = {}

    def read(self, payload: bytes, end: int) -> dict[str, Any]:
        """The head in an INVOKE's `payload`, from META to `end`. Its values may be shared: they are not changed."""
        rest = payload[_REST:end]
        if rest == self._rest and rest and payload[_ID_END:_DEADLINE] == _BETWEEN:
            if not self._parsed:
                self._parsed = scan("{" + str(rest[1:], "utf-8"), 0)[0]
            head = self._parsed.copy()
            head["id"] = str(payload[_ID:_ID_END], "ascii")
            head["deadline_ms"] = int(payload[_DEADLINE:_REST])
            return head
        self._rest = rest if rest[:1] == b"," else b""
        self._parsed = {}
        found: dict[str, Any] = scan(str(payload[META.size : end], "utf-8"), 0)[0]
        return found
