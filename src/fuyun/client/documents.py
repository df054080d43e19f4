"""Tables and their items, as the client sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from fuyun.client.calling import Caller
from fuyun.client.http import path_of
from fuyun.domain.tables import Change, Changed, Condition, Document, Item, Query, Table, TableSpec


class Documents(Caller):
    """The part of `Platform` that reads and writes tables. All methods are about the client's namespace."""

    def list_tables(self) -> list[Table]:
        """By name."""
        return self._all(self._tables(), Table)

    def get_table(self, table: str) -> Table:
        """NotFound when absent."""
        return self._one(self._send("GET", self._tables(table)), Table)

    def put_table(self, table: str, spec: TableSpec, *, create: bool = False) -> Table:
        """Create a table or change it. `create`: PreconditionFailed when there is one. Conflict for what cannot change,
        QuotaExceeded."""
        headers = {"If-None-Match": "*"} if create else {}
        return self._one(self._send("PUT", self._tables(table), spec, headers=headers), Table)

    def delete_table(self, table: str) -> None:
        """With its items and feed. NotFound."""
        self._send("DELETE", self._tables(table))

    def write_items(self, table: str, changes: Sequence[Change]) -> list[Changed]:
        """All changes or none. Conflict when a condition does not hold, with the fields `place` and `found`."""
        answer = self._send("POST", self._tables(table, "write"), {"changes": changes}).json()
        return [self._convert(item, Changed) for item in answer]

    def put_item(self, table: str, item: Document, condition: Condition | None = None) -> Changed:
        """Put one item whole."""
        return self.write_items(table, [Change(put=item, condition=condition)])[0]

    def delete_item(self, table: str, key: Document, condition: Condition | None = None) -> Changed:
        """Delete the item of a key; `kind` is `none` when there was none."""
        return self.write_items(table, [Change(delete=key, condition=condition)])[0]

    def find_items(self, table: str, keys: Sequence[Document]) -> list[Item | None]:
        """The item of each key, None where there is none."""
        answer = self._send("POST", self._tables(table, "read"), {"keys": keys}).json()
        return [None if item is None else self._convert(item, Item) for item in answer]

    def query_items(self, table: str, query: Query, match: Any = None) -> Iterator[Item]:
        """Items in order, page by page as they are taken; `query.limit` is the size of a page. `match` is a filter over
        attributes."""
        body: dict[str, Any] = {**msgspec.to_builtins(query), "match": match, "after": ""}
        while True:
            items, following = self._items(self._send("POST", self._tables(table, "query"), body), Item)
            yield from items
            if not following:
                return
            body["after"] = following

    def _tables(self, *segments: str) -> str:
        return path_of("namespaces", self.namespace, "tables", *segments)
