"""The deploy path: what a deployment leaves, and what a failed one does not."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from fuyun.domain.errors import (
    BadRequest,
    BuildFailed,
    Forbidden,
    FunctionLoadFailed,
    FunctionRaised,
    HostUnable,
    NotFound,
    QuotaExceeded,
    StorageFull,
)
from fuyun.domain.functions import FunctionSpec, Version, WarmUp, Weight
from fuyun.domain.tenants import Quotas
from fuyun.ports.instances import WarmUpReport
from fuyun.services.deploying import DeployRequest
from fuyun.services.tenants import PLATFORM
from tests.drivers.builds.packages import make_wheel
from tests.services.deploy_bench import DEVELOPER, INTERPRETERS, VIEWER, Bench, bench

pytestmark = pytest.mark.anyio


async def test_a_deployment_publishes_warms_routes_and_is_audited(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        version = await b.deploy(alias="live", description="first")
        assert (version.number, version.description) == (1, "first")
        assert [item.key for item in b.host.prepared] == [version.key], "loaded once, under the key that serves"
        assert list(b.host.warm) == [version.key]
        assert b.routed == {"f": [0, 1]}
        (alias,) = await b.functions.list_aliases("default", "f")
        assert alias.weights == (Weight(version=1, weight=100),)
        assert await b.audited() == [
            ("function.deploy", "f", f"code {version.code.digest[:12]}"), ("function.publish", "f", "1"),
            ("alias.set", "f", "live 1"),
        ]  # fmt: skip
        assert (b.blobs.path(version.code.digest) / "__pycache__").is_dir()
        assert b.lines[0] == "building: 42 bytes of code"
        assert b.lines[1:] == ["warm-up: 24 ms (init 21 ms), template ready", "alias: live serves version 1"]


async def test_the_same_deployment_again_changes_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        first = await b.deploy(alias="live")
        await b.deploy(code=await b.upload(app__py="handler = print\n"), alias="live")
        third = await b.deploy(alias="live")
        entries = await b.audited()
        again = await b.deploy(alias="live")
        assert await b.audited() == entries, "what changes nothing is no change"
        assert (first.number, third.number, again) == (1, 3, third)
        alias = await b.functions.get_alias("default", "f", "live")
        assert alias.previous == (Weight(version=2, weight=100),), "the way back is kept"
        draft = await b.catalog.get_version("default", "f", 0)
        assert draft.revision == 3


async def test_without_publish_only_the_draft_changes_and_its_old_template_goes(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        first = await b.deploy(publish=False)
        assert (first.number, first.key) == (0, "default/f@0.1")
        second = await b.deploy(publish=False, spec=FunctionSpec(handler="app.handler", timeout_s=3))
        assert list(b.host.warm) == [second.key] == ["default/f@0.2"]
        published = await b.deploy(publish=True, spec=second.spec)
        assert published.number == 1
        assert published.revision == 2, "an unchanged draft is published as it is"


async def test_a_function_that_does_not_load_leaves_the_old_version_serving(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        old = await b.deploy(alias="live")
        b.host.fail = FunctionLoadFailed("app.py: no module named 'nope'", traceback=["line 1"])
        with pytest.raises(FunctionLoadFailed, match="nope"):
            await b.deploy(code=await b.upload(app__py="import nope\n"), alias="live")
        assert list(b.host.warm) == [old.key]
        assert b.routed == {"f": [0, 1]}
        assert (await b.catalog.get_version("default", "f", 0)).code == old.code
        assert (await b.functions.get_alias("default", "f", "live")).weights == (Weight(version=1, weight=100),)
        with pytest.raises(FunctionLoadFailed):
            await b.deploy("brandnew")
        with pytest.raises(NotFound):
            await b.functions.get_function("default", "brandnew")
        assert [action for action, _, _ in await b.audited()] == ["function.deploy", "function.publish", "alias.set"]


async def test_dependencies_are_built_once_and_shared(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        make_wheel(tmp_path / "wheels", "small", "1.0", "value = 1\n")
        one = await b.deploy("one", requirements="small\n")
        lines, b.lines = b.lines, []
        two = await b.deploy("two", requirements="# the same\nsmall\n")
        assert one.layers == two.layers
        assert (b.blobs.path(one.layers[0].digest) / "small.py").exists()
        assert "dependencies: small 1.0" in lines
        assert [line for line in b.lines if line.startswith("dep")] == ["dependencies: cached"]


async def test_a_build_that_fails_stops_the_deployment(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        with pytest.raises(BuildFailed, match="'missing'"):
            await b.deploy(requirements="missing\n")
        assert b.host.prepared == []
        with pytest.raises(BadRequest, match="another file"):
            await b.deploy(requirements="-r more.txt\n")


async def test_code_that_is_no_python_is_told_before_it_is_loaded(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.deploy(code=await b.upload(app__py="def handler(:\n"))
        assert any(re.fullmatch(r"building: not valid python3\.\d+: app\.py", line) for line in b.lines), b.lines


async def test_secrets_reach_the_warm_up_and_a_missing_one_stops_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        spec = FunctionSpec(handler="app.handler", env={"MODE": "x"}, secrets={"TOKEN": "api-token"})
        with pytest.raises(NotFound, match="api-token"):
            await b.deploy(spec=spec)
        await b.tenants.put_secret(DEVELOPER, "default", "api-token", "s3cret", "")
        version = await b.deploy(spec=spec)
        assert b.host.warm[version.key] == {"MODE": "x", "TOKEN": "s3cret"}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"code": "0" * 64}, NotFound),
        ({"code": "../../etc"}, BadRequest),
        ({"spec": FunctionSpec(runtime="ruby")}, BadRequest),
        ({"alias": "Not a name"}, BadRequest),
        ({"function": "Bad_Name"}, BadRequest),
    ],
)
async def test_bad_requests_change_nothing(tmp_path: Path, change: dict[str, Any], error: type[Exception]) -> None:
    async with bench(tmp_path) as b:
        with pytest.raises(error):
            await b.deploy(**change)
        assert b.host.prepared == []
        assert b.routed == {}


async def test_a_runtime_the_host_lacks_is_named(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        missing = next(name for name in (f"python3.{minor}" for minor in range(14, 8, -1)) if not _has(name))
        with pytest.raises(HostUnable, match=missing):
            await b.deploy(spec=FunctionSpec(handler="app.handler", runtime=missing))


def _has(runtime: str) -> bool:
    try:
        INTERPRETERS.by_runtime(runtime)
    except HostUnable:
        return False
    return True


async def test_who_may_not_deploy_learns_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        request = DeployRequest(spec=FunctionSpec(), code="0" * 64)
        for principal, namespace in ((VIEWER, "default"), (DEVELOPER, "other")):
            with pytest.raises(Forbidden):
                await b.deployer.deploy(principal, namespace, "f", request, b.lines.append)


async def test_quotas_of_functions_and_storage(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.tenants.set_quotas(PLATFORM, "default", Quotas(functions=1, storage_bytes=20_000), "")
        await b.deploy("one")
        with pytest.raises(QuotaExceeded, match="functions"):
            await b.deploy("two")
        with pytest.raises(QuotaExceeded, match="storage_bytes"):
            await b.upload(app__py="#" * 30_000)
        await b.functions.delete_function(DEVELOPER, "default", "one")
        await b.deploy("two", code=await b.upload(app__py="#" * 5_000))
        with pytest.raises(QuotaExceeded, match="storage_bytes"):
            await b.upload(app__py="#" * 19_000)
        await b.functions.delete_function(DEVELOPER, "default", "two")
        assert await b.upload(app__py="#" * 19_000), "what was deleted counts no more"


async def test_deployments_of_one_function_take_turns_and_others_do_not_wait(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        inside, open_, seen = asyncio.Event(), asyncio.Event(), []

        async def before(version: Version) -> None:
            seen.append(version.function)
            if version.function == "slow":
                inside.set()
                await open_.wait()

        b.host.before = before
        loop = asyncio.get_running_loop()
        first = loop.create_task(b.deploy("slow"))
        await inside.wait()
        second = loop.create_task(b.deploy("slow", spec=FunctionSpec(handler="app.handler", timeout_s=2)))
        await b.deploy("quick")
        assert seen == ["slow", "quick"]
        open_.set()
        assert [(await first).number, (await second).number] == [1, 2]
        assert b.lines.count("waiting for another deployment of this function") == 1


async def test_a_cancelled_deployment_leaves_nothing_warm(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.host.fail = asyncio.CancelledError()
        with pytest.raises(asyncio.CancelledError):
            await b.deploy()
        assert b.host.warm == {}


async def test_a_draft_that_cannot_be_stored_is_not_kept_warm(tmp_path: Path) -> None:
    class FullCatalog:
        """The real catalog, whose disk is full for drafts."""

        def __init__(self, bench: Bench) -> None:
            self._real = bench.catalog

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        async def put_draft(self, *_: object) -> Version:
            raise StorageFull("the disk is full")

    async with bench(tmp_path) as b:
        old = await b.deploy()
        b.deployer._parts = dataclasses.replace(b.deployer._parts, catalog=FullCatalog(b))
        with pytest.raises(StorageFull):
            await b.deploy(spec=FunctionSpec(handler="app.handler", timeout_s=2))
        assert list(b.host.warm) == [old.key]


async def test_a_function_deleted_and_made_again_is_warm_under_its_new_numbers(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.deploy()
        await b.functions.delete_function(DEVELOPER, "default", "f")
        assert b.host.warm == {}
        assert b.routed == {}
        version = await b.deploy()
        assert version.number == 2, "numbers are never reused"
        assert list(b.host.warm) == [version.key]


CALL = WarmUpReport(id="w1", at_s=5.0, instance="i1", run_ms=12.0, cpu_us=3000, peak_bytes=4096, answer_bytes=2)
WARMED = FunctionSpec(handler="app.handler", warm_up=WarmUp(event={"id": 1}))


async def test_a_warm_up_call_is_told_and_recorded(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.host.call = CALL
        version = await b.deploy(spec=WARMED)
        assert "warm-up call: answered in 12 ms" in b.lines
        (record,) = b.records
        assert (record.id, record.attempt, record.status, record.version) == ("w1", 0, "ok", version.number)
        assert (record.start_kind, record.waterfall.init, record.waterfall.run) == ("template", 21, 12)
        assert record.duration_ms == 36


async def test_a_warm_up_call_that_fails_fails_the_deployment_with_its_error(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        first = await b.deploy(alias="live")
        error = FunctionRaised("the model is not there", error_type="LookupError")
        b.host.call = dataclasses.replace(CALL, error=error, http_status=500)
        with pytest.raises(FunctionRaised) as raised:
            await b.deploy(spec=WARMED, alias="live")
        assert raised.value is error
        assert b.lines[-1] == "warm-up call: failed after 12 ms: function_raised: the model is not there"
        assert [(record.status, record.error) for record in b.records] == [("error", "function_raised")]
        alias = await b.functions.get_alias("default", "f", "live")
        assert alias.weights == (Weight(version=first.number, weight=100),)
        assert list(b.host.warm) == [first.key], "nothing of it stays"


async def test_a_warm_up_call_may_fail_where_it_is_not_required(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.host.call = dataclasses.replace(CALL, error=FunctionRaised("not yet"))
        spec = FunctionSpec(handler="app.handler", warm_up=WarmUp(event=1, required=False))
        assert (await b.deploy(spec=spec, alias="live")).number == 1
        told = next(line for line in b.lines if line.startswith("warm-up call"))
        assert told.endswith("function_raised: not yet; deployed all the same (required: false)")
