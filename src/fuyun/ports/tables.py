"""Tables and their items, durably."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from fuyun.domain.tables import Change, Document, Found, Item, Query, Table, TableSpec, Written
from fuyun.domain.tenants import AuditEntry, Quotas


class TableStore(Protocol):
    """The truth about tables.

    Every write is one transaction and is on disk when it returns; what it refuses changes nothing. Reads see every
    write that returned before. Indexes change with their items. Every change is appended to the stream `table.NAME`
    (`ports.streams`) in the same transaction, as an event `fuyun.table.insert`, `.update` or `.delete` with the data
    `key`, `old`, `new`, `version`; those of one key are in order in one partition. Times are wall-clock seconds that
    the caller gives; an item whose time is over at `now_s` is not there.

    Raises NotFound (table, namespace), StorageFull, and what a method adds. An `entry` joins the audit log in the same
    transaction.
    """

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
        """Create the table and its feed, or change its settings; its revision rises by one. `expected_revision` 0 is
        "must not exist"; another value than the current one raises PreconditionFailed. QuotaExceeded for one table too
        many, Conflict for a change of keys, of `feed_partitions`, or of indexes while there are items."""
        ...

    async def get(self, namespace: str, name: str) -> Table:
        """The table."""
        ...

    async def list_tables(self, namespace: str, after: str = "", limit: int = 100) -> list[Table]:
        """A page of the namespace's tables by name."""
        ...

    async def delete(self, namespace: str, name: str, entry: AuditEntry | None = None) -> None:
        """Table and feed are gone at once, and the name free; what it held is removed by `sweep`."""
        ...

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
        """All changes or none. Conflict when a condition does not hold (fields `place`, `found`: the item's version, 0
        for none); BadRequest, PayloadTooLarge, QuotaExceeded. `hops` and `trail` are those of the events."""
        ...

    async def find_items(self, namespace: str, name: str, keys: Sequence[Document], now_s: float) -> list[Item | None]:
        """The item of each key, None where there is none; all of one moment. BadRequest."""
        ...

    async def query(self, namespace: str, name: str, query: Query, now_s: float) -> Found:
        """A page of items in order; each that was there all the while is met once as pages are followed, except where
        its own place in that order changes. BadRequest, NotFound for an index that is not declared."""
        ...

    async def sweep(self, now_s: float, most: int = 500) -> tuple[int, Mapping[tuple[str, str], set[int]]]:
        """Remove up to `most` items whose time is over, each with its event (`expired` is true in the data), and what
        tables that are gone held; how many, and the partitions of feeds that have grown by (namespace, table). Call it
        until it answers 0."""
        ...
