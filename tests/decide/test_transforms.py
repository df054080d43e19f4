"""New data by templates: what is filled in, what is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuyun.decide.transforms import MOST_BYTES, compiled
from fuyun.domain.errors import BadRequest
from fuyun.domain.events import Event
from fuyun.domain.transforms import Transform

DATA = {"id": 17, "who": {"name": "Ada"}, "lines": [{"sku": "a", "n": 2}, {"sku": "b", "n": 5}], "none": None}


def event(data: Any = DATA, **attributes: Any) -> Event:
    known: dict[str, Any] = {
        "id": "e-1", "source": "/shop", "type": "order.created", "time_s": 0.0, "data": msgspec.json.encode(data)
    }  # fmt: skip
    return Event(**(known | attributes))


def made(template: Any, found: Event | None = None, **values: str) -> Any:
    apply = compiled(Transform(values=values, template=template))
    return msgspec.json.decode(apply(found or event()).data)


@pytest.mark.parametrize(
    ("template", "values", "expected"),
    [
        ({"order": "{id}", "text": "order {id} of {who}"}, {"id": "$.data.id", "who": "$.data.who.name"},
         {"order": 17, "text": "order 17 of Ada"}),
        ("{who}", {"who": "$.data.who"}, {"name": "Ada"}),
        ("<{who}>", {"who": "$.data.who"}, '<{"name":"Ada"}>'),
        (["{type}", "{at}", 1, None, True], {"type": "$.type", "at": "$.time"},
         ["order.created", "1970-01-01T00:00:00.000Z", 1, None, True]),
        ({"skus": "{skus}"}, {"skus": "$.data.lines[*].sku"}, {"skus": ["a", "b"]}),
        ({"many": "{many}"}, {"many": "$.data.lines[?@.n > 3].sku"}, {"many": ["b"]}),
        ({"gone": "{gone}", "text": "[{gone}]"}, {"gone": "$.data.absent.deep"}, {"gone": None, "text": "[null]"}),
        ("{{id}} {{{id}}}", {"id": "$.data.id"}, "{id} {17}"),
        ({"{id}": 1}, {"id": "$.data.id"}, {"{id}": 1}),
    ],
)  # fmt: skip
def test_a_template_is_filled(template: Any, values: dict[str, str], expected: Any) -> None:
    assert made(template, **values) == expected


def test_what_is_not_in_the_data_stays_as_it_was() -> None:
    found = event(b"", content_type="image/png", hops=3, trail="e-0", extensions={"region": "eu"})
    changed = compiled(Transform(values={"r": "$.region"}, template={"r": "{r}"}))(found)
    assert changed == msgspec.structs.replace(found, data=b'{"r":"eu"}', content_type="application/json")


WRONG: list[tuple[Any, dict[str, str], str]] = [
    ({"a": "{whom}"}, {"who": "$"}, "transform.template.a: {whom} has no value; did you mean {who}?"),
    (["a {"], {}, "transform.template[0]: a '{' at character 3"),
    ("a }", {}, "a '}' at character 3"),
    ("{}", {}, "a '{' at character 1"),
    ("x", {"a b": "$"}, "'a b' is no name"),
    ("x", {"a": "data.id"}, "transform.values.a is 'data.id', not a JSONPath query"),
    ("x", {"a": "$.x[?match(@.y, '(a+)+$')]"}, "not a JSONPath query"),
    ("x", {"a": "$" + ".a" * 600}, "a query of 1201 characters"),
]


@pytest.mark.parametrize(("template", "values", "said"), WRONG, ids=lambda value: str(value)[:30])
def test_what_is_no_transform_is_explained(template: Any, values: dict[str, str], said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        compiled(Transform(values=values, template=template))
    assert said in refused.value.detail


def test_a_template_nested_without_end_is_refused() -> None:
    template: Any = "x"
    for _ in range(1000):
        template = [template]
    with pytest.raises(BadRequest, match="nested deeper"):
        compiled(Transform(template=template))


def test_an_event_cannot_be_blown_up() -> None:
    apply = compiled(Transform(values={"all": "$.data"}, template=["{all}"] * 200))
    with pytest.raises(BadRequest, match=str(MOST_BYTES)):
        apply(event("x" * 10_000))


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@settings(max_examples=40)
@given(_json)
def test_a_value_alone_is_itself_whatever_it_is(data: Any) -> None:
    assert made("{all}", event(data), all="$.data") == data
    text = made("[{all}]", event(data), all="$.data")
    assert text[1:-1] == data if isinstance(data, str) else msgspec.json.decode(text[1:-1]) == data
