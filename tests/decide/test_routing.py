"""Weights, points and sticky keys."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuyun.decide.routing import choose, cumulate, point_at, point_of
from fuyun.domain.errors import Internal
from fuyun.domain.functions import Weight
from fuyun.domain.specs import check_weights


def weights_of(**shares: float) -> tuple[Weight, ...]:
    return tuple(Weight(version=int(name[1:]), weight=share) for name, share in shares.items())


@st.composite
def any_weights(draw: st.DrawFn) -> tuple[Weight, ...]:
    versions = draw(st.lists(st.integers(0, 50), min_size=1, max_size=8, unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, 1000), min_size=len(versions) - 1, max_size=len(versions) - 1)))
    edges = [0, *cuts, 1000]
    shares = [(high - low) / 10 for low, high in pairwise(edges)]
    return check_weights(
        tuple(Weight(version=version, weight=share) for version, share in zip(versions, shares, strict=True))
    )


points = st.floats(0.0, 100.0, exclude_max=True)


def test_a_point_falls_into_its_stretch() -> None:
    choices = cumulate(weights_of(v2=10, v1=90))
    assert choices == [(90.0, 1), (100.0, 2)]
    assert [choose(choices, point) for point in (0.0, 89.999, 90.0, 99.999)] == [1, 1, 2, 2]


def test_a_version_without_weight_is_never_chosen() -> None:
    assert cumulate(weights_of(v1=0, v2=100, v3=0)) == [(100.0, 2)]
    assert choose(cumulate(weights_of(v1=0, v2=100)), 0.0) == 2


def test_weights_that_only_nearly_sum_to_100_cover_every_point() -> None:
    third = 100 / 3
    choices = cumulate(check_weights(weights_of(v1=third, v2=third, v3=third)))
    assert choose(choices, math.nextafter(100.0, 0.0)) == 3


@pytest.mark.parametrize("point", [-0.001, 100.0, 1e9, math.nan])
def test_a_point_off_the_line_is_an_error(point: float) -> None:
    with pytest.raises(Internal, match="no version lies at point"):
        choose([(100.0, 1)], point)


def test_no_choices_is_an_error() -> None:
    with pytest.raises(Internal, match="of 0 choices"):
        choose([], 1.0)


@given(weights=any_weights(), point=points)
def test_every_point_has_a_version_with_weight(weights: tuple[Weight, ...], point: float) -> None:
    shares = {weight.version: weight.weight for weight in weights}
    assert shares[choose(cumulate(weights), point)] > 0


@given(weights=any_weights(), point=points)
def test_the_order_of_writing_does_not_matter(weights: tuple[Weight, ...], point: float) -> None:
    assert choose(cumulate(weights), point) == choose(cumulate(weights[::-1]), point)


@given(weights=any_weights(), first=st.integers(0, 10**9))
def test_requests_without_a_key_keep_the_weights_closely(weights: tuple[Weight, ...], first: int) -> None:
    choices, count = cumulate(weights), 500
    seen = Counter(choose(choices, point_at(number)) for number in range(first, first + count))
    for weight in weights:
        # a stretch of a golden-ratio sequence is off by O(log n) points; random ones by sqrt(n)
        assert abs(seen[weight.version] - count * weight.weight / 100) <= 6


@given(first=st.integers(0, 10**6), share=st.sampled_from([1, 5, 10, 50]))
def test_a_canary_gets_its_first_request_soon(first: int, share: int) -> None:
    choices = cumulate(weights_of(v1=100 - share, v2=share))
    assert 2 in {choose(choices, point_at(number)) for number in range(first, first + math.ceil(300 / share))}


@settings(max_examples=25)
@given(salt=st.text(max_size=8), weights=any_weights())
def test_sticky_keys_keep_the_weights_within_statistical_bounds(salt: str, weights: tuple[Weight, ...]) -> None:
    choices, count = cumulate(weights), 1000
    seen = Counter(choose(choices, point_of(f"user-{number}", salt)) for number in range(count))
    for weight in weights:
        share = weight.weight / 100
        # six standard deviations of a binomial: fails once in 5e8 for a uniform hash
        assert abs(seen[weight.version] - count * share) <= 6 * math.sqrt(count * share * (1 - share)) + 1


def test_sticky_points_are_uniform() -> None:
    count, bins = 50_000, 100
    seen = Counter(int(point_of(f"session/{number}")) for number in range(count))
    chi_square = sum((seen[number] - count / bins) ** 2 / (count / bins) for number in range(bins))
    assert chi_square < 99 + 6 * math.sqrt(2 * 99)  # mean and deviation of chi-square with 99 degrees of freedom


@given(key=st.text())
def test_a_key_always_has_the_same_point_on_the_line(key: str) -> None:
    assert point_of(key) == point_of(key)
    assert 0.0 <= point_of(key) < 100.0


def test_a_key_that_is_no_valid_text_has_a_point_too() -> None:
    assert 0.0 <= point_of("\udcff\ud800") < 100.0


def test_points_are_the_same_in_every_process_and_release() -> None:
    assert point_of("alice") == pytest.approx(86.5687, abs=0.0001)
    code = "from fuyun.decide.routing import point_of; print(repr(point_of('alice')))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert float(answer.stdout) == point_of("alice")


def test_salts_separate_aliases() -> None:
    keys = [f"user-{number}" for number in range(2000)]
    both = sum(point_of(key, "a") < 10 and point_of(key, "b") < 10 for key in keys)
    assert both < 50  # 20 expected of independent tenths, 200 of equal ones


@given(low=st.integers(0, 100), high=st.integers(0, 100), number=st.integers(0, 10**6))
def test_a_growing_canary_keeps_the_keys_it_has(low: int, high: int, number: int) -> None:
    low, high = sorted((low, high))
    point = point_of(f"user-{number}")
    before = choose(cumulate(weights_of(v1=100 - low, v2=low)), point)
    after = choose(cumulate(weights_of(v1=100 - high, v2=high)), point)
    assert after == 2 or before == 1
