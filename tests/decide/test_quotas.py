"""Admission and quotas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.decide.quotas import (
    Gate,
    Refusal,
    admit,
    check_functions,
    check_storage,
    release,
    room,
    throttled,
)
from fuyun.domain.errors import Internal, QuotaExceeded
from fuyun.domain.tenants import Quotas


def test_a_request_passes_both_gates_or_none() -> None:
    namespace, busy, quiet = Gate(2), Gate(1), Gate(5)
    assert admit(namespace, busy) is None
    assert admit(namespace, busy) == "function_concurrency"
    assert (namespace.used, busy.used) == (1, 1)
    assert admit(namespace, quiet) is None
    assert admit(namespace, quiet) == "namespace_concurrency"
    assert (namespace.used, quiet.used) == (2, 1)
    release(namespace, busy)
    assert admit(namespace, quiet) is None


def test_a_quota_of_zero_lets_nothing_in() -> None:
    assert admit(Gate(0), Gate(10)) == "namespace_concurrency"


def test_a_lowered_limit_throws_nothing_out() -> None:
    namespace, function = Gate(3), Gate(3)
    for _ in range(3):
        assert admit(namespace, function) is None
    namespace.limit = 1
    release(namespace, function)
    assert admit(namespace, function) == "namespace_concurrency"


def test_releasing_what_was_not_admitted_is_our_bug() -> None:
    with pytest.raises(Internal, match="released more requests than were admitted"):
        release(Gate(1), Gate(1))


@given(
    limits=st.tuples(st.integers(0, 5), st.lists(st.integers(0, 4), min_size=3, max_size=3)),
    moves=st.lists(st.tuples(st.booleans(), st.integers(0, 2)), max_size=80),
)
def test_gates_count_exactly_what_is_inside(limits: tuple[int, list[int]], moves: list[tuple[bool, int]]) -> None:
    namespace, functions = Gate(limits[0]), [Gate(limit) for limit in limits[1]]
    inside = [0, 0, 0]
    for comes, number in moves:
        function = functions[number]
        if comes:
            refusal = admit(namespace, function)
            full = sum(inside) >= limits[0], inside[number] >= limits[1][number]
            assert (refusal is None) == (not any(full))
            inside[number] += refusal is None
        elif inside[number]:
            release(namespace, function)
            inside[number] -= 1
        assert namespace.used == sum(inside) <= limits[0]
        assert [gate.used for gate in functions] == inside


@pytest.mark.parametrize("refusal", ["namespace_concurrency", "function_concurrency"])
def test_a_refusal_says_what_is_full_and_when_to_come_back(refusal: Refusal) -> None:
    error = throttled(refusal, 25, 2.0)
    assert "25" in error.detail
    assert "2 s" in error.hint
    assert error.fields == {"retry_after_s": 2.0, "limit": 25, "reason": refusal}
    assert error.retryable


def test_room_is_the_tightest_of_all_limits() -> None:
    quotas = Quotas(instances=10, memory_bytes=1000)
    assert room(quotas, instances=4, memory_bytes=400, each_bytes=10, most=50) == 6
    assert room(quotas, instances=4, memory_bytes=400, each_bytes=200, most=50) == 3
    assert room(quotas, instances=4, memory_bytes=400, each_bytes=10, most=2) == 2
    assert room(quotas, instances=12, memory_bytes=400, each_bytes=10, most=2) == 0
    assert room(quotas, instances=0, memory_bytes=2000, each_bytes=10, most=2) == 0


def test_functions_are_counted() -> None:
    check_functions(Quotas(functions=3), existing=2)
    with pytest.raises(
        QuotaExceeded, match="quota 'functions' of 3 is used up: the namespace has 3 functions"
    ) as raised:
        check_functions(Quotas(functions=3), existing=3)
    assert raised.value.fields == {"quota": "functions", "limit": 3}
    assert "ask an admin to raise the quota" in raised.value.hint


def test_storage_is_counted_and_the_same_code_again_is_free() -> None:
    check_storage(Quotas(storage_bytes=100), used_bytes=60, adding_bytes=40)
    check_storage(Quotas(storage_bytes=100), used_bytes=200, adding_bytes=0)
    with pytest.raises(QuotaExceeded, match="41 bytes do not fit beside the 60 stored"):
        check_storage(Quotas(storage_bytes=100), used_bytes=60, adding_bytes=41)
