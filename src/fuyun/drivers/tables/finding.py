"""Items in order: by their keys or an index's, from a place on."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Select, or_, select, tuple_

from fuyun.domain.errors import BadRequest, NotFound
from fuyun.domain.tables import PAGE_BYTES, Found, Item, Query, TableSpec, encode_key
from fuyun.drivers.tables.tables import entries, items

_decode = msgspec.json.Decoder(dict[str, Any]).decode
#: Behind every text that begins with what stands before it.
_LAST = "\U0010ffff"


def find(connection: Connection, id_: int, spec: TableSpec, query: Query, now_s: float) -> Found:
    """The page that `query` asks for. BadRequest, NotFound."""
    if query.index:
        if all(index.name != query.index for index in spec.indexes):
            known = ", ".join(index.name for index in spec.indexes)
            raise NotFound(
                f"the table has no index {query.index!r}", hint=f"it has {known}" if known else "declare it",
                kind="index", name=query.index,
            )  # fmt: skip
        first, second = entries.c.first, entries.c.second
        place = [entries.c.first, entries.c.second, entries.c.pk, entries.c.sk]
        joined = (entries.c.table == items.c.table) & (entries.c.pk == items.c.pk) & (entries.c.sk == items.c.sk)
        asked = select(items, entries.c.first, entries.c.second).join(entries, joined)
        asked = asked.where(entries.c.table == id_, entries.c.index == query.index)
    else:
        first, second = items.c.pk, items.c.sk
        place = [items.c.pk, items.c.sk]
        asked = select(items).where(items.c.table == id_)
    asked = _bounded(asked, query, first, second)
    if query.after:
        if len(query.after) != len(place):
            raise BadRequest("the place to go on is of another query", hint="ask for the first page", path="after")
        here = tuple_(*place)
        asked = asked.where(here < query.after if query.descending else here > query.after)
    order = [column.desc() for column in place] if query.descending else place
    live = or_(items.c.expires_s.is_(None), items.c.expires_s > now_s)
    return _page(connection, asked.where(live).order_by(*order), query, bool(query.index))


def _bounded(asked: Select[Any], query: Query, first: Any, second: Any) -> Select[Any]:
    bounds = (query.prefix, query.lower, query.upper)
    if query.partition is None:
        if any(bound is not None for bound in bounds):
            raise BadRequest(
                "a range of sort keys without a partition", hint="set the partition key's value", path="partition"
            )
        return asked
    asked = asked.where(first == encode_key(query.partition, "partition"))
    if query.prefix is not None:
        asked = asked.where(second >= "s" + query.prefix, second < "s" + query.prefix + _LAST)
    if query.lower is not None:
        asked = asked.where(second >= encode_key(query.lower, "lower"))
    if query.upper is not None:
        asked = asked.where(second <= encode_key(query.upper, "upper"))
    return asked


def _page(connection: Connection, asked: Select[Any], query: Query, by_index: bool) -> Found:
    found: list[Item] = []
    last: Any = None
    size = 0
    with connection.execute(asked.limit(query.limit + 1)) as rows:
        for row in rows:
            size += row.size
            if len(found) == query.limit or (found and size > PAGE_BYTES):
                key = (last.pk, last.sk)
                return Found(items=tuple(found), after=(last.first, last.second, *key) if by_index else key)
            found.append(Item(item=_decode(row.item), version=row.version))
            last = row
    return Found(items=tuple(found))
