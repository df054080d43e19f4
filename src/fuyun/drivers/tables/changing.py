"""Changes of items, with their indexes, their table's counts and their events, in the transaction of a connection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select, update

from fuyun.base import ids
from fuyun.decide.filters import matches
from fuyun.domain.errors import Conflict, PayloadTooLarge, QuotaExceeded
from fuyun.domain.events import Event
from fuyun.domain.filters import read_filter
from fuyun.domain.streams import FEED, Appending
from fuyun.domain.tables import (
    ITEM_BYTES,
    Change,
    Changed,
    Condition,
    Document,
    Table,
    check_changes,
    entries_of,
    expiry_of,
    over_attributes,
    plain_key,
    updated,
)
from fuyun.domain.tenants import Quotas
from fuyun.drivers.sql import streaming
from fuyun.drivers.tables.tables import entries, items, tables

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Work:
    """One transaction's changes of one table."""

    def __init__(self, connection: Connection, id_: int, table: Table, changes: int, now_s: float) -> None:
        self._connection = connection
        self._id = id_
        self._table = table
        self._spec = table.spec
        self._version = changes
        self._now_s = now_s
        self._events: list[Appending] = []
        self._items = 0
        self._bytes = 0

    def apply(self, changes: Sequence[Change]) -> tuple[Changed, ...]:
        """All of them; raises in the middle of them, so that the transaction is undone."""
        keys = check_changes(self._spec, tuple(changes))
        return tuple(
            self._apply(place, key, change) for place, (key, change) in enumerate(zip(keys, changes, strict=True))
        )

    def expire(self, rows: Iterable[Row[Any]]) -> None:
        """Remove items whose time is over."""
        for row in rows:
            self._remove((row.pk, row.sk), row, expired=True)

    def finish(self, quotas: Quotas | None, hops: int = 0, trail: str = "") -> tuple[int, ...]:
        """Write counts and events; the partitions of the feed that have grown. QuotaExceeded."""
        table = self._table
        if quotas is not None and self._bytes > 0:
            self._check_room(quotas)
        if not self._events:
            return ()
        self._connection.execute(
            update(tables)
            .where(tables.c.id == self._id)
            .values(changes=self._version, items=tables.c["items"] + self._items, bytes=tables.c.bytes + self._bytes)
        )
        feed_id, feed = streaming.get(self._connection, table.namespace, FEED + table.name)
        events = self._events
        if hops or trail:
            events = [
                msgspec.structs.replace(one, event=msgspec.structs.replace(one.event, hops=hops, trail=trail))
                for one in events
            ]
        made = streaming.append(self._connection, feed_id, feed, events, self._now_s)
        return tuple(sorted({one.partition for one in made}))

    def _apply(self, place: int, key: tuple[str, str], change: Change) -> Changed:
        row = self._connection.execute(select(items).where(_at(self._id, key))).one_or_none()
        if row is not None and row.expires_s is not None and row.expires_s <= self._now_s:
            self._remove(key, row, expired=True)
            row = None
        old = None if row is None else _decode(row.item)
        if change.condition is not None:
            _check(change.condition, old, 0 if row is None else row.version, place)
        if change.check is not None:
            return Changed(kind="none", version=0 if row is None else row.version, item=old)
        if change.delete is not None:
            if row is None:
                return Changed(kind="none")
            self._remove(key, row)
            return Changed(kind="delete", version=self._version)
        new = change.put if change.put is not None else updated(self._spec, old, change)
        self._store(key, row, old, new, place)
        return Changed(kind="insert" if row is None else "update", version=self._version, item=new)

    def _store(
        self, key: tuple[str, str], row: Row[Any] | None, old: Document | None, new: Document, place: int
    ) -> None:
        text = _encode(new)
        if len(text) > ITEM_BYTES:
            raise PayloadTooLarge(
                f"changes[{place}]: an item of {len(text)} bytes", limit_bytes=ITEM_BYTES,
                hint=f"keep it at {ITEM_BYTES} bytes, or store an object and its name here",
            )  # fmt: skip
        self._version += 1
        size = len(text) + len(key[0]) + len(key[1])
        values = {"version": self._version, "size": size, "expires_s": expiry_of(self._spec, new), "item": text}
        if row is None:
            self._connection.execute(insert(items).values(table=self._id, pk=key[0], sk=key[1], **values))
            self._items += 1
        else:
            self._connection.execute(update(items).where(_at(self._id, key)).values(**values))
        self._bytes += size - (0 if row is None else row.size)
        before = {} if old is None else entries_of(self._spec, old)
        after = entries_of(self._spec, new)
        if before != after:
            self._enter(key, bool(before), after)
        self._tell("insert" if row is None else "update", new, old, new)

    def _remove(self, key: tuple[str, str], row: Row[Any], expired: bool = False) -> None:
        self._version += 1
        self._connection.execute(delete(items).where(_at(self._id, key)))
        if self._spec.indexes:
            self._enter(key, True, {})
        self._items -= 1
        self._bytes -= row.size
        old = _decode(row.item)
        self._tell("delete", old, old, None, expired)

    def _enter(self, key: tuple[str, str], before: bool, after: dict[str, tuple[str, str]]) -> None:
        if before:
            own = (entries.c.table == self._id) & (entries.c.pk == key[0]) & (entries.c.sk == key[1])
            self._connection.execute(delete(entries).where(own))
        rows = [
            {"table": self._id, "index": index, "first": first, "second": second, "pk": key[0], "sk": key[1]}
            for index, (first, second) in after.items()
        ]
        if rows:
            self._connection.execute(insert(entries), rows)

    def _tell(
        self, kind: str, keyed: Document, old: Document | None, new: Document | None, expired: bool = False
    ) -> None:
        table = self._table
        key = plain_key(self._spec, keyed)
        subject = _encode(list(key.values())).decode()
        data: Document = {"key": key, "version": self._version}
        data |= {} if old is None else {"old": old}
        data |= {} if new is None else {"new": new}
        data |= {"expired": True} if expired else {}
        event = Event(
            id=ids.new_id(self._now_s), source=f"/{table.namespace}/table/{table.name}", type=f"fuyun.table.{kind}",
            subject=subject, time_s=self._now_s, data=_encode(data),
        )  # fmt: skip
        self._events.append(Appending(event=event, key=subject))

    def _check_room(self, quotas: Quotas) -> None:
        namespace = self._table.namespace
        held = sum(self._connection.execute(select(tables.c.bytes).where(tables.c.namespace == namespace)).scalars())
        if held + self._bytes > quotas.table_bytes:
            raise QuotaExceeded(
                f"tables of namespace {namespace!r} hold {held} bytes; {self._bytes} more are over its quota",
                hint="delete items, or raise the quota", quota="table_bytes", limit=quotas.table_bytes,
            )  # fmt: skip


def _check(condition: Condition, old: Document | None, version: int, place: int) -> None:
    """Conflict unless it holds."""
    wrong = ""
    if condition.exists is not None and condition.exists != (old is not None):
        wrong = "there is no such item" if condition.exists else "there is such an item"
    elif condition.version is not None and condition.version != version:
        wrong = f"the item is at version {version}, not {condition.version}" if version else "there is no such item"
    elif condition.match is not None:
        found = read_filter(over_attributes(condition.match), f"changes[{place}].if.match")
        event = Event(id="-", source="-", type="-", time_s=0.0, data=b"" if old is None else _encode(old))
        if old is None or not matches(found, event):
            wrong = "the item does not match" if old is not None else "there is no such item"
    if wrong:
        raise Conflict(
            f"changes[{place}]: {wrong}; nothing was changed", hint="read it again and decide on what it is now",
            place=place, found=version,
        )  # fmt: skip


def _at(id_: int, key: tuple[str, str]) -> ColumnElement[bool]:
    return (items.c.table == id_) & (items.c.pk == key[0]) & (items.c.sk == key[1])
