"""The SQLite driver of tables keeps its port's contract."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from fuyun.testing.contracts.tables import TableStoreContract, TableStores
from tests.drivers.tables.stores import opened


class TestSqliteTables(TableStoreContract):
    def open(self, folder: Path) -> AbstractAsyncContextManager[TableStores]:
        return opened(folder)
