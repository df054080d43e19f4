"""The SQLite drivers keep their ports' contracts."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from fuyun.testing.contracts.catalog import CatalogContract, Stores
from fuyun.testing.contracts.layers import LayerStoreContract
from fuyun.testing.contracts.tenants import TenantStoreContract
from tests.drivers.catalog.stores import opened


class TestSqliteCatalog(CatalogContract):
    def open(self, folder: Path) -> AbstractAsyncContextManager[Stores]:
        return opened(folder)


class TestSqliteTenants(TenantStoreContract):
    def open(self, folder: Path) -> AbstractAsyncContextManager[Stores]:
        return opened(folder)


class TestSqliteLayers(LayerStoreContract):
    def open(self, folder: Path) -> AbstractAsyncContextManager[Stores]:
        return opened(folder)
