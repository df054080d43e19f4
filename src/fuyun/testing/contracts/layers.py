"""What every store of layers keeps: `ports.layers.LayerStore`, clause by clause."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuyun.domain.errors import NotFound
from fuyun.domain.layers import LayerVersion
from fuyun.domain.tenants import Namespace
from fuyun.testing.contracts.catalog import StoresContract
from fuyun.testing.contracts.samples import NOW_S, artifact, entry


@pytest.mark.anyio
class LayerStoreContract(StoresContract):
    """Subclass it with `open`."""

    async def test_a_version_is_kept_whole(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            made = await stores.layers.publish("default", "fonts", artifact("a"), "first \U0001f600", NOW_S)
        assert made == LayerVersion(
            namespace="default", name="fonts", number=1, content=artifact("a"), created_s=NOW_S,
            description="first \U0001f600",
        )  # fmt: skip
        async with self.open(tmp_path) as stores:
            assert await stores.layers.get("default", "fonts", 1) == made
            assert await stores.layers.get("default", "fonts") == made

    async def test_only_what_differs_from_the_newest_gets_a_number(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            for text, number in (("a", 1), ("a", 1), ("b", 2), ("a", 3)):
                made = await stores.layers.publish("default", "fonts", artifact(text), text, NOW_S, entry(text))
                assert (made.number, made.content) == (number, artifact(text))
            assert [item.action for item in await stores.tenants.audit(None)] == ["a", "b", "a"]

    async def test_numbers_are_never_reused(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.layers.publish("default", "fonts", artifact("a"), "", NOW_S)
            await stores.layers.publish("default", "fonts", artifact("b"), "", NOW_S)
            await stores.layers.delete("default", "fonts", 2)
            assert (await stores.layers.publish("default", "fonts", artifact("b"), "", NOW_S)).number == 3
            await stores.layers.delete("default", "fonts", 1)
            await stores.layers.delete("default", "fonts", 3)
            assert (await stores.layers.publish("default", "fonts", artifact("a"), "", NOW_S)).number == 4

    async def test_lists_are_paged(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            layers = stores.layers
            await stores.tenants.create_namespace(Namespace(name="acme", created_s=NOW_S))
            for name in ("b", "a", "c"):
                await layers.publish("default", name, artifact(name), "", NOW_S)
                await layers.publish("default", name, artifact(name + "2"), "", NOW_S)
            await layers.publish("acme", "other", artifact("a"), "", NOW_S)
            assert [item.reference for item in await layers.list_layers("default")] == ["a:2", "b:2", "c:2"]
            assert [item.reference for item in await layers.list_layers("default", "a", 1)] == ["b:2"]
            assert [item.number for item in await layers.list_versions("default", "b")] == [1, 2]
            assert [item.number for item in await layers.list_versions("default", "b", 0, 1)] == [1]
            assert [item.number for item in await layers.list_versions("default", "b", 1, 1)] == [2]
            assert await layers.list_versions("default", "b", 2) == []
            assert await layers.list_layers("nowhere") == []

    async def test_a_namespace_has_its_own_layers_and_takes_them_with_it(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.tenants.create_namespace(Namespace(name="acme", created_s=NOW_S))
            await stores.layers.publish("default", "fonts", artifact("a"), "", NOW_S)
            for _ in range(2):
                await stores.layers.publish("acme", "fonts", artifact("b"), "", NOW_S)
            assert await stores.layers.contents("default") == {artifact("a")}
            assert await stores.layers.contents("*") == {artifact("a"), artifact("b")}
            await stores.tenants.delete_namespace("acme")
            assert await stores.layers.contents("*") == {artifact("a")}
            await stores.tenants.create_namespace(Namespace(name="acme", created_s=NOW_S))
            with pytest.raises(NotFound):
                await stores.layers.get("acme", "fonts")

    async def test_what_is_absent_is_not_found(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            layers = stores.layers
            await layers.publish("default", "fonts", artifact("a"), "", NOW_S)
            for missing in (
                layers.publish("nowhere", "fonts", artifact("a"), "", NOW_S, entry("no")),
                layers.get("default", "none"),
                layers.get("nowhere", "fonts"),
                layers.list_versions("default", "none"),
                layers.delete("default", "none", 1, entry("no")),
                layers.delete("default", "fonts", 2, entry("no")),
            ):
                with pytest.raises(NotFound):
                    await missing
            with pytest.raises(NotFound, match="the newest is 1"):
                await layers.get("default", "fonts", 7)
            assert await stores.tenants.audit(None) == []
