"""Tables: JSON documents by key, their indexes, what may be asked of them, and how a change is told.

Keys are texts or numbers. As they are stored and read, numbers come before texts; numbers are in their own order, texts
in that of their code points.
"""

from __future__ import annotations

import math
import struct
from typing import Annotated, Any, Literal

import msgspec

from fuyun.domain.errors import BadRequest
from fuyun.domain.functions import Wire
from fuyun.domain.names import check_name

ITEM_BYTES = 400 * 1024
#: Changes of one transaction, and keys of one read.
MOST_CHANGES = 25
MOST_KEYS = 100
MOST_INDEXES = 10
#: Items of a page, and what they may come to.
MOST_ITEMS = 1000
PAGE_BYTES = 2 * 2**20
#: Characters of a key's text and of an attribute's name.
MOST_KEY = 1024
MOST_ATTRIBUTE = 255
#: Whole numbers are exact up to here.
_EXACT = 2**53

Document = dict[str, Any]
KeyValue = str | int | float


def _doc(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class Index(Wire, frozen=True, kw_only=True):
    """Another order of a table's items: those that have these attributes, by them."""

    name: str
    partition_key: str
    sort_key: str = ""


class TableSpec(Wire, frozen=True, kw_only=True):
    """What a table is. Keys never change, and indexes only while the table is empty."""

    partition_key: Annotated[str, _doc("attribute that every item has")] = "id"
    sort_key: Annotated[str, _doc("attribute by which items of one partition key are told apart; empty: none")] = ""
    indexes: tuple[Index, ...] = ()
    ttl: Annotated[str, _doc("attribute with seconds since the epoch, from when on an item is gone; empty: none")] = ""
    feed_partitions: Annotated[int, _doc("partitions of the change feed; it never changes")] = 4
    feed_retention_s: Annotated[float, _doc("seconds a change is kept in the feed; 0 for ever")] = 86400.0
    description: str = ""


class Table(Wire, frozen=True, kw_only=True):
    """A table of a namespace."""

    namespace: str
    name: str
    spec: TableSpec = TableSpec()
    created_s: float
    revision: int = 1
    items: int = 0
    bytes: int = 0


class Item(Wire, frozen=True, kw_only=True):
    """A document. `version` counts the table's changes: it is never given to another state of any item."""

    item: Document
    version: int


class Condition(Wire, frozen=True, kw_only=True):
    """What must hold of the item before a change of it; all that is set. `match` is a filter (`domain.filters`) over
    its attributes."""

    exists: bool | None = None
    version: int | None = None
    match: Any = None


class Change(Wire, frozen=True, kw_only=True):
    """One change: `put` an item whole; `delete`, `update` or merely `check` the one with a key. An update sets, removes
    and adds to attributes, and makes the item where there is none."""

    put: Document | None = None
    delete: Document | None = None
    update: Document | None = None
    check: Document | None = None
    set: Document = {}
    remove: tuple[str, ...] = ()
    add: dict[str, int | float] = {}
    condition: Condition | None = msgspec.field(default=None, name="if")


class Changed(Wire, frozen=True, kw_only=True):
    """What came of one. `item` is the item as it is now, null once it is deleted."""

    kind: Literal["insert", "update", "delete", "none"]
    version: int = 0
    item: Document | None = None


class Written(Wire, frozen=True, kw_only=True):
    """What came of a transaction, and which partitions of the feed have grown."""

    changed: tuple[Changed, ...] = ()
    grown: tuple[int, ...] = ()


class Query(Wire, frozen=True, kw_only=True):
    """Which items, in the order of their keys or an index's. Without a `partition` every item. `lower`, `upper` (both
    inclusive) and `prefix` are about the sort key. `after`: the place behind which to go on, from `Found`."""

    index: str = ""
    partition: KeyValue | None = None
    prefix: str | None = None
    lower: KeyValue | None = None
    upper: KeyValue | None = None
    descending: bool = False
    limit: int = 100
    after: tuple[str, ...] = ()


class Found(Wire, frozen=True, kw_only=True):
    """Items, and the place to go on behind (empty: there are no more)."""

    items: tuple[Item, ...] = ()
    after: tuple[str, ...] = ()


def encode_key(value: Any, where: str) -> str:
    """A key's value as text whose order is that of values. BadRequest."""
    if isinstance(value, str):
        if not 1 <= len(value) <= MOST_KEY:
            raise BadRequest(f"{where} has {len(value)} characters", hint=f"use 1 to {MOST_KEY}", path=where)
        return "s" + value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise BadRequest(f"{where} is {str(value)[:80]!r}", hint="a key is a text or a number", path=where)
    if isinstance(value, int) and abs(value) > _EXACT:
        raise BadRequest(f"{where} is {value}", hint=f"use whole numbers up to {_EXACT}, or a text", path=where)
    # IEEE 754: after turning all bits of negative numbers and the sign of others, bytes are in the numbers' order.
    bits = int.from_bytes(struct.pack(">d", value + 0.0), "big")
    bits = bits ^ 0xFFFFFFFFFFFFFFFF if bits >> 63 else bits | (1 << 63)
    return f"n{bits:016x}"


def key_of(spec: TableSpec, item: Document, where: str) -> tuple[str, str]:
    """The encoded key of an item, or of a key written as one. BadRequest."""
    for name in filter(None, (spec.partition_key, spec.sort_key)):
        if name not in item:
            raise BadRequest(f"{where} has no {name!r}, which is of its key", hint=f"set {name}", path=where)
    first = encode_key(item[spec.partition_key], f"{where}.{spec.partition_key}")
    return first, encode_key(item[spec.sort_key], f"{where}.{spec.sort_key}") if spec.sort_key else ""


def plain_key(spec: TableSpec, item: Document) -> Document:
    """The key of an item as people write it."""
    return {name: item[name] for name in (spec.partition_key, spec.sort_key) if name}


def entries_of(spec: TableSpec, item: Document) -> dict[str, tuple[str, str]]:
    """Index -> encoded key there, of every index that has the item. BadRequest for a value that is no key."""
    found = {}
    for index in spec.indexes:
        names = [name for name in (index.partition_key, index.sort_key) if name]
        if all(item.get(name) is not None for name in names):
            first, *rest = (encode_key(item[name], name) for name in names)
            found[index.name] = (first, rest[0] if rest else "")
    return found


def expiry_of(spec: TableSpec, item: Document) -> float | None:
    """When the item is gone; None for never. What is no number keeps it."""
    value = item.get(spec.ttl) if spec.ttl else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value) if abs(value) < 2**53 else None


