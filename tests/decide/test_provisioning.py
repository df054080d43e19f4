"""How many instances are kept when."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.decide.provisioning import least, most, scheduled
from fuyun.domain.errors import BadRequest
from fuyun.domain.functions import FunctionSpec, Provisioned
from fuyun.domain.specs import check_spec

OFFICE = Provisioned(schedule="0 8 * * mon-fri", duration_s=10 * 3600.0, instances=3, timezone="Europe/Berlin")
NOON = Provisioned(schedule="30 11 * * *", duration_s=3600.0, instances=5)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("now", "kept"),
    [
        ("2026-11-20 06:59:59", 1),  # Friday, 07:59:59 in Berlin
        ("2026-11-20 07:00:00", 3),
        ("2026-11-20 11:30:00", 5),
        ("2026-11-20 12:30:00", 3),
        ("2026-11-20 16:59:59", 3),
        ("2026-11-20 17:00:00", 1),
        ("2026-11-21 08:00:00", 1),  # Saturday
        ("2026-11-21 12:00:00", 5),
    ],
)
def test_windows_open_and_close(now: str, kept: int) -> None:
    spec = FunctionSpec(min_instances=1, provisioned=(OFFICE, NOON))
    assert least(spec, at(now)) == kept
    assert scheduled(spec, at(now)).min_instances == kept


def test_a_window_follows_its_zone_over_the_change_of_clocks() -> None:
    spec = FunctionSpec(provisioned=(OFFICE,))
    assert least(spec, at("2026-07-20 06:00:00")) == 3, "summer: two hours ahead of UTC"
    assert least(spec, at("2026-01-19 06:00:00")) == 0, "winter: one hour"


def test_a_window_longer_than_its_period_stays_open() -> None:
    spec = FunctionSpec(provisioned=(Provisioned(schedule="0 * * * *", duration_s=7200.0, instances=2),))
    assert {least(spec, at("2026-11-20 00:00:00") + minute * 60.0) for minute in range(24 * 60)} == {2}


@given(at_s=st.floats(1.5e9, 2.0e9), low=st.integers(0, 4), high=st.integers(4, 10))
def test_never_below_the_least_nor_above_the_most(at_s: float, low: int, high: int) -> None:
    spec = FunctionSpec(min_instances=low, max_instances=high, provisioned=(OFFICE, NOON))
    assert low <= least(spec, at_s) <= most(spec) <= high


def test_a_spec_with_windows_is_checked() -> None:
    assert check_spec(FunctionSpec(provisioned=(OFFICE, NOON)))
    for field, value in {"schedule": "0 8", "timezone": "Mars/Base", "duration_s": 5.0, "instances": 0}.items():
        wrong = {"schedule": "0 8 * * *", "duration_s": 60.0, "instances": 1, field: value}
        with pytest.raises(BadRequest) as refused:
            check_spec(FunctionSpec(provisioned=(OFFICE, Provisioned(**wrong))))
        assert refused.value.fields["path"] == f"provisioned[1].{field}"
    with pytest.raises(BadRequest, match=r"provisioned\[0\].instances"):
        check_spec(FunctionSpec(max_instances=2, provisioned=(OFFICE,)))
