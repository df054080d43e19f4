"""What every catalog keeps: `ports.catalog.Catalog`, clause by clause."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from fuyun.domain.errors import BadRequest, NotFound, PreconditionFailed, QuotaExceeded
from fuyun.domain.functions import FunctionSpec, Hooks, HttpTrigger, Trigger, Weight
from fuyun.domain.tenants import Namespace, Quotas
from fuyun.ports.catalog import Catalog
from fuyun.ports.layers import LayerStore
from fuyun.ports.tenants import TenantStore
from fuyun.testing.contracts.samples import CODE, NOW_S, SPEC, all_to, artifact, entry


@dataclass(frozen=True)
class Stores:
    """The ports of one place."""

    catalog: Catalog
    tenants: TenantStore
    layers: LayerStore


class StoresContract(ABC):
    """What a suite over `Stores` needs."""

    @abstractmethod
    def open(self, folder: Path) -> AbstractAsyncContextManager[Stores]:
        """The stores kept in `folder`; opening the same folder again finds what was written before."""


@pytest.mark.anyio
class CatalogContract(StoresContract):
    """Subclass it with `open`."""

    async def test_a_draft_is_kept_whole_and_its_revision_rises(self, tmp_path: Path) -> None:
        spec = FunctionSpec(
            handler="pkg/mod.fn", memory_bytes=2**40, timeout_s=0.25, env={"A": "\U0001f600\n"}, secrets={"S": "s"},
            hooks=Hooks(initializer="m.f"), triggers=(Trigger(http=HttpTrigger(path="/x/*", methods=("GET",))),),
        )  # fmt: skip
        layers = (artifact("l1"), artifact("l2"))
        async with self.open(tmp_path) as stores:
            first = await stores.catalog.put_draft("default", "hello", spec, CODE, layers, NOW_S)
            second = await stores.catalog.put_draft("default", "hello", SPEC, CODE, (), NOW_S + 1)
        assert (first.number, first.spec, first.code, first.layers) == (0, spec, CODE, layers)
        assert (first.created_s, second.created_s, second.revision) == (NOW_S, NOW_S + 1, first.revision + 1)
        async with self.open(tmp_path) as stores:
            assert await stores.catalog.get_version("default", "hello", 0) == second
            function = await stores.catalog.get_function("default", "hello")
        assert (function.created_s, function.updated_s, function.last_version) == (NOW_S, NOW_S + 1, 0)

    async def test_publish_freezes_the_draft(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            catalog = stores.catalog
            draft = await catalog.put_draft("default", "hello", SPEC, CODE, (), NOW_S)
            one = await catalog.publish("default", "hello", "first", NOW_S + 1)
            again = await catalog.publish("default", "hello", "ignored", NOW_S + 2)
            await catalog.put_draft("default", "hello", FunctionSpec(), artifact("new"), (), NOW_S + 3)
            two = await catalog.publish("default", "hello", "", NOW_S + 4)
            assert (one.number, one.spec, one.code, one.description, one.created_s) == (
                1,
                SPEC,
                CODE,
                "first",
                NOW_S + 1,
            )
            assert again == one
            assert (two.number, two.code) == (2, artifact("new"))
            assert await catalog.get_version("default", "hello", 1) == one
            assert [v.number for v in await catalog.list_versions("default", "hello")] == [0, 1, 2]
            assert [v.number for v in await catalog.list_versions("default", "hello", after=0, limit=1)] == [1]
            assert (await catalog.get_function("default", "hello")).last_version == 2
            assert draft.key != one.key != two.key

    async def test_numbers_are_never_reused(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            catalog = stores.catalog
            old = await catalog.put_draft("default", "hello", SPEC, CODE, (), NOW_S)
            await catalog.publish("default", "hello", "", NOW_S)
            moved = await catalog.put_alias("default", "hello", "live", all_to(1), NOW_S)
            await catalog.delete_function("default", "hello")
            new = await catalog.put_draft("default", "hello", SPEC, CODE, (), NOW_S)
            assert new.revision > old.revision
            assert (await catalog.get_function("default", "hello")).last_version == 1
            assert (await catalog.publish("default", "hello", "", NOW_S)).number == 2
            assert (await catalog.put_alias("default", "hello", "live", all_to(2), NOW_S)).revision > moved.revision
            with pytest.raises(NotFound):
                await catalog.get_version("default", "hello", 1)

    async def test_what_is_absent_is_not_found(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            catalog = stores.catalog
            for missing in (
                catalog.get_function("default", "none"),
                catalog.get_version("default", "none", 0),
                catalog.list_versions("default", "none"),
                catalog.list_aliases("default", "none"),
                catalog.publish("default", "none", "", NOW_S),
                catalog.delete_function("default", "none"),
                catalog.put_alias("default", "none", "live", all_to(0), NOW_S),
                catalog.delete_alias("default", "none", "live"),
                catalog.put_draft("nowhere", "hello", SPEC, CODE, (), NOW_S),
            ):
                with pytest.raises(NotFound):
                    await missing
            await catalog.put_draft("default", "hello", SPEC, CODE, (), NOW_S)
            with pytest.raises(NotFound, match="version 7"):
                await catalog.get_version("default", "hello", 7)
            with pytest.raises(NotFound, match="version 7"):
                await catalog.put_alias("default", "hello", "live", all_to(7), NOW_S)
            with pytest.raises(NotFound):
                await catalog.delete_alias("default", "hello", "live")
            assert await catalog.list_aliases("default", "hello") == []

    async def test_aliases_move_by_compare_and_set(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            catalog = stores.catalog
            await catalog.put_draft("default", "hello", SPEC, CODE, (), NOW_S)
            split = (Weight(version=0, weight=90), Weight(version=1, weight=10))
            await catalog.publish("default", "hello", "", NOW_S)
            made = await catalog.put_alias("default", "hello", "live", all_to(1), NOW_S, expected_revision=0)
            with pytest.raises(PreconditionFailed):
                await catalog.put_alias("default", "hello", "live", split, NOW_S, expected_revision=0)
            moved = await catalog.put_alias(
                "default", "hello", "live", split, NOW_S + 1, "x-user", expected_revision=made.revision
            )
            assert (moved.weights, moved.previous, moved.sticky_header) == (split, all_to(1), "x-user")
            assert moved.revision > made.revision
            with pytest.raises(PreconditionFailed) as failed:
                await catalog.put_alias("default", "hello", "live", split, NOW_S, expected_revision=made.revision)
            assert failed.value.fields["etag"] == f'"{moved.revision}"'
            same = await catalog.put_alias("default", "hello", "live", split, NOW_S)
            assert same.previous == all_to(1), "putting the same weights again keeps the way back"
            await catalog.put_alias("default", "hello", "beta", all_to(0), NOW_S)
            assert [alias.name for alias in await catalog.list_aliases("default", "hello")] == ["beta", "live"]
            await catalog.delete_alias("default", "hello", "live")
            again = await catalog.put_alias("default", "hello", "live", split, NOW_S, expected_revision=0)
            assert again.revision > same.revision

    async def test_an_alias_is_deleted_from_the_state_it_was_read_in(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            catalog = stores.catalog
            await catalog.put_draft("default", "hello", SPEC, CODE, (), NOW_S)
            made = await catalog.put_alias("default", "hello", "live", all_to(0), NOW_S)
            moved = await catalog.put_alias("default", "hello", "live", all_to(0), NOW_S)
            with pytest.raises(PreconditionFailed):
                await catalog.delete_alias("default", "hello", "live", made.revision)
            assert await catalog.list_aliases("default", "hello") == [moved]
            await catalog.delete_alias("default", "hello", "live", moved.revision)
            assert await catalog.list_aliases("default", "hello") == []

    async def test_a_change_and_its_audit_entry_are_one(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            catalog = stores.catalog

            async def refused(write: Awaitable[object]) -> None:
                with pytest.raises((NotFound, PreconditionFailed)):
                    await write

            await refused(catalog.put_draft("nowhere", "hello", SPEC, CODE, (), NOW_S, entry("0")))
            await catalog.put_draft("default", "hello", SPEC, CODE, (), NOW_S, entry("1"))
            made = await catalog.publish("default", "hello", "", NOW_S, lambda version: entry(f"2 {version.number}"))
            again = await catalog.publish("default", "hello", "", NOW_S, lambda version: entry("no change"))
            assert again == made
            await refused(catalog.put_alias("default", "hello", "live", all_to(9), NOW_S, entry=entry("0")))
            alias = await catalog.put_alias("default", "hello", "live", all_to(1), NOW_S, entry=entry("3"))
            await refused(
                catalog.put_alias("default", "hello", "live", all_to(1), NOW_S, expected_revision=0, entry=entry("0"))
            )
            await refused(catalog.delete_alias("default", "hello", "live", alias.revision + 1, entry("0")))
            await catalog.delete_alias("default", "hello", "live", alias.revision, entry("4"))
            await refused(catalog.delete_alias("default", "hello", "live", None, entry("0")))
            await catalog.delete_function("default", "hello", entry("5"))
            await refused(catalog.delete_function("default", "hello", entry("0")))
            assert [one.action for one in await stores.tenants.audit(None)] == ["1", "2 1", "3", "4", "5"]

    async def test_one_of_many_compare_and_sets_wins(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            catalog = stores.catalog
            await catalog.put_draft("default", "hello", SPEC, CODE, (), NOW_S)
            made = await catalog.put_alias("default", "hello", "live", all_to(0), NOW_S)
            tries = [
                catalog.put_alias("default", "hello", "live", all_to(0), NOW_S + n, expected_revision=made.revision)
                for n in range(30)
            ]
            done = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(not isinstance(result, BaseException) for result in done) == 1
        assert sum(isinstance(result, PreconditionFailed) for result in done) == 29

    async def test_concurrent_writes_all_count(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            drafts = await asyncio.gather(
                *(stores.catalog.put_draft("default", f"f{n % 5}", SPEC, CODE, (), NOW_S) for n in range(100))
            )
            revisions = {(draft.function, draft.revision) for draft in drafts}
            numbers = await asyncio.gather(
                *(stores.catalog.publish("default", f"f{n}", "", NOW_S) for n in range(5) for _ in range(4))
            )
            assert len(revisions) == 100
            assert [version.number for version in numbers] == [1] * 20
            assert len(await stores.catalog.list_functions("default")) == 5

    async def test_lists_are_pages_in_order(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            catalog = stores.catalog
            await stores.tenants.create_namespace(Namespace(name="a", created_s=NOW_S))
            await stores.tenants.create_namespace(Namespace(name="a-b", created_s=NOW_S))
            for namespace, name in [("a-b", "x"), ("a", "y"), ("a", "b"), ("default", "a"), ("a", "c")]:
                await catalog.put_draft(namespace, name, SPEC, CODE, (), NOW_S)
            assert [f.name for f in await catalog.list_functions("a")] == ["b", "c", "y"]
            assert [f.name for f in await catalog.list_functions("a", after="b", limit=1)] == ["c"]
            assert await catalog.list_functions("a", after="y") == []
            everything: list[str] = []
            while page := await catalog.list_functions("*", after=everything[-1] if everything else "", limit=2):
                everything += [f"{f.namespace}/{f.name}" for f in page]
            assert everything == ["a/b", "a/c", "a/y", "a-b/x", "default/a"]

    async def test_namespaces_do_not_see_each_other(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            catalog = stores.catalog
            await stores.tenants.create_namespace(Namespace(name="other", created_s=NOW_S))
            await catalog.put_draft("default", "hello", SPEC, CODE, (), NOW_S)
            assert await catalog.list_functions("other") == []
            with pytest.raises(NotFound):
                await catalog.get_version("other", "hello", 0)
            with pytest.raises(NotFound):
                await catalog.delete_function("other", "hello")

    async def test_the_quota_of_functions_holds_under_concurrency(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.tenants.create_namespace(Namespace(name="small", created_s=NOW_S, quotas=Quotas(functions=3)))
            tries = [stores.catalog.put_draft("small", f"f{n}", SPEC, CODE, (), NOW_S) for n in range(10)]
            done = await asyncio.gather(*tries, return_exceptions=True)
            assert sum(isinstance(result, QuotaExceeded) for result in done) == 7
            kept = await stores.catalog.list_functions("small")
            assert len(kept) == 3
            await stores.catalog.put_draft("small", kept[0].name, SPEC, CODE, (), NOW_S)

    async def test_a_refused_write_leaves_its_neighbours_alone(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            tries = [
                stores.catalog.put_draft("default" if n % 3 else "nowhere", f"f{n}", SPEC, CODE, (), NOW_S)
                for n in range(30)
            ]
            done = await asyncio.gather(*tries, return_exceptions=True)
            assert sum(isinstance(result, NotFound) for result in done) == 10
            assert len(await stores.catalog.list_functions("default")) == 20

    async def test_values_no_store_can_hold_are_the_callers_fault(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            catalog = stores.catalog
            await catalog.put_draft("default", "hello", SPEC, CODE, (), NOW_S)
            for number in (2**62, 2**63, 10**30, -(10**30)):
                with pytest.raises((NotFound, BadRequest)):
                    await catalog.get_version("default", "hello", number)
                with pytest.raises((NotFound, BadRequest)):
                    await catalog.put_alias("default", "hello", "live", all_to(number), NOW_S)
            with pytest.raises(BadRequest):
                await catalog.publish("default", "hello", "half \ud83d", NOW_S)
            assert (await catalog.publish("default", "hello", "😀", NOW_S)).description == "😀"

    async def test_a_version_survives_a_round_through_json(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            version = await stores.catalog.put_draft("default", "hello", SPEC, CODE, (artifact("l"),), NOW_S)
        assert msgspec.json.decode(msgspec.json.encode(version), type=type(version)) == version
