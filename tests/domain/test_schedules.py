"""When a cron schedule last fired."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.domain.errors import BadRequest
from fuyun.domain.schedules import check_schedule, check_timezone, last_fired_s

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


@pytest.mark.parametrize(
    ("schedule", "now", "fired"),
    [
        ("0 8 * * mon-fri", "2026-11-20 08:00:00", "2026-11-20 08:00"),
        ("0 8 * * mon-fri", "2026-11-20 07:59:59.999", "2026-11-19 08:00"),
        ("0 8 * * mon-fri", "2026-11-20 08:00:59", "2026-11-20 08:00"),
        ("0 8 * * mon-fri", "2026-11-22 12:00:00", "2026-11-20 08:00"),
        ("*/15 * * * *", "2026-11-22 12:14:30", "2026-11-22 12:00"),
        ("* * * * *", "2026-11-22 12:14:30", "2026-11-22 12:14"),
        ("0 0 29 2 *", "2026-11-22 12:00:00", "2024-02-29 00:00"),
        ("0 8 * * *", "2026-03-29 12:00:00", "2026-03-29 08:00"),
        ("30 2 * * *", "2026-03-29 12:00:00", "2026-03-29 03:00"),  # 02:30 is left out on that day
    ],
)
def test_the_last_time(schedule: str, now: str, fired: str) -> None:
    assert last_fired_s(schedule, "Europe/Berlin", at(now)) == at(fired)


def test_a_day_is_as_long_as_its_zone_has_it() -> None:
    fired = last_fired_s("0 8 * * *", "Europe/Berlin", at("2026-10-25 08:00"))
    assert fired is not None
    assert fired - at("2026-10-24 08:00") == 25 * 3600


def test_an_hour_that_comes_twice_fires_no_later_than_now() -> None:
    for fold in (0, 1):
        now_s = at("2026-10-25 02:15", fold=fold)
        fired = last_fired_s("30 2 * * *", "Europe/Berlin", now_s)
        assert fired is not None
        assert fired <= now_s


@given(
    at_s=st.floats(1.5e9, 2.0e9),
    minute=st.integers(0, 59),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"]),
)
def test_hourly_is_never_longer_ago_than_two_hours_and_never_ahead(at_s: float, minute: int, zone: str) -> None:
    fired = last_fired_s(f"{minute} * * * *", zone, at_s)
    assert fired is not None
    assert 0 <= at_s - fired < 2 * 3600
    assert fired % 60 == 0
    assert datetime.fromtimestamp(fired, UTC).second == 0


@pytest.mark.parametrize("bad", ["", "0 8 * *", "0 8 * * * *", "0 25 * * *", "0 8 * * someday", "0 0 30 2 *", "@daily"])
def test_what_is_no_schedule_is_told(bad: str) -> None:
    with pytest.raises(BadRequest, match="is not a cron schedule"):
        check_schedule(bad)


@pytest.mark.parametrize("bad", ["", "Europe/Nowhere", "../etc/passwd", "/etc/localtime", "a\0b", "x" * 5000])
def test_what_is_no_time_zone_is_told(bad: str) -> None:
    with pytest.raises(BadRequest, match="is not a time zone"):
        check_timezone(bad)
