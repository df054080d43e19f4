"""`ports.tables.TableStore` in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, or_, select, tuple_, update

from fuyun.base import faults
from fuyun.domain.errors import Conflict, NotFound, PreconditionFailed, QuotaExceeded
from fuyun.domain.streams import FEED, StreamSpec
from fuyun.domain.tables import Change, Document, Found, Item, Query, Table, TableSpec, Written, key_of
from fuyun.domain.tenants import AuditEntry, Quotas
from fuyun.drivers.sql import streaming
from fuyun.drivers.sql.journal import log
from fuyun.drivers.sql.sqlite import Database
from fuyun.drivers.tables import finding
from fuyun.drivers.tables.changing import Work
from fuyun.drivers.tables.tables import entries, items, tables

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class SqlTables:
    """Tables in `drivers.tables.tables`, their feeds in streams."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def put(
        self,
        namespace: str,
        name: str,
        spec: TableSpec,
        quotas: Quotas,
        now_s: float,
        *,
        expected_revision: int | None = None,
        entry: AuditEntry | None = None,
    ) -> Table:
        """See `ports.tables.TableStore.put`."""

        def work(connection: Connection) -> Table:
            row = _find(connection, namespace, name)
            revision = 0 if row is None else row.revision
            if expected_revision is not None and expected_revision != revision:
                raise PreconditionFailed(
                    f"the table is at revision {revision}, not {expected_revision}"
                    if revision
                    else "there is no such table",
                    hint="read it again and decide on what it is now", etag=f'"{revision}"' if revision else "",
                )  # fmt: skip
            if row is None:
                _make(connection, namespace, name, spec, quotas, now_s)
            else:
                _change(connection, row, spec)
            log(connection, entry)
            return _table(_get(connection, namespace, name))

        return await self._db.write(work)

    async def get(self, namespace: str, name: str) -> Table:
        """See `ports.tables.TableStore.get`."""
        return await self._db.read(lambda connection: _table(_get(connection, namespace, name)))

    async def list_tables(self, namespace: str, after: str = "", limit: int = 100) -> list[Table]:
        """See `ports.tables.TableStore.list_tables`."""
        query = select(tables).where(tables.c.namespace == namespace, tables.c.name > after)
        page = query.order_by(tables.c.name).limit(limit)
        return await self._db.read(lambda connection: [_table(row) for row in connection.execute(page)])

    async def delete(self, namespace: str, name: str, entry: AuditEntry | None = None) -> None:
        """See `ports.tables.TableStore.delete`."""

        def work(connection: Connection) -> None:
            row = _get(connection, namespace, name)
            connection.execute(delete(tables).where(tables.c.id == row.id))
            feed, _ = streaming.get(connection, namespace, FEED + name)
            connection.execute(delete(streaming.streams).where(streaming.streams.c.id == feed))
            log(connection, entry)

        await self._db.write(work)

    async def write(
        self,
        namespace: str,
        name: str,
        changes: Sequence[Change],
        quotas: Quotas,
        now_s: float,
        *,
        hops: int = 0,
        trail: str = "",
    ) -> Written:
        """See `ports.tables.TableStore.write`."""

        def work(connection: Connection) -> Written:
            row = _get(connection, namespace, name)
            doing = Work(connection, row.id, _table(row), row.changes, now_s)
            changed = doing.apply(changes)
            faults.point("tables.changed")
            return Written(changed=changed, grown=doing.finish(quotas, hops, trail))

        return await self._db.write(work)

    async def find_items(self, namespace: str, name: str, keys: Sequence[Document], now_s: float) -> list[Item | None]:
        """See `ports.tables.TableStore.find_items`."""

        def work(connection: Connection) -> list[Item | None]:
            row = _get(connection, namespace, name)
            wanted = [key_of(row.spec, key, f"keys[{place}]") for place, key in enumerate(keys)]
            query = select(items).where(items.c.table == row.id, tuple_(items.c.pk, items.c.sk).in_(wanted))
            live = or_(items.c.expires_s.is_(None), items.c.expires_s > now_s)
            found = {
                (one.pk, one.sk): Item(item=_decode(one.item), version=one.version)
                for one in connection.execute(query.where(live))
            }
            return [found.get(key) for key in wanted]

        return await self._db.read(work)

    async def query(self, namespace: str, name: str, query: Query, now_s: float) -> Found:
        """See `ports.tables.TableStore.query`."""

        def work(connection: Connection) -> Found:
            row = _get(connection, namespace, name)
            return finding.find(connection, row.id, row.spec, query, now_s)

        return await self._db.read(work)

    async def sweep(self, now_s: float, most: int = 500) -> tuple[int, Mapping[tuple[str, str], set[int]]]:
        """See `ports.tables.TableStore.sweep`."""
        if not await self._db.read(lambda connection: _due(connection, now_s)):
            return 0, {}

        def work(connection: Connection) -> tuple[int, Mapping[tuple[str, str], set[int]]]:
            removed, grown = _expire(connection, now_s, most)
            return removed + _forget(connection, most - removed), grown

        return await self._db.write(work)


