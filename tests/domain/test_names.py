"""Names and qualifiers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.domain.errors import BadRequest
from fuyun.domain.names import check_name, check_qualifier, nearest
from fuyun.domain.specs import check_function_name


@pytest.mark.parametrize("name", ["a", "a1", "thumbnail-maker", "a" + "b" * 61 + "c"])
def test_good_names_come_back(name: str) -> None:
    assert check_name("function", name) == name
    assert check_function_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "A", "1a", "-a", "a-", "a_b", "a.b", "a b", "a" * 64, "ä", "a\n", "$LATEST", "a/b", "../etc"]
)
def test_bad_names_are_shown_with_the_rule(name: str) -> None:
    with pytest.raises(BadRequest) as raised:
        check_name("alias", name)
    assert repr(name) in raised.value.detail
    assert "alias" in raised.value.detail
    assert "1 to 63 of a-z" in raised.value.hint
    assert raised.value.fields == {"path": "alias"}


@pytest.mark.parametrize("qualifier", ["$LATEST", "1", "42", "9999999999", "live", "a-1"])
def test_good_qualifiers_come_back(qualifier: str) -> None:
    assert check_qualifier(qualifier) == qualifier


@pytest.mark.parametrize("qualifier", ["", "0", "01", "-1", "1.0", "latest!", "$latest", "Live", "1\n", "12345678901"])
def test_bad_qualifiers_are_shown_with_the_forms(qualifier: str) -> None:
    with pytest.raises(BadRequest) as raised:
        check_qualifier(qualifier)
    assert repr(qualifier) in raised.value.detail
    assert "NAME:3" in raised.value.hint


@given(st.from_regex(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True))
def test_every_name_is_a_qualifier_and_safe_in_paths_and_host_names(name: str) -> None:
    assert check_name("function", name) == check_qualifier(name) == name
    assert name.encode("idna").decode() == name or "--" in name


@given(st.text(max_size=70))
def test_a_checked_name_holds_nothing_that_means_something_elsewhere(name: str) -> None:
    try:
        check_name("function", name)
    except BadRequest:
        return
    assert not set(name) & set("/:@.$%?#\\\0 \n_")
    assert 1 <= len(name) <= 63


def test_the_nearest_known_word() -> None:
    assert nearest("memroy", ["memory", "timeout", "handler"]) == "memory"
    assert nearest("zzz", ["memory", "timeout"]) is None
    assert nearest("memory", []) is None
