"""Sizes and durations as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.base.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("1048576", 1048576),
        (" 256 MiB ", 256 * 2**20),
        ("256mib", 256 * 2**20),
        ("1.5GB", 1_500_000_000),
        ("0.5Ki", 512),
        ("2k", 2000),
        ("1 TiB", 2**40),
        ("10b", 10),
        (4096, 4096),
        (1.9, 1),
        ("123456789012345679", 123456789012345679),
    ],
)
def test_sizes_people_write(text: str | int | float, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text", ["", "MiB", "-1", "256XB", "1e5", "1,5GB", "nan", "inf", "1.GB", "2 5MB", "٣", "9" * 400]
)
def test_what_is_no_size_is_shown_back(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size; write one like 256MiB") as raised:
        parse_size(text)
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize("value", [True, -1, -0.5, math.nan, math.inf])
def test_a_number_may_be_no_size_either(value: float) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(value)


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [
        ("0", 0.0),
        ("30", 30.0),
        ("30s", 30.0),
        ("250ms", 0.25),
        ("1m30s", 90.0),
        (" 1h 30m ", 5400.0),
        ("1.5 h", 5400.0),
        ("2d", 172800.0),
        ("1w", 604800.0),
        ("9ms", 0.009),
        ("1e3", 1000.0),
        (2, 2.0),
        (0.125, 0.125),
    ],
)
def test_durations_people_write(text: str | int | float, duration_s: float) -> None:
    assert parse_duration(text) == duration_s
    assert isinstance(parse_duration(text), float)


@pytest.mark.parametrize(
    "text", ["", "s", "-5s", "-5", "5 years", "5M", "nan", "inf", "1e999", "1 2s", "5s!", "s5", "٣s", "9" * 400 + "s"]
)
def test_what_is_no_duration_is_shown_back(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; write one like 250ms") as raised:
        parse_duration(text)
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize("value", [False, -1, math.nan, math.inf])
def test_a_number_may_be_no_duration_either(value: float) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0"), (1, "1"), (1024, "1KiB"), (1536, "1536"), (256 * 2**20, "256MiB"), (2**40, "1TiB")],
)
def test_sizes_are_written_shortest(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [
        (0, "0s"),
        (90, "90s"),
        (60, "1m"),
        (3600.0, "1h"),
        (86400, "1d"),
        (604800 * 2, "2w"),
        (0.25, "250ms"),
        (0.009, "9ms"),
        (1.5, "1.5s"),
        (1000.25, "1000.25s"),
        (0.0001, "0.0001s"),
        (1e-9, "0.000000001s"),
        (math.inf, "infs"),
        (math.nan, "nans"),
    ],
)
def test_durations_are_written_as_people_do(duration_s: float, text: str) -> None:
    assert format_duration(duration_s) == text


@given(st.integers(0, 10**18 - 1))
def test_a_size_written_is_read_back(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes


@given(st.floats(0.0001, 1e9))
def test_a_duration_written_is_read_back(duration_s: float) -> None:
    assert parse_duration(format_duration(duration_s)) == duration_s


@given(st.integers(0, 10**7))
def test_whole_milliseconds_are_read_back(thousandths: int) -> None:
    assert parse_duration(format_duration(thousandths / 1000)) == thousandths / 1000
    assert parse_duration(f"{thousandths}ms") == thousandths / 1000


@given(st.text())
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    for parse in (parse_size, parse_duration):
        try:
            value = parse(text)
        except ValueError as exc:
            assert repr(text) in str(exc)  # noqa: PT017
        else:
            assert 0 <= value < math.inf
