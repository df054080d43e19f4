"""The SQLite drivers keep their ports' contracts."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.drivers.objects.listing import behind
from fuyun.testing.contracts.objects import ObjectStoreContract, ObjectStores
from tests.drivers.objects.stores import opened


class TestSqliteObjects(ObjectStoreContract):
    def open(self, folder: Path) -> AbstractAsyncContextManager[ObjectStores]:
        return opened(folder)


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=4)


@given(TEXT, TEXT, TEXT)
def test_behind_a_prefix_is_the_least_text_that_does_not_begin_with_it(prefix: str, rest: str, other: str) -> None:
    end = behind(prefix)
    inside = prefix + rest
    if end:
        assert inside.encode() < end.encode()
        assert not end.startswith(prefix)
        if prefix.encode() < other.encode() < end.encode():
            assert other.startswith(prefix)
    else:
        assert prefix == "\U0010ffff" * len(prefix)


@pytest.mark.parametrize(("prefix", "end"), [("a/", "a0"), ("\ud7ff", "\ue000"), ("a\U0010ffff", "b"), ("", "")])
def test_behind(prefix: str, end: str) -> None:
    assert behind(prefix) == end
