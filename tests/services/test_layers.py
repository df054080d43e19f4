"""Layers are published, frozen into versions, and outlive their names while a version mounts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuyun.domain.errors import BadRequest, Forbidden, NotFound, QuotaExceeded
from fuyun.domain.functions import FunctionSpec
from fuyun.domain.layers import LayerVersion
from fuyun.domain.tenants import Quotas
from fuyun.services.tenants import PLATFORM
from tests.drivers.builds.packages import make_wheel
from tests.services.deploy_bench import DEVELOPER, VIEWER, Bench, bench

pytestmark = pytest.mark.anyio


async def publish(b: Bench, name: str, **files: str) -> LayerVersion:
    return await b.layers.publish(DEVELOPER, "default", name, await b.upload(**files), "", "192.0.2.7")


def using(*layers: str) -> FunctionSpec:
    return FunctionSpec(handler="app.handler", layers=layers)


async def test_layers_follow_the_dependencies_in_the_order_of_the_spec(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        make_wheel(tmp_path / "wheels", "small", "1.0", "")
        one, two = await publish(b, "one", one__py="x = 1\n"), await publish(b, "two", two__py="x = 2\n")
        version = await b.deploy(spec=using("two", "one:1"), requirements="small\n")
        assert version.layers[1:] == (two.content, one.content)
        assert version.spec.layers == ("two:1", "one:1"), "what was newest is frozen into the version"
        assert (b.blobs.path(version.layers[0].digest) / "small.py").exists()


async def test_an_unpinned_layer_moves_with_the_next_deployment_only(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        code = await b.upload(app__py="def handler(event):\n    return 1\n")
        await publish(b, "shared", a__txt="a")
        first = await b.deploy(code=code, spec=using("shared"))
        again = await b.deploy(code=code, spec=using("shared"))
        assert again == first, "nothing changed"
        newer = await publish(b, "shared", a__txt="b")
        assert (await b.catalog.get_version("default", "f", first.number)).layers == first.layers
        second = await b.deploy(code=code, spec=using("shared"))
        assert (second.number, second.spec.layers, second.layers) == (2, ("shared:2",), (newer.content,))


async def test_what_names_no_layer_is_told(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await publish(b, "fonts", a__txt="a")
        for bad in ("Fonts", "fonts:", "fonts:0", "fonts:x", "0" * 64, ""):
            with pytest.raises(BadRequest, match="names no layer") as refused:
                await b.deploy(spec=using(bad))
            assert refused.value.fields["path"] == "layers"
        with pytest.raises(BadRequest, match="'fonts' stands twice"):
            await b.deploy(spec=using("fonts", "fonts:1"))
        with pytest.raises(BadRequest, match="12 layers"):
            await b.deploy(spec=using(*(f"l{number}" for number in range(12))))
        with pytest.raises(NotFound) as missing:
            await b.deploy(spec=using("font"))
        assert missing.value.hint == "did you mean 'fonts'?"
        with pytest.raises(NotFound, match="no version 2; the newest is 1"):
            await b.deploy(spec=using("fonts:2"))
        assert b.host.prepared == []


async def test_a_deleted_layer_stays_with_the_versions_that_mount_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        used, unused = await publish(b, "used", a__txt="a"), await publish(b, "unused", b__txt="b")
        version = await b.deploy(spec=using("used"))
        assert await b.collector.collect(0.0) > 0, "uploaded code, which was compiled into something else"
        assert await b.blobs.find(unused.content.digest), "a layer keeps its content while it is there"
        for name in ("used", "unused"):
            await b.layers.delete(DEVELOPER, "default", name, 1)
            with pytest.raises(NotFound):
                await b.layers.get_layer("default", name)
        await b.collector.collect(0.0)
        assert await b.blobs.find(unused.content.digest) is None
        assert (b.blobs.path(version.layers[0].digest) / "a.txt").read_text() == "a"
        assert used.content == version.layers[0]
        await b.functions.delete_function(DEVELOPER, "default", "f")
        await b.collector.collect(0.0)
        assert await b.blobs.find(used.content.digest) is None


async def test_another_namespace_sees_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.tenants.create_namespace(PLATFORM, "acme", Quotas(), "")
        await publish(b, "fonts", a__txt="a")
        assert await b.layers.list_layers("acme") == []
        for seeking in (b.layers.get_layer("acme", "fonts"), b.layers.list_versions("acme", "fonts")):
            with pytest.raises(NotFound) as refused:
                await seeking
            assert "did you mean" not in refused.value.hint
        with pytest.raises(Forbidden):
            await b.layers.publish(DEVELOPER, "acme", "fonts", "0" * 64)
        with pytest.raises(Forbidden):
            await b.layers.delete(DEVELOPER, "acme", "fonts", 1)


async def test_changes_are_checked_and_audited(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        content = await b.upload(a__txt="a")
        with pytest.raises(Forbidden):
            await b.layers.publish(VIEWER, "default", "fonts", content)
        with pytest.raises(NotFound, match="nothing is stored"):
            await b.layers.publish(DEVELOPER, "default", "fonts", "0" * 64)
        with pytest.raises(BadRequest):
            await b.layers.publish(DEVELOPER, "default", "Fonts", content)
        await b.layers.publish(DEVELOPER, "default", "fonts", content)
        with pytest.raises(Forbidden):
            await b.layers.delete(VIEWER, "default", "fonts", 1)
        await b.layers.delete(DEVELOPER, "default", "fonts", 1)
        assert await b.audited() == [
            ("layer.publish", "fonts", f"content {content[:12]}"), ("layer.delete", "fonts", "version 1"),
        ]  # fmt: skip


async def test_layers_count_against_the_storage_quota_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.tenants.set_quotas(PLATFORM, "default", Quotas(storage_bytes=12_000), "")
        first = await publish(b, "one", a__txt="a" * 5_000)
        await b.layers.publish(DEVELOPER, "default", "two", first.content.digest)
        await publish(b, "three", a__txt="b" * 5_000)
        with pytest.raises(QuotaExceeded, match="storage_bytes"):
            await publish(b, "four", a__txt="c" * 5_000)
        for name in ("one", "two"):
            await b.layers.delete(DEVELOPER, "default", name, 1)
        await publish(b, "four", a__txt="c" * 5_000)
