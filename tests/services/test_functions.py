"""Versions and aliases after a deployment: publish, route, roll back, delete."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuyun.domain.errors import BadRequest, Conflict, Forbidden, NotFound, PreconditionFailed
from fuyun.domain.functions import FunctionSpec, Weight
from tests.services.deploy_bench import DEVELOPER, VIEWER, Bench, bench

pytestmark = pytest.mark.anyio


def to(*pairs: tuple[int, float]) -> tuple[Weight, ...]:
    return tuple(Weight(version=version, weight=weight) for version, weight in pairs)


async def deployed(b: Bench, versions: int) -> None:
    for number in range(versions):
        await b.deploy(spec=FunctionSpec(handler="app.handler", timeout_s=1 + number))


async def test_functions_are_listed_page_by_page_and_a_misspelt_one_is_guessed(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        for name in ("alpha", "beta", "gamma"):
            await b.deploy(name)
        assert [item.name for item in await b.functions.list_functions("default", limit=2)] == ["alpha", "beta"]
        assert [item.name for item in await b.functions.list_functions("default", "beta")] == ["gamma"]
        with pytest.raises(NotFound) as caught:
            await b.functions.get_function("default", "gama")
        assert "gamma" in caught.value.hint
        with pytest.raises(NotFound):
            await b.functions.list_functions("nowhere")


async def test_publishing_an_unchanged_draft_gives_the_version_it_is(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.deploy(publish=False)
        first = await b.functions.publish(DEVELOPER, "default", "f", "one")
        assert (first.number, first.description) == (1, "one")
        assert await b.functions.publish(DEVELOPER, "default", "f") == first
        assert [v.number for v in await b.functions.list_versions("default", "f")] == [0, 1]
        assert await b.functions.get_version("default", "f", 1) == first
        assert b.routed == {"f": [0, 1]}


async def test_an_alias_moves_by_compare_and_set(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await deployed(b, 2)
        f = b.functions
        made = await f.set_alias(DEVELOPER, "default", "f", "live", to((1, 100)), expected_revision=0)
        with pytest.raises(PreconditionFailed):
            await f.set_alias(DEVELOPER, "default", "f", "live", to((2, 100)), expected_revision=0)
        split = to((1, 90), (2, 10))
        moved = await f.set_alias(DEVELOPER, "default", "f", "live", split, "X-User", made.revision)
        assert (moved.weights, moved.previous, moved.sticky_header) == (split, to((1, 100)), "x-user")
        with pytest.raises(PreconditionFailed):
            await f.set_alias(DEVELOPER, "default", "f", "live", to((2, 100)), expected_revision=made.revision)
        assert await f.get_alias("default", "f", "live") == moved
        assert ("alias.set", "f", "live 1=90 2=10") in await b.audited()


async def test_rollback_goes_back_and_forth(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await deployed(b, 2)
        f = b.functions
        await f.set_alias(DEVELOPER, "default", "f", "live", to((1, 100)), "x-user")
        with pytest.raises(Conflict, match="nothing but 1"):
            await f.rollback(DEVELOPER, "default", "f", "live")
        moved = await f.set_alias(DEVELOPER, "default", "f", "live", to((2, 100)), "x-user")
        back = await f.rollback(DEVELOPER, "default", "f", "live")
        assert (back.weights, back.previous, back.sticky_header) == (to((1, 100)), to((2, 100)), "x-user")
        with pytest.raises(PreconditionFailed):
            await f.rollback(DEVELOPER, "default", "f", "live", moved.revision)
        assert (await f.rollback(DEVELOPER, "default", "f", "live", back.revision)).weights == to((2, 100))
        assert ("alias.rollback", "f", "live 2 -> 1") in await b.audited()


async def test_aliases_that_cannot_be(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await deployed(b, 1)
        f = b.functions
        for name, weights, header, error in (
            ("live", to((9, 100)), "", NotFound),
            ("live", to((1, 90)), "", BadRequest),
            ("3", to((1, 100)), "", BadRequest),
            ("live", to((1, 100)), "x user", BadRequest),
        ):
            with pytest.raises(error):
                await f.set_alias(DEVELOPER, "default", "f", name, weights, header)
        assert await f.list_aliases("default", "f") == []
        with pytest.raises(NotFound, match="it has none"):
            await f.rollback(DEVELOPER, "default", "f", "live")


async def test_deleting_an_alias_and_a_function(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await deployed(b, 2)
        f = b.functions
        await f.set_alias(DEVELOPER, "default", "f", "live", to((1, 100)))
        with pytest.raises(NotFound) as caught:
            await f.delete_alias(DEVELOPER, "default", "f", "lvie")
        assert "live" in caught.value.hint
        await f.delete_alias(DEVELOPER, "default", "f", "live")
        await f.delete_function(DEVELOPER, "default", "f")
        assert b.host.warm == {}
        assert b.routed == {}
        with pytest.raises(NotFound):
            await f.delete_function(DEVELOPER, "default", "f")
        actions = [action for action, _, _ in await b.audited()]
        assert actions[-2:] == ["alias.delete", "function.delete"]


async def test_who_may_only_read_changes_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await deployed(b, 1)
        f = b.functions
        with pytest.raises(Forbidden):
            await f.publish(VIEWER, "default", "f")
        with pytest.raises(Forbidden):
            await f.set_alias(VIEWER, "default", "f", "live", to((1, 100)))
        with pytest.raises(Forbidden):
            await f.rollback(VIEWER, "default", "f", "live")
        with pytest.raises(Forbidden):
            await f.delete_alias(VIEWER, "default", "f", "live")
        with pytest.raises(Forbidden):
            await f.delete_function(VIEWER, "default", "f")
        assert b.routed == {"f": [0, 1]}
