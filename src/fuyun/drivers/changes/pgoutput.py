"""What PostgreSQL's output plugin `pgoutput` says, version 1 of its protocol with values as text. Pure.

https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from fuyun.ports.changes import Change

#: Seconds from the Unix epoch to that of PostgreSQL, 2000-01-01.
_EPOCH_S: Final = 946_684_800
_BOOL, _INTEGERS, _FLOATS, _JSON = 16, frozenset({20, 21, 23, 26}), frozenset({700, 701}), frozenset({114, 3802})
#: A column that did not change and whose value stands apart (TOAST) is not told.
_UNTOLD: Final = object()


@dataclass(slots=True)
class _Relation:
    schema: str
    table: str
    columns: list[tuple[str, int, bool]]  # name, type, part of the identity


@dataclass(slots=True)
class Decoder:
    """Of one reading, from a slot's place on: relations are told anew in each. `skip` changes are left out. `primary`:
    columns of the primary keys of tables, which need not be what tells rows apart in the log."""

    skip: int = 0
    primary: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    ends: list[tuple[int, int]] = field(default_factory=list)
    _relations: dict[int, _Relation] = field(default_factory=dict)
    _lsn: int = 0
    _xid: int = 0
    _at_s: float = 0.0
    _index: int = 0

    def feed(self, message: bytes) -> None:
        """Take the next message in. ValueError for one that is cut short."""
        reader = _Reader(message)
        try:
            self._take(chr(reader.number(">B")), reader)
        except (struct.error, IndexError, KeyError, UnicodeDecodeError) as exc:
            raise ValueError(f"pgoutput: message {message[:1]!r} of {len(message)} bytes: {exc}") from exc

    def _take(self, kind: str, reader: _Reader) -> None:
        match kind:
            case "B":
                self._lsn, at_us, self._xid = reader.numbers(">QqI")
                self._at_s, self._index = at_us / 1e6 + _EPOCH_S, 0
            case "C":
                _, _, end, _ = reader.numbers(">BQQq")
                if not self.skip:
                    self.ends.append((len(self.changes), end))
            case "R":
                self._relate(reader)
            case "I":
                relation = self._relations[reader.number(">I")]
                reader.number(">B")
                self._add("insert", relation, new=reader.row(relation))
            case "U":
                self._update(reader)
            case "D":
                relation = self._relations[reader.number(">I")]
                whole = chr(reader.number(">B")) == "O"
                self._add("delete", relation, old=reader.row(relation), whole=whole)
            case "T":
                count, _ = reader.numbers(">IB")
                for _ in range(count):
                    self._add("truncate", self._relations[reader.number(">I")])

    def _relate(self, reader: _Reader) -> None:
        number = reader.number(">I")
        schema, table = reader.text(), reader.text()
        _, count = reader.numbers(">BH")
        columns = []
        for _ in range(count):
            flags = reader.number(">B")
            name = reader.text()
            kind, _ = reader.numbers(">Ii")
            columns.append((name, kind, bool(flags & 1)))
        self._relations[number] = _Relation(schema or "pg_catalog", table, columns)

    def _update(self, reader: _Reader) -> None:
        relation = self._relations[reader.number(">I")]
        tag = chr(reader.number(">B"))
        old = None
        if tag in "KO":
            old = reader.row(relation)
            reader.number(">B")
        self._add("update", relation, old=old, new=reader.row(relation), whole=tag == "O")

    def _add(
        self, operation: Any, relation: _Relation, *, old: dict[str, Any] | None = None,
        new: dict[str, Any] | None = None, whole: bool = False,
    ) -> None:  # fmt: skip
        index, self._index = self._index, self._index + 1
        if self.skip:
            self.skip -= 1
            return
        identity = [name for name, _, part in relation.columns if part]
        if old is not None and not whole:  # only what identifies the row was told
            old = {name: old[name] for name in identity if name in old}
        identity = list(self.primary.get((relation.schema, relation.table), identity))
        if old is not None and new is not None:
            new = {name: old.get(name, _UNTOLD) if value is _UNTOLD else value for name, value in new.items()}
        unchanged = tuple(name for name, value in (new or {}).items() if value is _UNTOLD)
        told = {name: value for name, value in new.items() if value is not _UNTOLD} if new is not None else None
        row = old if new is None else told
        self.changes.append(
            Change(
                lsn=self._lsn, index=index, xid=self._xid, at_s=self._at_s, operation=operation,
                schema=relation.schema, table=relation.table, old=old, new=told, unchanged=unchanged,
                key={name: row[name] for name in identity if name in row} if row is not None else {},
            )
        )  # fmt: skip


class _Reader:
    """Of one message."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def numbers(self, layout: str) -> tuple[Any, ...]:
        """The next of such a layout."""
        found = struct.unpack_from(layout, self._data, self._at)
        self._at += struct.calcsize(layout)
        return found

    def number(self, layout: str) -> Any:
        """The next one."""
        return self.numbers(layout)[0]

    def text(self) -> str:
        """Up to the next NUL."""
        end = self._data.index(0, self._at)
        found = self._data[self._at : end].decode()
        self._at = end + 1
        return found

    def row(self, relation: _Relation) -> dict[str, Any]:
        """Values by column."""
        count = self.number(">H")
        columns: Iterator[tuple[str, int, bool]] = iter(relation.columns[:count])
        return {name: self._value(kind) for name, kind, _ in columns}

    def _value(self, kind: int) -> Any:
        tag = chr(self.number(">B"))
        if tag == "n":
            return None
        if tag == "u":
            return _UNTOLD
        size = self.number(">I")
        raw = self._data[self._at : self._at + size]
        if len(raw) < size:
            raise IndexError(f"a value of {size} bytes has {len(raw)}")
        self._at += size
        return value_of(kind, raw.decode())


def value_of(kind: int, text: str) -> Any:
    """A value by the number of its type: booleans, integers, floats and JSON as such, all others as PostgreSQL writes
    them (numeric among them, which no float holds)."""
    if kind == _BOOL:
        return text == "t"
    if kind in _INTEGERS:
        return int(text)
    if kind in _FLOATS:
        found = float(text)
        return found if math.isfinite(found) else text
    return msgspec.Raw(text.encode()) if kind in _JSON else text
