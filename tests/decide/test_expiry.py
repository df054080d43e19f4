"""What expires, by rules over versions of one key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.decide.expiry import abandoned, due_s, expired
from fuyun.domain.bucketrules import LifecycleRule
from fuyun.domain.objects import Details, Object, Upload

DAY_S = 86400.0
NOW_S = 1769844600.0


def version(name: str, at_s: float = NOW_S, **fields: object) -> Object:
    return Object(**{"bucket": "b", "key": "logs/k", "version": name, "created_s": at_s, "size_bytes": 5, **fields})


@given(st.floats(0, 4e9), st.integers(1, 4000))
def test_what_is_due_is_due_at_a_midnight_and_never_early(since_s: float, days: int) -> None:
    at_s = due_s(since_s, days)
    assert at_s % DAY_S == 0
    assert since_s + days * DAY_S <= at_s < since_s + (days + 1) * DAY_S + 1e-3


RULES = [
    (LifecycleRule(days=1), True), (LifecycleRule(days=3), False), (LifecycleRule(days=1, enabled=False), False),
    (LifecycleRule(days=1, prefix="logs/"), True), (LifecycleRule(days=1, prefix="other"), False),
    (LifecycleRule(days=1, tags={"a": "1"}), True), (LifecycleRule(days=1, tags={"a": "2"}), False),
    (LifecycleRule(days=1, larger_than_bytes=4), True), (LifecycleRule(days=1, larger_than_bytes=5), False),
    (LifecycleRule(days=1, smaller_than_bytes=6), True), (LifecycleRule(days=1, smaller_than_bytes=5), False),
    (LifecycleRule(date_s=DAY_S), True), (LifecycleRule(date_s=DAY_S * 40_000), False),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "goes"), RULES)
def test_the_newest_version(rule: LifecycleRule, goes: bool) -> None:
    found = version("1", details=Details(tags={"a": "1", "b": ""}))
    assert expired([rule], [found], NOW_S + 2 * DAY_S) == ([found] if goes else [])


def test_versions_that_were_replaced_count_from_then() -> None:
    newest, middle, oldest = version("3", NOW_S), version("2", NOW_S - DAY_S), version("1", NOW_S - 90 * DAY_S)
    rule = LifecycleRule(noncurrent_days=1)
    assert expired([rule], [newest, middle, oldest], NOW_S + 3600) == []
    assert expired([rule], [newest, middle, oldest], NOW_S + DAY_S) == [oldest]
    assert expired([rule], [newest, middle, oldest], NOW_S + 2 * DAY_S) == [middle, oldest]
    kept = LifecycleRule(noncurrent_days=1, newer_noncurrent=1)
    assert expired([kept], [newest, middle, oldest], NOW_S + 2 * DAY_S) == [oldest]


def test_markers_go_when_they_hide_nothing() -> None:
    marker = version("2", marker=True)
    rule = LifecycleRule(lone_markers=True)
    assert expired([rule], [marker], NOW_S) == [marker]
    assert expired([rule], [marker, version("1")], NOW_S) == []
    assert expired([LifecycleRule(days=1)], [marker], NOW_S + 9 * DAY_S) == []


def test_uploads() -> None:
    upload = Upload(id="u", bucket="b", key="logs/k", created_s=NOW_S)
    rule = LifecycleRule(upload_days=1, prefix="logs/")
    assert not abandoned([rule], upload, NOW_S + DAY_S / 2)
    assert abandoned([rule], upload, NOW_S + 2 * DAY_S)
    assert not abandoned([LifecycleRule(upload_days=1, prefix="x")], upload, NOW_S + 9 * DAY_S)