def updated(spec: TableSpec, old: Document | None, change: Change) -> Document:
    """What an update makes of an item, or of none. BadRequest."""
    assert change.update is not None
    made = dict(old) if old is not None else plain_key(spec, change.update)
    keys = {spec.partition_key, spec.sort_key}
    for name in (*change.set, *change.remove, *change.add):
        if name in keys:
            raise BadRequest(
                f"{name!r} is of the key and cannot be changed", hint="delete the item and put another", path=name
            )
    made.update(change.set)
    for name in change.remove:
        made.pop(name, None)
    for name, number in change.add.items():
        value = made.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BadRequest(f"{name!r} is {str(value)[:80]!r}, to which nothing can be added", path=name)
        total = value + number
        if not math.isfinite(total) or (isinstance(total, int) and abs(total) >= 2**63):
            raise BadRequest(f"{name!r} would become {total}", hint="keep it below 2^63", path=name)
        made[name] = total
    return made


def check_table(name: str, spec: TableSpec) -> None:
    """BadRequest that says which setting of the table cannot be."""
    check_name("table", name)
    _check_attribute("partition_key", spec.partition_key)
    for field, value in (("sort_key", spec.sort_key), ("ttl", spec.ttl)):
        if value:
            _check_attribute(field, value)
    if spec.sort_key == spec.partition_key:
        raise BadRequest("sort_key is the partition key", hint="name another attribute", path="sort_key")
    if spec.ttl in (spec.partition_key, spec.sort_key) and spec.ttl:
        raise BadRequest("ttl is of the key", hint="name another attribute", path="ttl")
    if len(spec.indexes) > MOST_INDEXES:
        raise BadRequest(f"{len(spec.indexes)} indexes", hint=f"use at most {MOST_INDEXES}", path="indexes")
    if len({index.name for index in spec.indexes}) < len(spec.indexes):
        raise BadRequest("two indexes have one name", hint="give each a name of its own", path="indexes")
    for index in spec.indexes:
        check_name("index", index.name)
        _check_attribute(f"index {index.name}", index.partition_key)
        if index.sort_key:
            _check_attribute(f"index {index.name}", index.sort_key)
    for field, number, least, most in (
        ("feed_partitions", spec.feed_partitions, 1, 64),
        ("feed_retention_s", spec.feed_retention_s, 0, 100 * 366 * 86400),
        ("description", len(spec.description), 0, 1000),
    ):
        if not least <= number <= most:
            raise BadRequest(f"{field} is {number:g}", hint=f"use {least} to {most}", path=field)


def check_changes(spec: TableSpec, changes: tuple[Change, ...]) -> list[tuple[str, str]]:
    """The encoded key of each change. BadRequest for what is not one change each, or changes one item twice."""
    if not 1 <= len(changes) <= MOST_CHANGES:
        raise BadRequest(f"{len(changes)} changes", hint=f"send 1 to {MOST_CHANGES}", path="changes")
    found: list[tuple[str, str]] = []
    for place, change in enumerate(changes):
        where = f"changes[{place}]"
        kinds = [name for name in ("put", "delete", "update", "check") if getattr(change, name) is not None]
        if len(kinds) != 1:
            raise BadRequest(
                f"{where} has {' and '.join(kinds) or 'nothing'} to do", path=where,
                hint="set one of put, delete, update and check",
            )  # fmt: skip
        if kinds != ["update"] and (change.set or change.remove or change.add):
            raise BadRequest(f"{where}: set, remove and add are of an update", hint="write update: KEY", path=where)
        key = key_of(spec, getattr(change, kinds[0]), where)
        if key in found:
            raise BadRequest(f"{where} is about an item that stands before", hint="change it once", path=where)
        found.append(key)
    return found


def over_attributes(match: Any) -> Any:
    """A filter over an item's attributes as one over the data of an event (`domain.filters`)."""
    if not isinstance(match, dict):
        return match
    found = {}
    for name, test in match.items():
        if name in ("all", "any") and isinstance(test, (list, tuple)):
            found[name] = [over_attributes(part) for part in test]
        elif name == "not":
            found[name] = over_attributes(test)
        else:
            found[f"data.{name}"] = test
    return found


def _check_attribute(field: str, name: str) -> None:
    if not 1 <= len(name) <= MOST_ATTRIBUTE or not name.isprintable():
        raise BadRequest(
            f"{field}: {name[:80]!r} is no attribute",
            hint=f"use 1 to {MOST_ATTRIBUTE} printable characters",
            path=field,
        )
