"""What each rung of the start ladder saves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.decide.savings import Times, of_rung, of_start

TIMES = Times(launch_ms=40.0, spawn_ms=6.0, import_ms=300.0, load_ms=500.0, fork_ms=20.0, take_ms=1.0)


@pytest.mark.parametrize(
    ("rung", "took", "saved"),
    [("zygote", 6.0, 40.0), ("blank", 0.0, 6.0), ("layers", 20.0, 300.0), ("template", 20.0, 480.0),
     ("spare", 1.0, 19.0), ("none", 40.0, 0.0)],
)  # fmt: skip
def test_each_rung_is_held_against_the_one_below(rung: str, took: float, saved: float) -> None:
    assert of_rung(rung, TIMES) == (took, saved)


@pytest.mark.parametrize(
    ("rung", "took", "saved"),
    [("template", 22.0, 478.0), ("spare", 2.0, 498.0), ("layers", 25.0, 300.0), ("blank", 510.0, 6.0),
     ("zygote", 516.0, 40.0), ("none", 556.0, 0.0)],
)  # fmt: skip
def test_a_start_is_held_against_loading_or_what_it_found_made(rung: str, took: float, saved: float) -> None:
    assert of_start(rung, took, TIMES) == saved


def test_what_was_not_measured_is_not_told() -> None:
    for rung in ("zygote", "template", "spare"):
        assert of_rung(rung, Times()) == (None, None)
    assert of_rung("blank", Times()) == (0.0, None)
    assert of_rung("template", Times(load_ms=500.0)) == (None, None), "no fork yet"


@given(st.sampled_from(["zygote", "blank", "template", "spare", "none"]), *[st.floats(0, 1e6)] * 5)
def test_nothing_costs_time(rung: str, launch: float, spawn: float, load: float, fork: float, take: float) -> None:
    times = Times(launch_ms=launch, spawn_ms=spawn, load_ms=load, fork_ms=fork, take_ms=take)
    for value in (*of_rung(rung, times), of_start(rung, take, times)):
        assert value is None or value >= 0
