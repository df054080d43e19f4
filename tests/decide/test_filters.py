"""What filters take: the table of the language, and laws that hold for any event."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.decide.filters import View, compiled, matches
from fuyun.domain.errors import BadRequest
from fuyun.domain.events import Event
from fuyun.domain.filters import read_filter

ORDER = {
    "amount": 99.5, "count": 3, "paid": True, "note": None, "country": "DE", "tags": ["new", "eu"],
    "items": [{"sku": "a-1", "n": 1}, {"sku": "b-2", "n": 20}], "ship.to": {"zip": "80331"}, "nested": [[{"x": 7}]],
}  # fmt: skip


def event(data: Any = ORDER, **attributes: Any) -> Event:
    known: dict[str, Any] = {
        "id": "e-1", "source": "/shop/orders", "type": "order.created", "subject": "o/17.json", "time_s": 1.5,
        "data": data if isinstance(data, bytes) else msgspec.json.encode(data), "extensions": {"region": "eu"},
    }  # fmt: skip
    return Event(**(known | attributes))


TAKES = [
    {},
    {"type": "order.created"},
    {"type": ["order.paid", "order.created"]},
    {"type": {"prefix": "order."}, "subject": {"suffix": ".json"}},
    {"type": {"prefix": "order.", "suffix": "created"}},
    {"type": {"equals-ignore-case": "ORDER.Created"}},
    {"source": {"anything-but": "/other"}},
    {"source": {"anything-but": ["/other", "/third"]}},
    {"time": "1970-01-01T00:00:01.500Z"},
    {"time": {"prefix": "1970-"}},
    {"datacontenttype": "application/json"},
    {"region": "eu"},
    {"region": {"exists": True}, "zone": {"exists": False}},
    {"data.amount": {"numeric": [">", 99, "<=", 99.5]}},
    {"data.count": 3.0},
    {"data.paid": True},
    {"data.note": None},
    {"data.note": {"exists": True}},
    {"data.absent": {"exists": False}},
    {"data.tags": "eu"},
    {"data.items.sku": {"prefix": "b"}},
    {"data.items.n": {"numeric": ["=", 20]}},
    {"data.nested.x": 7},
    {"data.ship\\.to.zip": "80331"},
    {"data.country": [{"prefix": "A"}, "DE"]},
    {"data.country": {"not": {"prefix": "A"}}},
    {"data.tags": {"not": "old"}},
    {"any": [{"type": "x"}, {"data.count": {"numeric": ["!=", 4]}}]},
    {"all": [{"type": "order.created"}, {"data.paid": True}]},
    {"not": {"type": "x"}},
    {"not": {"data.absent": "x"}},
]
LEAVES = [
    {"type": "order"},
    {"type": ["order.paid"]},
    {"type": {"prefix": "order.", "suffix": "paid"}},
    {"zone": "eu"},
    {"zone": {"anything-but": "x"}},
    {"source": {"anything-but": "/shop/orders"}},
    {"data.tags": {"anything-but": "eu"}},
    {"data.amount": {"numeric": [">", 99, "<", 99.5]}},
    {"data.amount": "99.5"},
    {"data.country": {"numeric": [">", 0]}},
    {"data.paid": 1},
    {"data.paid": {"numeric": ["=", 1]}},
    {"data.count": True},
    {"data.note": {"exists": False}},
    {"data.absent": None},
    {"data.absent": {"not": "x"}},
    {"data.tags": {"not": "eu"}},
    {"data.items": "a-1"},
    {"data.ship.to.zip": "80331"},
    {"any": [{"type": "x"}, {"type": "y"}]},
    {"all": [{"type": "order.created"}, {"data.paid": False}]},
    {"not": {}},
]


@pytest.mark.parametrize("text", TAKES, ids=str)
def test_what_a_filter_takes(text: dict[str, Any]) -> None:
    assert matches(read_filter(text), event())


@pytest.mark.parametrize("text", LEAVES, ids=str)
def test_what_a_filter_leaves(text: dict[str, Any]) -> None:
    assert not matches(read_filter(text), event())


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"[" * 100_000])
def test_data_that_is_no_json_is_not_there(data: bytes) -> None:
    assert matches(read_filter({"data": {"exists": False}, "data.x": {"exists": False}}), event(data))
    assert matches(read_filter({"data": {"exists": False}}), event(content_type="text/plain"))


_scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.text("ab", max_size=3)
_json = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner)
)
_tests = st.recursive(
    _scalars
    | st.fixed_dictionaries({"anything-but": _scalars | st.lists(_scalars, min_size=1, max_size=3)})
    | st.fixed_dictionaries({"exists": st.booleans()})
    | st.fixed_dictionaries({"prefix": st.text("ab", max_size=2)})
    | st.fixed_dictionaries({"numeric": st.tuples(st.sampled_from(["<", ">=", "="]), st.integers(-5, 5)).map(list)}),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.fixed_dictionaries({"not": inner}),
    max_leaves=4,
)
_filters = st.dictionaries(st.sampled_from(["data", "data.x", "data.x.y", "type", "zone"]), _tests, max_size=3)


@given(_filters, _filters, _json)
def test_the_laws_of_all_any_and_not(one: dict[str, Any], two: dict[str, Any], data: Any) -> None:
    found = event(data)
    first, second = (matches(read_filter(text), found) for text in (one, two))
    assert matches(read_filter({"not": one}), found) is not first
    assert matches(read_filter({"all": [one, two]}), found) is (first and second)
    assert matches(read_filter({"any": [one, two]}), found) is (first or second)
    view = View(found)
    assert compiled(read_filter(one))(view) is compiled(read_filter(one))(view) is first


WRONG: list[tuple[Any, str, str]] = [
    ([], "filter is '[]', not a mapping", "type: order.created"),
    ({"type": {}}, "filter.type is '{}', not a test", "prefix"),
    ({"type": []}, "filter.type is '[]'", "name at least one"),
    ({"type": {"prefx": "a"}}, "filter.type.prefx: 'prefx' is no operator; did you mean 'prefix'?", "data.NAME"),
    ({"type": {"prefix": 3}}, "filter.type.prefix is '3', not a text", "prefix: TEXT"),
    ({"type": {"exists": "yes"}}, "filter.type.exists is 'yes'", "exists: true"),
    ({"data.n": {"numeric": [">"]}}, "filter.data.n.numeric is", '[">", 0'),
    ({"data.n": {"numeric": ["~", 1]}}, "is '~', not one of", '[">", 0'),
    ({"data.n": {"numeric": [">", True]}}, "is 'True', not a number", '[">", 0'),
    ({"data.n": float("nan")}, "filter.data.n is 'nan'", "or use one of"),
    ({"order.id": 1}, "is 'order.id', not an attribute", "write data.order.id"),
    ({"data..x": 1}, "is 'data..x'", "\\."),
    ({"data.x\\": 1}, "not an attribute", "\\."),
    ({"any": []}, "filter.any is '[]', not a list of filters", "any: [{...}"),
    ({"any": [{"type": {"suffix": None}}]}, "filter.any[0].type.suffix is 'None'", "suffix: TEXT"),
    ({"type": "x" * 1025}, "a text of 1025 characters", "1024"),
    ({"type": [[str(n)] for n in range(201)]}, "more than 200 tests", "split it"),
]


@pytest.mark.parametrize(("text", "said", "hint"), WRONG, ids=lambda value: str(value)[:40])
def test_what_is_no_filter_is_explained(text: Any, said: str, hint: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_filter(text)
    assert said in refused.value.detail
    assert hint in refused.value.hint


def test_a_filter_nested_without_end_is_refused() -> None:
    text: Any = {"type": "x"}
    for _ in range(5000):
        text = {"not": text}
    with pytest.raises(BadRequest, match="nested deeper"):
        read_filter(text)
