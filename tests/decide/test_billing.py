"""GB-seconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.decide.billing import Meter, begin, call_gb_s, end, gb_s
from fuyun.domain.errors import Internal

GIB = 2**30
MS = 1_000_000


@pytest.mark.parametrize(
    ("memory_bytes", "run_us", "expected"),
    [
        (GIB, 1_000_000, 1.0),
        (GIB // 4, 1_000_000, 0.25),
        (GIB, 1, 0.001),
        (GIB, 1000, 0.001),
        (GIB, 1001, 0.002),
        (GIB, 0, 0.0),
        (3 * GIB, 1500, 0.006),
    ],
)
def test_a_call_alone_bills_its_time_rounded_up(memory_bytes: int, run_us: int, expected: float) -> None:
    assert call_gb_s(memory_bytes, run_us) == pytest.approx(expected)


def test_overlapping_calls_share_the_busy_time() -> None:
    meter, first = begin(Meter(), 0)
    meter, second = begin(meter, 10 * MS)
    meter, first_owes = end(meter, 30 * MS, first)
    meter, second_owes = end(meter, 40 * MS, second)
    assert first_owes == 20 * MS  # 10 ms alone, half of 20 ms
    assert second_owes == 20 * MS  # half of 20 ms, 10 ms alone
    assert meter.inflight == 0


def test_idle_time_is_not_billed() -> None:
    meter, mark = begin(Meter(), 0)
    meter, owes = end(meter, 5 * MS, mark)
    assert owes == 5 * MS
    meter, mark = begin(meter, 9_000 * MS)
    _, owes = end(meter, 9_001 * MS, mark)
    assert owes == 1 * MS


def test_the_last_call_out_carries_the_rounding() -> None:
    meter, first = begin(Meter(), 0)
    meter, second = begin(meter, 0)
    meter, first_owes = end(meter, 400_000, first)
    meter, second_owes = end(meter, 400_000, second)
    assert first_owes == 200_000
    assert second_owes == 800_000


def test_a_call_that_never_went_in_cannot_leave() -> None:
    with pytest.raises(Internal, match="had none inside"):
        end(Meter(), 5, 0.0)


@given(runs=st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**10)), max_size=20))
def test_one_call_at_a_time_bills_the_same_either_way(runs: list[tuple[int, int]]) -> None:
    meter, now_ns = Meter(), 123
    for run_us, pause_ns in runs:
        now_ns += pause_ns
        meter, mark = begin(meter, now_ns)
        now_ns += run_us * 1000
        meter, owes_ns = end(meter, now_ns, mark)
        assert gb_s(GIB // 2, owes_ns) == pytest.approx(call_gb_s(GIB // 2, run_us))


@given(moves=st.lists(st.tuples(st.booleans(), st.integers(0, 10**9)), max_size=100), data=st.data())
def test_shares_sum_to_the_busy_stretches_rounded_up(moves: list[tuple[bool, int]], data: st.DataObject) -> None:
    meter, now_ns = Meter(), 0
    inside: list[tuple[float, int]] = []
    began_ns = expected_ns = 0
    billed_ns = 0.0

    def leave(number: int) -> None:
        nonlocal meter, billed_ns, expected_ns
        mark, since_ns = inside.pop(number)
        meter, owes_ns = end(meter, now_ns, mark)
        assert owes_ns >= 0
        if inside:
            assert owes_ns <= now_ns - since_ns + 1
        else:
            expected_ns += -(-(now_ns - began_ns) // MS) * MS
        billed_ns += owes_ns

    for comes, pause_ns in moves:
        now_ns += pause_ns
        if comes:
            if not inside:
                began_ns = now_ns
            meter, mark = begin(meter, now_ns)
            inside.append((mark, now_ns))
        elif inside:
            leave(data.draw(st.integers(0, len(inside) - 1)))
        assert meter.inflight == len(inside)
    while inside:
        now_ns += 1000
        leave(0)
    assert billed_ns == pytest.approx(expected_ns, rel=1e-9, abs=1.0)
