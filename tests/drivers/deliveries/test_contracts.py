"""The SQLite driver keeps its ports' contracts."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from fuyun.testing.contracts.deliveries import DeliveryStoreContract, DeliveryStores
from tests.drivers.deliveries.stores import opened


class TestSqliteDeliveries(DeliveryStoreContract):
    def open(self, folder: Path) -> AbstractAsyncContextManager[DeliveryStores]:
        return opened(folder)
