"""The error tree: stable codes, who must act, and what may be retried."""

from __future__ import annotations

import re

import pytest

from fuyun.domain import errors
from fuyun.domain.errors import CallerError, FunctionError, FuyunError, OperatorError, PlatformError

SIDES = (CallerError, FunctionError, OperatorError, PlatformError)


def descendants(kind: type[FuyunError]) -> list[type[FuyunError]]:
    """Every class below `kind` that `domain/errors.py` defines."""
    below = [found for child in kind.__subclasses__() for found in [child, *descendants(child)]]
    return [found for found in below if found.__module__ == errors.__name__]


ALL = descendants(FuyunError)


def test_codes_are_unique_and_machine_readable() -> None:
    everything: list[type[FuyunError]] = [FuyunError, *ALL]
    codes = [kind.code for kind in everything]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_on_one_side_and_says_what_it_means(kind: type[FuyunError]) -> None:
    sides = [side for side in SIDES if issubclass(kind, side)]
    assert len(sides) == 1
    assert kind.actor == {"CallerError": "caller", "FunctionError": "author", "OperatorError": "operator"}.get(
        sides[0].__name__, "platform"
    )
    assert kind.__doc__
    assert "code" in vars(kind)


def test_what_may_be_retried() -> None:
    retryable = {kind.code for kind in ALL if kind.retryable}
    assert retryable == {"throttled", "storage_full", "unavailable", "instance_lost", "request_timed_out"}
    assert not any(kind.retryable for kind in ALL if issubclass(kind, FunctionError))


def test_an_error_carries_detail_hint_and_fields() -> None:
    error = errors.Throttled("too many", hint="wait", retry_after_s=2)
    assert (str(error), error.detail, error.hint, error.fields) == (
        "too many",
        "too many",
        "wait",
        {"retry_after_s": 2},
    )
    assert errors.Internal("x").hint == ""
