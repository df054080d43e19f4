"""What the driver adds to calls of instances that have the platform's address."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from fuyun.drivers.instances.attending import depth_of
from fuyun.ports.instances import Head

texts = st.text(max_size=40)
hostile = st.sampled_from(['["fuyun-depth","9"]', '","9"],["fuyun-depth","9', "fuyun-depth", '\\"fuyun-depth\\"'])
headers = st.lists(st.tuples(st.sampled_from(["x-a", "cookie", "fuyun-dept"]), st.one_of(texts, hostile)), max_size=5)


def head(fields: list[tuple[str, str]], query: str = "") -> bytes:
    return msgspec.json.encode(Head(id="0" * 32, headers=fields, query=query, path=f"/{query}"))


@given(headers, st.one_of(texts, hostile))
def test_no_other_field_is_taken_for_the_depth(fields: list[tuple[str, str]], query: str) -> None:
    assert depth_of(head(fields, query)) == 0


@given(headers, st.integers(0, 999))
def test_the_depth_is_found(fields: list[tuple[str, str]], depth: int) -> None:
    assert depth_of(head([*fields, ("fuyun-depth", str(depth))])) == depth


def test_what_is_no_depth_is_none() -> None:
    for text in ("", "-1", "1e3", "9999", "x", "²"):
        assert depth_of(head([("fuyun-depth", text)])) == 0
