"""What every tenant store keeps: `ports.tenants.TenantStore`, clause by clause."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fuyun.domain.errors import Conflict, NotFound
from fuyun.domain.tenants import Namespace, Quotas
from fuyun.testing.contracts.catalog import StoresContract
from fuyun.testing.contracts.samples import CODE, NOW_S, SPEC, entry, key

ACME = Namespace(name="acme", created_s=NOW_S, quotas=Quotas(functions=7))


@pytest.mark.anyio
class TenantStoreContract(StoresContract):
    """Subclass it with `open`."""

    async def test_a_new_store_holds_the_default_namespace(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            (found,) = await stores.tenants.list_namespaces()
            assert (found.name, found.quotas) == ("default", Quotas())
            await stores.tenants.delete_namespace("default")
        async with self.open(tmp_path) as stores:
            assert await stores.tenants.list_namespaces() == [], "deleted stays deleted"

    async def test_namespaces(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            tenants = stores.tenants
            await tenants.create_namespace(ACME)
            with pytest.raises(Conflict):
                await tenants.create_namespace(ACME)
            changed = await tenants.set_quotas("acme", Quotas(concurrency=5))
            assert (changed.quotas, changed.revision) == (Quotas(concurrency=5), 2)
            with pytest.raises(NotFound):
                await tenants.set_quotas("none", Quotas())
            with pytest.raises(NotFound):
                await tenants.delete_namespace("none")
        async with self.open(tmp_path) as stores:
            assert [n.name for n in await stores.tenants.list_namespaces()] == ["acme", "default"]
            assert (await stores.tenants.list_namespaces())[0] == changed

    async def test_a_namespace_with_functions_stays(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.tenants.create_namespace(ACME)
            await stores.catalog.put_draft("acme", "hello", SPEC, CODE, (), NOW_S)
            with pytest.raises(Conflict, match="hello"):
                await stores.tenants.delete_namespace("acme")
            await stores.catalog.delete_function("acme", "hello")
            await stores.tenants.delete_namespace("acme")
            assert [n.name for n in await stores.tenants.list_namespaces()] == ["default"]

    async def test_keys_and_secrets_go_with_their_namespace(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            tenants = stores.tenants
            await tenants.create_namespace(ACME)
            for id_, namespace in (("a", "acme"), ("b", "default"), ("c", "*")):
                await tenants.create_key(*key(id_, namespace))
            await tenants.put_secret("acme", "token", b"\0sealed")
            await tenants.delete_namespace("acme")
            assert [found.id for found, _ in await tenants.list_keys()] == ["b", "c"]
            await tenants.create_namespace(ACME)
            assert await tenants.list_secrets("acme") == {}

    async def test_keys(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            tenants = stores.tenants
            kept = key("b", expires_s=NOW_S + 5, name="laptop")
            await tenants.create_key(*key("a"))
            await tenants.create_key(*kept)
            with pytest.raises(Conflict):
                await tenants.create_key(*key("a"))
            with pytest.raises(NotFound):
                await tenants.create_key(*key("d", "nowhere"))
            await tenants.delete_key("a")
            with pytest.raises(NotFound):
                await tenants.delete_key("a")
        async with self.open(tmp_path) as stores:
            assert await stores.tenants.list_keys() == [kept]

    async def test_secrets(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            tenants = stores.tenants
            await tenants.put_secret("default", "a", b"1")
            await tenants.put_secret("default", "a", b"\x00\xff")
            await tenants.put_secret("default", "b", b"2")
            await tenants.put_secret("default", "b", None)
            with pytest.raises(NotFound):
                await tenants.put_secret("default", "b", None)
            with pytest.raises(NotFound):
                await tenants.put_secret("nowhere", "a", b"1")
            assert await tenants.list_secrets("default") == {"a": b"\x00\xff"}
            assert await tenants.list_secrets("nowhere") == {}

    async def test_the_audit_log_is_read_in_pages(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            tenants = stores.tenants
            entries = [entry(f"a{n}", "default" if n % 2 else "gone") for n in range(7)]
            await asyncio.gather(*(tenants.audit(one) for one in entries))
            assert await tenants.audit(None) == entries
            assert await tenants.audit(None, "gone") == entries[::2]
            assert await tenants.audit(None, after=entries[1].id, limit=2) == entries[2:4]
            assert await tenants.audit(None, "default", after=entries[-1].id) == []

    async def test_a_change_and_its_entry_are_one(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            tenants = stores.tenants
            await tenants.create_namespace(ACME, entry("1"))
            await tenants.set_quotas("acme", Quotas(), entry("2"))
            await tenants.create_key(*key("k"), entry("3"))
            await tenants.delete_key("k", entry("4"))
            await tenants.put_secret("acme", "s", b"x", entry("5"))
            await tenants.delete_namespace("acme", entry("6"))
            for refused in (
                tenants.create_key(*key("k", "acme"), entry("no")),
                tenants.delete_key("k", entry("no")),
                tenants.put_secret("acme", "s", b"x", entry("no")),
                tenants.set_quotas("acme", Quotas(), entry("no")),
                tenants.delete_namespace("acme", entry("no")),
            ):
                with pytest.raises(NotFound):
                    await refused
            with pytest.raises(Conflict):
                await tenants.create_namespace(Namespace(name="default", created_s=NOW_S), entry("no"))
            assert [one.action for one in await tenants.audit(None)] == list("123456")