def _find(connection: Connection, namespace: str, name: str) -> Row[Any] | None:
    where = (tables.c.namespace == namespace) & (tables.c.name == name)
    return connection.execute(select(tables).where(where)).one_or_none()


def _get(connection: Connection, namespace: str, name: str) -> Row[Any]:
    row = _find(connection, namespace, name)
    if row is None:
        raise NotFound(
            f"there is no table {name!r} in namespace {namespace!r}", hint="list the tables, or create it",
            kind="table", name=name,
        )  # fmt: skip
    return row


def _table(row: Row[Any]) -> Table:
    return Table(
        namespace=row.namespace, name=row.name, spec=row.spec, created_s=row.created_s, revision=row.revision,
        items=row.items, bytes=row.bytes,
    )  # fmt: skip


def _make(connection: Connection, namespace: str, name: str, spec: TableSpec, quotas: Quotas, now_s: float) -> None:
    counted = select(func.count()).select_from(tables).where(tables.c.namespace == namespace)
    count = connection.execute(counted).scalar_one()
    if count >= quotas.tables:
        raise QuotaExceeded(
            f"namespace {namespace!r} has {count} tables", hint="delete one, or raise the quota", quota="tables",
            limit=quotas.tables,
        )  # fmt: skip
    empty = {"revision": 1, "changes": 0, "items": 0, "bytes": 0}
    connection.execute(insert(tables).values(namespace=namespace, name=name, spec=spec, created_s=now_s, **empty))
    feed = StreamSpec(partitions=spec.feed_partitions, retention_s=spec.feed_retention_s)
    streaming.create(connection, namespace, FEED + name, feed, now_s)


def _change(connection: Connection, row: Row[Any], spec: TableSpec) -> None:
    fixed = ["partition_key", "sort_key", "feed_partitions"]
    if row.items:
        fixed += ["indexes", "ttl"]
    for field in fixed:
        if getattr(row.spec, field) != getattr(spec, field):
            raise Conflict(
                f"{field} of table {row.name!r} cannot change"
                + (f" while it holds {row.items} items" if field in ("indexes", "ttl") else ""),
                hint="create another table and copy the items", path=field,
            )  # fmt: skip
    connection.execute(update(tables).where(tables.c.id == row.id).values(spec=spec, revision=tables.c.revision + 1))
    id_, feed = streaming.get(connection, row.namespace, FEED + row.name)
    kept = msgspec.structs.replace(feed.spec, retention_s=spec.feed_retention_s)
    connection.execute(update(streaming.streams).where(streaming.streams.c.id == id_).values(spec=kept))


def _due(connection: Connection, now_s: float) -> bool:
    old = select(items.c.table).where(items.c.expires_s <= now_s).limit(1)
    return connection.execute(old).first() is not None or bool(_gone(connection))


def _gone(connection: Connection) -> list[int]:
    """Ids of tables that are gone and have left something; looks at one row of each table there is."""
    known = set(connection.execute(select(tables.c.id)).scalars())
    found: set[int] = set()
    for column in (items.c.table, entries.c.table):
        last = 0
        while (following := connection.execute(select(func.min(column)).where(column > last)).scalar()) is not None:
            last = int(following)
            found |= {last} - known
    return sorted(found)


def _expire(connection: Connection, now_s: float, most: int) -> tuple[int, dict[tuple[str, str], set[int]]]:
    query = select(items).join(tables, tables.c.id == items.c.table).where(items.c.expires_s <= now_s).limit(most)
    by_table: dict[int, list[Row[Any]]] = {}
    for row in connection.execute(query):
        by_table.setdefault(row.table, []).append(row)
    grown: dict[tuple[str, str], set[int]] = {}
    for id_, rows in by_table.items():
        row = connection.execute(select(tables).where(tables.c.id == id_)).one()
        doing = Work(connection, id_, _table(row), row.changes, now_s)
        doing.expire(rows)
        grown[row.namespace, row.name] = set(doing.finish(None))
    return sum(map(len, by_table.values())), grown


def _forget(connection: Connection, most: int) -> int:
    """Remove up to `most` rows of tables that are gone; how many."""
    removed = 0
    for id_ in _gone(connection):
        for table, names in ((items, ("pk", "sk")), (entries, ("index", "first", "second", "pk", "sk"))):
            if most - removed > 0:
                columns = [table.c[name] for name in names]
                own = table.c.table == id_
                some = select(*columns).where(own).limit(most - removed)
                removed += connection.execute(delete(table).where(own, tuple_(*columns).in_(some))).rowcount
    return removed
