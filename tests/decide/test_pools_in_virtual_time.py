"""The autoscaler's decisions together: whole pools in virtual time."""

from __future__ import annotations

import pytest

from fuyun.decide.scaling import Desired
from fuyun.domain.functions import FunctionSpec
from tests.decide.simulation import Pool, closed_loop, open_loop

SPEC = FunctionSpec(max_instances=300)


def measured(spec: FunctionSpec, start_ms: float, run_ms: float) -> Pool:
    """A pool that knows its times, as after the first calls of a version."""
    return Pool(spec, start_ms, lambda call: run_ms, measured_run_ms=run_ms, measured_start_ms=start_ms)


def test_a_burst_of_100_slow_requests_gets_100_instances_and_they_go_again() -> None:
    pool = Pool(FunctionSpec(idle_timeout_s=30.0), 5.0, lambda call: 2000.0)
    for _ in range(100):
        pool.at(0.0, pool.arrive)
    pool.run_until(3.0)
    assert (pool.peak, pool.started, pool.answered) == (100, 100, 100)
    assert pool.longest_wait_s == pytest.approx(0.005)
    pool.run_until(29.0)
    assert pool.total == 100
    pool.run_until(40.0)
    assert pool.total == 0
    assert pool.started == 100


@pytest.mark.parametrize("run_ms", [0.1, 0.3, 1.0])
def test_a_hello_function_at_16_connections_settles_on_a_few_instances(run_ms: float) -> None:
    pool = measured(SPEC, 5.0, run_ms)
    closed_loop(pool, 16)
    pool.run_until(3.0)
    assert 2 <= pool.peak <= 4
    assert pool.longest_wait_s < 0.010


def test_a_quiet_time_is_no_stall() -> None:
    pool = measured(SPEC, 5.0, 0.3)
    pool.at(0.0, pool.arrive)
    for _ in range(16):
        pool.at(30.049, pool.arrive)  # a millisecond before a re-check
    pool.run_until(31.0)
    assert pool.peak <= 4


def test_one_connection_has_one_instance() -> None:
    for run_ms in (0.1, 5.0, 1000.0):
        pool = measured(SPEC, 5.0, run_ms)
        closed_loop(pool, 1)
        pool.run_until(5.0)
        assert pool.peak == 1


def test_calls_of_20_ms_get_an_instance_each() -> None:
    pool = measured(SPEC, 5.0, 20.0)
    closed_loop(pool, 64)
    pool.run_until(10.0)
    assert pool.peak == 64


@pytest.mark.parametrize(
    ("start_ms", "run_ms", "rate_per_s", "most"),
    [(10_000.0, 100.0, 50.0, 15), (3_000.0, 100.0, 50.0, 15), (10_000.0, 1000.0, 5.0, 15), (1_000.0, 100.0, 100.0, 30)],
)
def test_slow_starters_are_not_over_scaled(start_ms: float, run_ms: float, rate_per_s: float, most: int) -> None:
    needed = rate_per_s * run_ms / 1000
    pool = measured(SPEC, start_ms, run_ms)
    open_loop(pool, rate_per_s, 0.5, 60.0)
    pool.run_until(59.9)
    assert needed <= pool.peak <= most
    assert pool.longest_wait_s <= start_ms / 1000 * 1.5
    assert len(pool.queue) == 0


def test_quick_starters_keep_waits_short_under_a_steady_load() -> None:
    pool = measured(SPEC, 5.0, 100.0)
    open_loop(pool, 300.0, 0.5, 20.0)
    pool.run_until(19.9)
    assert 30 <= pool.peak <= 40
    assert pool.longest_wait_s < 0.02


def test_long_calls_among_short_ones_do_not_starve_the_rest() -> None:
    pool = Pool(SPEC, 5.0, lambda call: 30_000.0 if call in (20, 21, 22) else 1.0)
    pool.measured_run_ms, pool.measured_start_ms = 1.0, 5.0
    open_loop(pool, 50.0, 0.5, 20.0)
    pool.run_until(25.0)
    assert pool.answered == pool.calls - 3
    assert pool.longest_wait_s < 0.2


def test_provisioned_instances_stay() -> None:
    pool = measured(FunctionSpec(min_instances=5, idle_timeout_s=10.0), 5.0, 50.0)
    pool.run_until(2.0)
    assert pool.total == 5
    for _ in range(30):
        pool.at(3.0, pool.arrive)
    pool.run_until(4.0)
    assert pool.total > 5
    pool.run_until(60.0)
    assert pool.total == 5


def test_a_simulation_replays_to_the_bit() -> None:
    def history() -> list[Desired]:
        pool = measured(SPEC, 300.0, 70.0)
        open_loop(pool, 40.0, 0.0, 8.0)
        pool.run_until(70.0)
        return pool.decisions

    assert history() == history()
