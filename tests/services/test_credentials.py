"""Credentials of functions: what they say is believed for their instance, their time and this platform alone."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.base import clock
from fuyun.domain.errors import Unauthenticated
from fuyun.services.credentials import LONGEST, Claims, Credentials

KEY = bytes(range(32))
PLATFORM = Credentials(KEY, 300.0)
CLAIMS = Claims(
    instance="i1", namespace="default", function="f", version="3", invocation="0" * 32, depth=2,
    exp=int(clock.wall_s()) + 86400,  # the whole suite may run before the tests here
)  # fmt: skip
TOKEN = PLATFORM.issue(CLAIMS)


def refused(token: str, instance: str = "i1", platform: Credentials = PLATFORM) -> str:
    """Why."""
    with pytest.raises(Unauthenticated) as caught:
        platform.check(token, instance)
    assert caught.value.hint
    assert token[10:] not in caught.value.detail or len(token) < 20
    return caught.value.detail


def test_it_says_what_it_was_issued_for() -> None:
    assert PLATFORM.check(TOKEN, "i1") == CLAIMS
    assert TOKEN.startswith("fc_")
    assert set(TOKEN) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")


def test_longest_names_fit() -> None:
    name = "n" * 63
    claims = Claims(
        instance="i" * 64, namespace=name, function=name, version=name, invocation="0" * 32, depth=16, exp=2**33
    )
    token = PLATFORM.issue(claims)
    assert len(token) < LONGEST
    assert PLATFORM.check(token, "i" * 64) == claims


def test_another_instance_another_platform_another_time() -> None:
    assert "another instance's" in refused(TOKEN, "i2")
    assert "another platform" in refused(TOKEN, platform=Credentials(bytes(32), 300.0))
    assert "a key of the platform" in refused("fk_0123_4567")
    late = Claims(
        instance="i1", namespace="n", function="f", version="1", invocation="0", depth=0, exp=int(clock.wall_s()) - 7
    )
    assert "expired 7 s ago" in refused(PLATFORM.issue(late)) or "expired 8 s ago" in refused(PLATFORM.issue(late))
    assert PLATFORM.check(PLATFORM.issue(late), "i1", expired=True) == late


def test_its_representation_shows_nothing_of_the_key() -> None:
    assert "_key" not in repr(PLATFORM)
    assert vars(PLATFORM)["_key"] != KEY, "credentials have a key of their own"


@given(
    st.one_of(st.text(max_size=60), st.text(max_size=60).map("fc_".__add__), st.text(max_size=60).map(TOKEN.__add__))
)
def test_any_text_is_refused_in_words(text: str) -> None:
    if text != TOKEN:
        refused(text)


@given(st.integers(0, len(TOKEN) - 1), st.characters(codec="ascii"))
def test_one_character_changed_is_refused(at: int, character: str) -> None:
    changed = TOKEN[:at] + character + TOKEN[at + 1 :]
    if changed != TOKEN:
        refused(changed)


def test_an_empty_tag_and_a_tag_of_another_text_are_refused() -> None:
    text, _, tag = TOKEN.partition(".")
    other = base64.urlsafe_b64encode(b'{"instance":"i1"}').decode().rstrip("=")
    for forged in (text, f"{text}.", f"fc_{other}.{tag}", f"fc_.{tag}", f".{tag}", f"{TOKEN}.", f"{text}.{tag}="):
        refused(forged)
