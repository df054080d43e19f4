"""Killed at any moment, the catalog holds every write it acknowledged, and no half of one."""

from __future__ import annotations

import signal
from collections import Counter
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from fuyun.domain.tenants import Quotas
from tests import launching
from tests.drivers.catalog import moving
from tests.drivers.catalog.stores import opened

REPOSITORY = Path(__file__).resolve().parents[3]


def running(script: str, folder: Path, *numbers: int, **env: str) -> launching.Process:
    return launching.begin(f"tests.drivers.catalog.{script}", str(folder), *map(str, numbers), **env)


def writing(folder: Path, lanes: int, limit_bytes: int = 0, **env: str) -> launching.Process:
    return running("writing", folder, lanes, limit_bytes, **env)


async def make_room(folder: Path) -> None:
    async with opened(folder) as stores:
        await stores.tenants.set_quotas("default", Quotas(functions=10**6))


async def check(folder: Path, acknowledged: set[str]) -> None:
    """Every acknowledged function is there with its version; nothing is there without its draft. The audit log tells
    of what is there, and of nothing else."""
    async with opened(folder) as stores:
        found = {f.name: f for f in await stores.catalog.list_functions("default", limit=10**6)}
        assert acknowledged <= set(found)
        for name in acknowledged:
            assert found[name].last_version == 1
        for name in found:
            numbers = [version.number for version in await stores.catalog.list_versions("default", name)]
            assert numbers == list(range(found[name].last_version + 1))
        told = [(entry.action, entry.target) for entry in await stores.tenants.audit(None, limit=10**6)]
        published = [("publish", name) for name in found if found[name].last_version]
        assert sorted(told) == sorted([*(("deploy", name) for name in found), *published])


@pytest.mark.anyio
@pytest.mark.parametrize("lanes", [1, 20])
async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, lanes: int) -> None:
    await make_room(tmp_path)
    with writing(tmp_path, lanes) as process:
        assert process.stdout is not None
        acknowledged = {process.stdout.readline().strip() for _ in range(60)}
        process.send_signal(signal.SIGKILL)
        # What the pipe still holds was acknowledged too; the last line may be torn.
        acknowledged |= {line.strip() for line in process.stdout if line.endswith("\n")}
    assert not any(line.startswith("!") for line in acknowledged)
    await check(tmp_path, acknowledged)


@pytest.mark.anyio
@pytest.mark.parametrize("point", ["catalog.before_commit", "catalog.after_commit"])
async def test_around_a_commit(tmp_path: Path, point: str) -> None:
    await make_room(tmp_path)
    with writing(tmp_path, 5, FUYUN_CRASH_AT=f"{point}:9") as process:
        assert process.stdout is not None
        acknowledged = {line.strip() for line in process.stdout if line.endswith("\n")}
        assert process.wait(30) == -signal.SIGKILL
    await check(tmp_path, acknowledged)


@pytest.mark.anyio
async def test_a_migration_is_all_or_nothing(tmp_path: Path) -> None:
    with writing(tmp_path, 1, FUYUN_CRASH_AT="catalog.migrated") as process:
        assert process.wait(30) == -signal.SIGKILL
    assert (tmp_path / "fuyun.db").exists()
    await check(tmp_path, set())


@pytest.mark.anyio
async def test_files_that_may_not_grow_refuse_new_writes_and_keep_the_old(tmp_path: Path) -> None:
    await make_room(tmp_path)
    with writing(tmp_path, 4, limit_bytes=800_000) as process:
        assert process.stdout is not None
        lines = [line.strip() for line in process.stdout]
        assert process.wait(30) == 0
    acknowledged = {line for line in lines if not line.startswith("!")}
    refusals = {line for line in lines if line.startswith("!")}
    assert len(acknowledged) > 20
    assert len(refusals) > 0
    assert all("storage_full" in line and "free space" in line for line in refusals)
    await check(tmp_path, acknowledged)


# --- aliases, rollbacks, and functions that are deleted and made anew


async def outcomes(folder: Path, lane: int, steps: int) -> list[Any]:
    """What the lane's function is after so many steps, and after one more."""
    found = []
    async with opened(folder) as stores, aclosing(moving.play(stores, lane)) as played:
        for count in range(steps + 2):
            if count >= steps:
                found.append(await moving.seen(stores, lane))
            await anext(played)
    return found


async def check_moves(folder: Path, fresh: Path, lanes: int, acknowledged: Counter[int]) -> int:
    """Every function is as its acknowledged steps left it, or one whole step further; how many are further."""
    further = 0
    async with opened(folder) as stores:
        for lane in range(lanes):
            before, after = await outcomes(fresh / str(lane), lane, acknowledged[lane])
            found = await moving.seen(stores, lane)
            assert found in (before, after), f"lane {lane} after {acknowledged[lane]} steps"
            further += found == after
    return further


@pytest.mark.anyio
@pytest.mark.parametrize(("lanes", "steps"), [(1, 31), (1, 38), (6, 150)])
async def test_moves_that_were_acknowledged_survive_kill_9(tmp_path: Path, lanes: int, steps: int) -> None:
    with running("moving", tmp_path, lanes) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(steps)]
        process.send_signal(signal.SIGKILL)
        said += [line for line in process.stdout if line.endswith("\n")]
    acknowledged = Counter(int(line) for line in said)
    assert sum(acknowledged.values()) >= steps
    await check_moves(tmp_path, tmp_path / "fresh", lanes, acknowledged)


#: The steps of one life of a function: two drafts, each published, three moves of the alias, two rollbacks, the end.
LIFE = 10


@pytest.mark.anyio
@pytest.mark.parametrize("step", range(5, LIFE + 2))
@pytest.mark.parametrize("point", ["catalog.before_commit", "catalog.after_commit"])
async def test_around_the_commit_of_each_move(tmp_path: Path, point: str, step: int) -> None:
    """Killed before the commit it is as before the step, killed after it as after the step."""
    with running("moving", tmp_path, 1, FUYUN_CRASH_AT=f"{point}:{step}") as process:
        assert process.stdout is not None
        acknowledged = Counter(int(line) for line in process.stdout if line.endswith("\n"))
        assert process.wait(30) == -signal.SIGKILL
    assert acknowledged[0] == step - 1
    assert await check_moves(tmp_path, tmp_path / "fresh", 1, acknowledged) == (point == "catalog.after_commit")
