"""Events, their JSON format, and targets."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from cloudevents.core.formats.json import JSONFormat

from fuyun.domain.errors import BadRequest
from fuyun.domain.events import Event, Target, check_event, structured, target_of


def event(**attributes: Any) -> Event:
    return Event(**({"id": "e-1", "source": "/a", "type": "t", "time_s": 1700000000.25} | attributes))


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"data": b'{"n": [1, 2.5, null]}', "subject": "s", "extensions": {"region": "eu"}},
        {"data": b"\0\xff", "content_type": "image/png"},
        {"data": b'{"x": 1}', "content_type": "application/vnd.x+json; charset=utf-8", "hops": 3, "trail": "e-0"},
    ],
    ids=["bare", "json", "bytes", "followed"],
)
def test_the_json_format_is_what_the_sdk_reads(attributes: dict[str, Any]) -> None:
    made = event(**attributes)
    read = JSONFormat().read(None, structured(made))
    told = read.get_attributes()
    assert (told["id"], told["source"], told["type"], told["specversion"]) == ("e-1", "/a", "t", "1.0")
    assert told["time"].timestamp() == made.time_s
    assert told.get("subject", "") == made.subject
    for name, value in made.extensions.items():
        assert told[name] == value
    if made.data:
        assert told["datacontenttype"] == made.content_type
        assert read.get_data() == (msgspec.json.decode(made.data) if made.is_json else made.data)
    if made.hops:
        assert (told["fuyunhops"], told["fuyuntrail"]) == (3, "e-0")


def test_what_follows_is_one_hop_on_the_same_trail() -> None:
    first = event()
    second = first.follow(id="e-2", type="u")
    third = second.follow(id="e-3")
    assert (second.hops, second.trail, second.type) == (1, "e-1", "u")
    assert (third.hops, third.trail) == (2, "e-1")


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"id": ""}, "the event has no id"),
        ({"source": ""}, "no source"),
        ({"type": ""}, "no type"),
        ({"extensions": {"Bad-Name": "x"}}, "extension 'Bad-Name' is not"),
        ({"extensions": {"fuyunhops": "0"}}, "set by the platform alone"),
        ({"data": b"{"}, "the data of event 'e-1' is not JSON"),
    ],
)
def test_what_is_no_cloudevent_is_explained(attributes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        check_event(event(**attributes))
    assert check_event(event(data=b"{", content_type="text/plain"))


def test_targets_as_text() -> None:
    for text in ("function:f", "function:f:live", "function:f:$LATEST", "queue:q", "topic:t", "bus:b", "stream:s"):
        assert target_of(text).text == text
    assert target_of("function:f:3") == Target(kind="function", name="f", qualifier="3")


@pytest.mark.parametrize("text", ["", "f", "queue:", "lambda:f", "queue:Q", "queue:q:live", "function:f:-", "bus:a b"])
def test_what_is_no_target_is_explained(text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        target_of(text)
    assert refused.value.hint
