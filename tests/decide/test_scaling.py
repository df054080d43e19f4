"""The autoscaler: its window, single decisions, bursts and surplus."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.decide.scaling import (
    DEFAULT_POLICY,
    SPAN_S,
    Desired,
    Policy,
    Samples,
    Window,
    believed_run_ms,
    burst_starts,
    decide,
    surplus,
)
from fuyun.domain.functions import FunctionSpec

SPEC = FunctionSpec(max_instances=300)


def held(running: int, waiting: int, for_s: float) -> Window:
    """A window that has seen the same level from second 0 to `for_s`."""
    window = Window(0.0)
    window.observe(0.0, running, waiting)
    window.observe(for_s, running, waiting)
    return window


# --- window --------------------------------------------------------------------------------------------------------


def test_a_level_held_is_its_own_mean_at_any_age() -> None:
    window = Window(0.0)
    window.observe(0.0, 4, 2)
    for at_s in (0.0, 0.3, 1.0, 5.7, 59.0, 300.0, 301.5):
        for span_s in (60.0, 6.0, 3.0):
            assert window.means(at_s, span_s) == pytest.approx((4.0, 2.0))


def test_the_short_window_sees_a_burst_that_the_long_one_dilutes() -> None:
    window = held(0, 0, 57.0)
    window.observe(57.0, 60, 0)
    assert window.means(59.5, 6.0)[0] == pytest.approx(60 * 2.5 / 5.5)  # seconds 54 to 58 and half of 59
    assert window.means(59.5, 60.0)[0] == pytest.approx(60 * 2.5 / 59.5)
    assert window.means(59.5, 3.0)[0] == pytest.approx(60.0)
    assert window.means(59.5, 6.0, 3.0)[0] == pytest.approx(0.0)


def test_what_is_older_than_the_span_is_forgotten() -> None:
    window = held(100, 100, 5.0)
    window.observe(5.0, 0, 0)
    assert window.means(5.0 + SPAN_S + 1, 60.0) == (0.0, 0.0)


def test_idle_time_is_counted_from_the_last_request() -> None:
    window = Window(0.0)
    assert window.idle_s(50.0) == math.inf
    window.observe(50.0, 1, 0)
    assert window.idle_s(70.0) == 0.0
    window.observe(71.0, 0, 0)
    assert window.idle_s(71.0) == 0.0
    assert window.idle_s(80.0) == 9.0


def test_a_clock_that_goes_back_changes_nothing() -> None:
    window = held(3, 0, 10.0)
    window.observe(4.0, 5, 0)
    assert window.means(10.0, 6.0)[0] == pytest.approx(3.0)
    assert window.means(11.0, 1.0)[0] == pytest.approx(5.0)


levels = st.lists(st.tuples(st.floats(0.0, 30.0), st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=80)


@given(levels=levels, start_s=st.floats(-100.0, 1e6), span_s=st.integers(1, 60))
def test_means_equal_the_integral_over_whole_buckets(
    levels: list[tuple[float, int, int]], start_s: float, span_s: int
) -> None:
    window, now_s = Window(start_s), start_s
    changes: list[tuple[float, int, int]] = [(start_s, 0, 0)]
    for pause_s, running, waiting in levels:
        now_s += pause_s
        window.observe(now_s, running, waiting)
        changes.append((now_s, running, waiting))
    from_s = max(start_s, math.floor(now_s) - span_s + 1.0)
    changes.append((now_s, 0, 0))
    areas = [0.0, 0.0]
    for (at_s, running, waiting), (until_s, _, _) in pairwise(changes):
        held_s = max(0.0, until_s - max(at_s, from_s))
        areas[0] += running * held_s
        areas[1] += waiting * held_s
    means = window.means(now_s, float(span_s))
    if now_s - from_s > 1e-6:
        assert means == pytest.approx([area / (now_s - from_s) for area in areas], rel=1e-6, abs=1e-3)


@given(levels=levels)
def test_the_same_observations_give_the_same_decisions(levels: list[tuple[float, int, int]]) -> None:
    def replay() -> list[Desired]:
        window, now_s, decisions = Window(0.0), 0.0, []
        previous = None
        for pause_s, running, waiting in levels:
            now_s += pause_s
            window.observe(now_s, running, waiting)
            previous = decide(Samples(window=window, ready=2, starting=1, previous=previous), now_s, SPEC)
            decisions.append(previous)
        return decisions

    assert replay() == replay()


# --- one decision --------------------------------------------------------------------------------------------------


def test_steady_load_wants_its_mean() -> None:
    samples = Samples(window=held(10, 0, 60.0), ready=5, starting=0, start_ms=5.0, mean_run_ms=100.0)
    assert decide(samples, 60.0, SPEC).instances == 10
    assert decide(samples, 60.0, FunctionSpec(concurrency=4)).instances == 3


def test_slow_starters_get_head_room_for_calls_that_hold_their_slot() -> None:
    window = held(7, 0, 60.0)
    slow = Samples(window=window, ready=7, starting=0, start_ms=2000.0, mean_run_ms=1000.0)
    assert decide(slow, 60.0, SPEC).instances == 10
    short = Samples(window=window, ready=7, starting=0, start_ms=2000.0, mean_run_ms=1.0)
    assert decide(short, 60.0, SPEC).instances == 7


def test_a_queue_of_short_calls_is_not_demand_until_it_is_long() -> None:
    def wanted(waiting: int) -> int:
        samples = Samples(window=held(2, waiting, 60.0), ready=2, starting=0, start_ms=5.0, mean_run_ms=0.3)
        return decide(samples, 60.0, SPEC).instances

    assert wanted(14) == 2
    assert wanted(130) == 2
    assert wanted(500) > 10


def test_an_unknown_run_time_counts_every_waiting_request() -> None:
    samples = Samples(window=held(2, 14, 60.0), ready=2, starting=0)
    assert decide(samples, 60.0, SPEC).instances == 16


def test_a_stalled_queue_is_demand_whatever_the_mean_says() -> None:
    samples = Samples(window=held(2, 14, 60.0), ready=2, starting=0, start_ms=5.0, mean_run_ms=0.3, stalled_ms=900.0)
    assert decide(samples, 60.0, SPEC).instances == 16


def test_a_backlog_is_worth_what_clears_it_in_one_start_time() -> None:
    # 100 waiting calls of 1 s and starts of 10 s: ten instances clear them in ten seconds
    samples = Samples(window=held(0, 100, 6.0), ready=0, starting=0, start_ms=10_000.0, mean_run_ms=1000.0)
    assert decide(samples, 6.0, SPEC, Policy(up_rate=1000.0)).instances == math.ceil(10 / 0.7)


def test_falling_demand_is_projected_to_when_a_start_would_be_done() -> None:
    window = Window(0.0)
    for second in range(60):
        window.observe(float(second), 40 if second < 57 else 20, 0)
    window.observe(60.0, 20, 0)
    quick = Samples(window=window, ready=10, starting=2, start_ms=5.0, mean_run_ms=30_000.0)
    slow = Samples(window=window, ready=10, starting=2, start_ms=10_000.0, mean_run_ms=30_000.0)
    assert decide(quick, 60.0, SPEC).instances == 20  # the present level, not the minute's mean of 39
    assert decide(slow, 60.0, SPEC).instances == 12  # by then nothing of it is left; what is there stays


def test_panic_reacts_to_the_short_window_and_lasts_a_stable_window() -> None:
    window = held(1, 0, 60.0)
    window.observe(60.0, 20, 0)
    first = decide(Samples(window=window, ready=1, starting=0), 63.0, SPEC)
    assert first.panic
    assert first.instances > 5
    assert "panic window of 6 s" in first.reason
    window.observe(64.0, 0, 0)
    later = decide(Samples(window=window, ready=first.instances, starting=0, previous=first), 90.0, SPEC)
    assert later.panic
    assert later.instances == first.instances  # a panic never lowers
    assert "a panic never lowers" in later.reason
    over = decide(Samples(window=window, ready=10, starting=0, previous=later), 63.0 + 60.1, SPEC)
    assert not over.panic
    assert over.instances < first.instances


def test_starters_count_against_panic() -> None:
    window = held(20, 0, 6.0)
    assert decide(Samples(window=window, ready=2, starting=0), 6.0, SPEC).panic
    assert not decide(Samples(window=window, ready=2, starting=18), 6.0, SPEC).panic


def test_rates_of_change_are_bounded() -> None:
    up = decide(Samples(window=held(200, 0, 60.0), ready=2, starting=0), 60.0, SPEC)
    assert (up.instances, "at most 20 from 2 ready" in up.reason) == (20, True)
    down = decide(Samples(window=held(1, 0, 60.0), ready=100, starting=0), 60.0, SPEC)
    assert (down.instances, "at least 50 from 100 ready" in down.reason) == (50, True)


def test_limits_of_the_spec_win() -> None:
    window = held(200, 0, 60.0)
    most = decide(Samples(window=window, ready=50, starting=0), 60.0, FunctionSpec(max_instances=60))
    assert (most.instances, "max_instances is 60" in most.reason) == (60, True)
    least = decide(Samples(window=held(1, 0, 60.0), ready=1, starting=0), 60.0, FunctionSpec(min_instances=3))
    assert (least.instances, "keeps 3" in least.reason) == (3, True)


def test_scale_to_zero_after_the_idle_timeout_and_not_before() -> None:
    spec = FunctionSpec(idle_timeout_s=300.0)
    window = held(5, 0, 10.0)
    window.observe(10.0, 0, 0)
    assert decide(Samples(window=window, ready=1, starting=0), 309.9, spec).instances == 1
    gone = decide(Samples(window=window, ready=1, starting=0), 310.0, spec)
    assert (gone.instances, gone.reason) == (0, "idle for 300 s: min_instances")
    kept = decide(Samples(window=window, ready=1, starting=0), 310.0, FunctionSpec(min_instances=2))
    assert kept.instances == 2


def test_a_function_nobody_called_has_its_minimum() -> None:
    unused = Samples(window=Window(0.0), ready=0, starting=0)
    assert decide(unused, 5.0, SPEC) == Desired(instances=0, reason="no request yet: min_instances")
    assert decide(unused, 5.0, FunctionSpec(min_instances=4)).instances == 4


@st.composite
def any_samples(draw: st.DrawFn) -> tuple[Samples, float]:
    window, now_s = Window(0.0), 0.0
    for pause_s, running, waiting in draw(levels):
        now_s += pause_s
        window.observe(now_s, running, waiting)
    previous = st.builds(
        Desired,
        instances=st.integers(0, 400),
        panic=st.booleans(),
        panic_until_s=st.floats(-10.0, 3000.0),
    )
    samples = Samples(
        window=window,
        ready=draw(st.integers(0, 50)),
        starting=draw(st.integers(0, 50)),
        start_ms=draw(st.sampled_from([0.0, 2.0, 300.0, 20_000.0])),
        mean_run_ms=draw(st.sampled_from([0.0, 0.1, 5.0, 700.0, 60_000.0])),
        stalled_ms=draw(st.sampled_from([0.0, 15.0, 5000.0])),
        previous=draw(st.none() | previous),
    )
    return samples, now_s + draw(st.floats(0.0, 400.0))


@given(
    drawn=any_samples(), low=st.integers(0, 10), span=st.integers(1, 100), concurrency=st.sampled_from([1, 2, 10, 1000])
)
def test_a_decision_stays_within_the_limits_and_says_why(
    drawn: tuple[Samples, float], low: int, span: int, concurrency: int
) -> None:
    samples, now_s = drawn
    spec = FunctionSpec(min_instances=low, max_instances=low + span, concurrency=concurrency)
    desired = decide(samples, now_s, spec)
    assert low <= desired.instances <= low + span
    assert desired.reason
    idle_s = samples.window.idle_s(now_s)
    assert desired.instances >= 1 or idle_s >= spec.idle_timeout_s
    if idle_s >= spec.idle_timeout_s:
        assert desired.instances == low
    elif not desired.panic:
        assert desired.instances <= max(low, 1, math.ceil(DEFAULT_POLICY.up_rate * max(1, samples.ready)))


# --- bursts --------------------------------------------------------------------------------------------------------


def starts(waiting: int, inflight: int = 0, total: int = 0, room: int = 100, concurrency: int = 1) -> int:
    return burst_starts(waiting, inflight, total, room, concurrency, 5.0, 0.0)


def test_an_unknown_run_time_starts_one_per_concurrency_waiting() -> None:
    assert starts(1) == 1
    assert starts(3, inflight=1) == 2
    assert starts(100) == 100
    assert starts(100, concurrency=10) == 10
    assert starts(11, concurrency=10) == 2
    assert starts(2, inflight=2, total=2) == 0
    assert starts(0) == 0


def test_room_bounds_a_burst() -> None:
    assert starts(100, room=7) == 7
    assert starts(100, room=0) == 0
    assert starts(100, room=-3) == 0


def test_a_long_call_is_not_worth_waiting_for() -> None:
    assert burst_starts(5, 0, 3, 100, 1, 5.0, 1000.0) == 5


def test_a_short_call_is_worth_waiting_for() -> None:
    assert burst_starts(14, 0, 2, 100, 1, 5.0, 0.3) == 0
    assert burst_starts(1, 0, 0, 100, 1, 5.0, 0.3) == 1  # there must be one
    assert burst_starts(8, 0, 1, 100, 1, 5.0, 0.3) == 1  # and a queue may have two
    assert burst_starts(1000, 0, 2, 2000, 1, 5.0, 0.3) == 58  # which wait 300 ms for two, 5 ms for sixty


@given(
    waiting=st.integers(0, 2000),
    inflight=st.integers(0, 300),
    ready=st.integers(0, 300),
    room=st.integers(-5, 300),
    concurrency=st.integers(1, 100),
    start_ms=st.sampled_from([0.0, 1.0, 5.0, 400.0, 30_000.0]),
    run_ms=st.sampled_from([0.0, 0.05, 1.0, 40.0, 2000.0, 1e6]),
)
def test_a_burst_never_starts_too_much_and_never_nothing_for_good(
    waiting: int, inflight: int, ready: int, room: int, concurrency: int, start_ms: float, run_ms: float
) -> None:
    count = burst_starts(waiting, inflight, ready + inflight, room, concurrency, start_ms, run_ms)
    assert 0 <= count <= max(0, room)
    assert count == 0 or (count + inflight - 1) * concurrency < waiting
    if waiting and room > 0 and ready + inflight == 0:
        assert count >= 1
    known = run_ms > 0 and start_ms > 0
    if not known and room >= waiting:
        assert (count + inflight) * concurrency >= waiting
    more = burst_starts(waiting + 1, inflight, ready + inflight, room, concurrency, start_ms, run_ms)
    assert more >= count
    slower = burst_starts(waiting, inflight, ready + inflight, room, concurrency, start_ms, run_ms * 2)
    assert slower >= count


def test_a_stall_overrules_the_mean() -> None:
    assert believed_run_ms(1.0, 0.0, 5.0) == 1.0
    assert believed_run_ms(1.0, 21.0, 5.0) == 1.0
    assert believed_run_ms(1.0, 50.0, 5.0) == 50.0
    assert believed_run_ms(100.0, 150.0, 5.0) == 100.0
    assert believed_run_ms(0.0, 5000.0, 5.0) == 0.0


# --- surplus -------------------------------------------------------------------------------------------------------


def test_the_longest_idle_go_first_and_the_kept_stay() -> None:
    idle = [("a", 50.0), ("b", 10.0), ("c", 95.0), ("d", 20.0)]
    assert surplus(idle, total=6, keep=0, now_s=100.0, idle_timeout_s=30.0) == ["b", "d", "a"]
    assert surplus(idle, total=6, keep=4, now_s=100.0, idle_timeout_s=30.0) == ["b", "d"]
    assert surplus(idle, total=6, keep=6, now_s=100.0, idle_timeout_s=30.0) == []
    assert surplus(idle, total=6, keep=0, now_s=100.0, idle_timeout_s=300.0) == []


@given(
    since=st.lists(st.floats(0.0, 100.0), max_size=30),
    busy=st.integers(0, 10),
    keep=st.integers(0, 40),
    timeout_s=st.floats(1.0, 90.0),
)
def test_surplus_never_goes_below_what_is_kept(since: list[float], busy: int, keep: int, timeout_s: float) -> None:
    idle = [(f"i{number}", since_s) for number, since_s in enumerate(since)]
    total = len(idle) + busy
    gone = surplus(idle, total, keep, 100.0, timeout_s)
    assert len(gone) == len(set(gone)) <= max(0, total - keep)
    ages = dict(idle)
    assert all(100.0 - ages[id_] >= timeout_s for id_ in gone)
    staying = [since_s for id_, since_s in idle if id_ not in gone]
    if gone and staying:
        assert max(ages[id_] for id_ in gone) <= min(staying)
