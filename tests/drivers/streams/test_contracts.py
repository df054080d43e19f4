"""The SQLite drivers of streams keep their ports' contracts."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from fuyun.testing.contracts.streams import GroupStoreContract, StreamStoreContract, StreamStores
from tests.drivers.streams.stores import opened


class TestSqliteStreams(StreamStoreContract):
    def open(self, folder: Path) -> AbstractAsyncContextManager[StreamStores]:
        return opened(folder)


class TestSqliteGroups(GroupStoreContract):
    def open(self, folder: Path) -> AbstractAsyncContextManager[StreamStores]:
        return opened(folder)
