"""Killed at any point of its way, what was accepted reaches exactly one recorded outcome."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

from fuyun.domain.deliveries import Delivery
from fuyun.ports.deliveries import DeliveryQuery
from tests import launching
from tests.drivers.deliveries.stores import opened

REPOSITORY = Path(__file__).resolve().parents[2]
COUNT = 12


def run(folder: Path, count: int, ticks: int = 0, crash_at: str = "") -> tuple[int, set[str], Counter[str]]:
    """(exit code, what was acknowledged, how often each ran)."""
    words = (str(folder), str(count), str(ticks))
    with launching.begin("tests.services.delivering", *words, FUYUN_CRASH_AT=crash_at) as done:
        assert done.stdout is not None
        said = [line.split() for line in done.stdout if line.endswith("\n")]
        assert done.wait(60) in (0, -signal.SIGKILL)
    assert not any(words[0] == "!" for words in said), said
    accepted = {id_ for word, id_ in said if word == "accepted"}
    return done.returncode, accepted, Counter(id_ for word, id_ in said if word == "ran")


async def kept(folder: Path) -> list[Delivery]:
    async with opened(folder) as stores:
        return await stores.deliveries.list_deliveries(DeliveryQuery(namespace="default", limit=10**6))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "point",
    ["before_accept", "after_accept", "before_call:5", "after_call:5", "before_settle", "after_settle"],
)
async def test_killed_on_the_way_of_an_invocation(tmp_path: Path, point: str) -> None:
    code, accepted, ran = run(tmp_path, COUNT, crash_at=f"deliveries.{point}")
    assert code == -signal.SIGKILL
    code, more, again = run(tmp_path, 0)
    assert (code, more) == (0, set())
    found = await kept(tmp_path)
    assert accepted <= {one.id for one in found}
    assert {one.state for one in found} <= {"succeeded"}, "each reaches its outcome"
    assert len(found) == (0 if point == "before_accept" else COUNT)
    total = ran + again
    for one in found:
        assert 1 <= total[one.id] <= 2, "at least once; again only where it was cut off"
        assert one.attempts <= 2
    if point == "after_settle":
        assert not any(again[id_] for id_ in ran if next(o for o in found if o.id == id_).attempts == 1)


@pytest.mark.anyio
@pytest.mark.parametrize("point", ["before_fire:2", "after_fire:2"])
async def test_killed_around_a_tick_it_fires_once(tmp_path: Path, point: str) -> None:
    code, _, _ = run(tmp_path, 0, 4, crash_at=f"timer.{point}")
    assert code == -signal.SIGKILL
    code, _, _ = run(tmp_path, 0, 4)
    assert code == 0
    found = await kept(tmp_path)
    async with opened(tmp_path) as stores:
        (state,) = await stores.triggers.list_states()
    ticks = sorted(round(one.accepted_s - 0.5) for one in found)
    assert len(found) >= 4
    assert {one.state for one in found} == {"succeeded"}
    assert state.position_s - len(found) + 1 <= ticks[0] + 1, "every second has its tick"
    assert len({one.trail for one in found}) == len(found), "and no tick came twice"
