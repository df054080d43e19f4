"""When timers fire."""

from __future__ import annotations

import math
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.decide.timers import GRACE_S, MOST_TICKS, due, next_s
from fuyun.domain.triggers import Missed, TimerTrigger

NOON_S = datetime.fromisoformat("2026-03-10T12:00:00+00:00").timestamp()
MINUTELY = TimerTrigger(cron="* * * * *", missed="all")


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_cron_fires_in_its_zone_also_where_clocks_change() -> None:
    daily = TimerTrigger(cron="30 2 * * *", zone="Europe/Berlin")
    assert next_s(daily, at("2026-03-27T12:00:00Z")) == at("2026-03-28T02:30:00+01:00")
    # 02:30 does not exist on the 29th, when clocks are set forward: it fires after the gap, and once.
    ticks = [at("2026-03-28T12:00:00Z")]
    for _ in range(2):
        ticks.append(next_s(daily, ticks[-1]))
    assert ticks[1:] == [at("2026-03-29T03:00:00+02:00"), at("2026-03-30T02:30:00+02:00")]
    # It exists twice on 25 October: it fires once.
    first = next_s(daily, at("2026-10-24T12:00:00Z"))
    assert next_s(daily, first) - first >= 24 * 3600


def test_a_rate_is_aligned_and_a_moment_comes_once() -> None:
    assert next_s(TimerTrigger(every_s=300), NOON_S + 1) == NOON_S + 300
    assert next_s(TimerTrigger(every_s=300), NOON_S + 300) == NOON_S + 600
    once = TimerTrigger(at="2026-03-10T12:00:00Z")
    assert next_s(once, NOON_S - 1) == NOON_S
    assert next_s(once, NOON_S) == math.inf
    assert due(once, NOON_S - 1, NOON_S) == ([NOON_S], NOON_S)
    assert due(once, NOON_S - 1, NOON_S + 9000) == ([NOON_S], NOON_S)
    assert due(once, NOON_S, NOON_S + 9000) == ([], NOON_S)


@pytest.mark.parametrize(("missed", "ticks"), [("skip", []), ("last", [59]), ("all", list(range(1, 60)))])
def test_what_was_missed(missed: Missed, ticks: list[int]) -> None:
    """Looked at at 14:00; it fired last at 12:00, and would have at 12:01 to 12:59."""
    timer = TimerTrigger(cron="* 12 * * *", missed=missed)
    assert due(timer, NOON_S, NOON_S + 7200) == ([NOON_S + 60 * n for n in ticks], NOON_S + 59 * 60)


def test_ticks_that_are_a_moment_late_all_count() -> None:
    for missed in ("skip", "last", "all"):
        timer = TimerTrigger(every_s=1, missed=missed)
        assert due(timer, NOON_S, NOON_S + 5.5) == ([NOON_S + n for n in range(1, 6)], NOON_S + 5)
    ticks, position_s = due(TimerTrigger(every_s=1, missed="skip"), NOON_S, NOON_S + 1000)
    assert (len(ticks), position_s) == (int(GRACE_S), NOON_S + 1000)


def test_many_at_once_come_in_parts() -> None:
    ticks, position_s = due(MINUTELY, NOON_S, NOON_S + 60 * 2 * MOST_TICKS)
    assert (len(ticks), position_s) == (MOST_TICKS, NOON_S + 60 * MOST_TICKS)
    again, _ = due(MINUTELY, position_s, NOON_S + 60 * 2 * MOST_TICKS)
    assert again[0] == position_s + 60


@given(
    every_s=st.floats(1, 100_000),
    looks=st.lists(st.floats(0.1, 50_000), min_size=1, max_size=30),
    missed=st.sampled_from(["skip", "last", "all"]),
)
def test_whenever_it_is_looked_at_each_tick_fires_once_at_most(
    every_s: float, looks: list[float], missed: Missed
) -> None:
    timer = TimerTrigger(every_s=every_s, missed=missed)
    now_s, position_s, fired = NOON_S, NOON_S, []
    for step in looks:
        now_s += step
        while True:
            ticks, moved_s = due(timer, position_s, now_s)
            assert moved_s >= position_s
            assert all(position_s < tick <= now_s for tick in ticks)
            fired += ticks
            if moved_s == position_s:
                break
            position_s = moved_s
    assert fired == sorted(set(fired))
    if missed == "all":
        first = math.floor(NOON_S / every_s) + 1
        wanted = [n * every_s for n in range(first, first + len(fired) + 2)]
        assert fired == [tick for tick in wanted if NOON_S < tick <= now_s]
