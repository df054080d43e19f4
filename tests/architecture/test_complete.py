"""Tables that must have a row for everything: errors, settings, commands."""

from __future__ import annotations

from typing import get_type_hints

import msgspec
import pytest

from fuyun.cli import exits
from fuyun.domain import errors
from fuyun.settings import Settings
from fuyun.transports.web import statuses


def tree(root: type[errors.FuyunError] = errors.FuyunError) -> list[type[errors.FuyunError]]:
    return [root, *(below for child in root.__subclasses__() for below in tree(child))]


OWN = [error for error in tree() if error.__module__.startswith("fuyun.")]


@pytest.mark.parametrize("error", OWN, ids=lambda error: error.__name__)
def test_every_error_is_in_every_table(error: type[errors.FuyunError]) -> None:
    assert error.__module__ == "fuyun.domain.errors", "the error tree is one page"
    assert error.__doc__
    assert error.code in statuses.STATUSES
    assert 400 <= statuses.status_of(error) <= 599
    assert exits.exit_code(error("x")) in (1, 2, 3, 4, 5)
    assert error.actor in ("caller", "author", "operator", "platform")


def test_codes_are_unique_and_no_row_is_stale() -> None:
    codes = [error.code for error in OWN]
    assert len(set(codes)) == len(codes)
    assert set(statuses.STATUSES) == set(codes)


@pytest.mark.parametrize("error", [e for e in OWN if e.retryable], ids=lambda error: error.__name__)
def test_retryable_errors_are_no_client_errors_but_429(error: type[errors.FuyunError]) -> None:
    status = statuses.status_of(error)
    assert status >= 500 or status in (408, 429)


@pytest.mark.parametrize("name", Settings.__struct_fields__)
def test_every_setting_says_what_it_is_and_why(name: str) -> None:
    hint = get_type_hints(Settings, include_extras=True)[name]
    described = [item for item in getattr(hint, "__metadata__", ()) if isinstance(item, msgspec.Meta)]
    assert described, f"{name} has no description"
    assert described[0].description
    assert len(described[0].description) > 20
    if name.endswith("_s"):
        assert "second" in described[0].description
    if name.endswith("_bytes"):
        assert any(word in described[0].description for word in ("byte", "memory", "archive", "size"))
