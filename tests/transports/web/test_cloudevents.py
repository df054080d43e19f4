"""CloudEvents over HTTP: round trips with the SDK in every content mode, and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from fuyun.domain.errors import BadRequest, PayloadTooLarge
from fuyun.domain.events import Event, structured
from fuyun.transports.web.cloudevents import BATCH, STRUCTURED, binary, read_events

FORMAT = JSONFormat()
AT = datetime(2026, 5, 4, 3, 2, 1, 500000, tzinfo=UTC)


def sdk_event(data: Any, **attributes: Any) -> CloudEvent:
    known = {
        "id": "e 1/ü%",
        "source": "/shop",
        "type": "order.created",
        "specversion": "1.0",
        "time": AT,
        "region": "eu",
    }
    return CloudEvent(known | attributes, data)


DATA: list[tuple[Any, str, bytes]] = [
    ({"n": [1, None, "ü"]}, "application/json", '{"n":[1,null,"ü"]}'.encode()),
    ("a text, 50 %", "text/plain; charset=utf-8", b"a text, 50 %"),
    (b"\0\xff", "image/png", b"\0\xff"),
    (None, "", b""),
]


@pytest.mark.parametrize(("data", "media", "raw"), DATA, ids=["json", "text", "bytes", "nothing"])
@pytest.mark.parametrize("mode", ["binary", "structured", "batch"])
def test_what_the_sdk_writes_is_read(mode: str, data: Any, media: str, raw: bytes) -> None:
    made = sdk_event(data, **({"datacontenttype": media} if media else {}), subject="o/1")
    message = (to_binary if mode == "binary" else to_structured)(made, FORMAT)
    headers = {name.lower(): value for name, value in message.headers.items()}
    body = message.body
    if mode == "batch":
        headers, body = {"content-type": f"{BATCH}; charset=utf-8"}, b"[" + body + b"," + body + b"]"
    found = read_events(headers, body, 7.0)
    assert len(found) == (2 if mode == "batch" else 1)
    event = found[-1]
    assert (event.id, event.source, event.type, event.subject) == ("e 1/ü%", "/shop", "order.created", "o/1")
    assert (event.time_s, event.extensions) == (AT.timestamp(), {"region": "eu"})
    if event.is_json and raw:
        assert json.loads(event.data) == json.loads(raw)
    else:
        assert event.data == raw
    assert event.content_type == (media or "application/json")


@pytest.mark.parametrize(("data", "media", "raw"), DATA, ids=["json", "text", "bytes", "nothing"])
def test_what_is_written_the_sdk_reads(data: Any, media: str, raw: bytes) -> None:
    event = Event(
        id="e 1/ü%", source="/shop", type="t", time_s=AT.timestamp(), data=raw, extensions={"region": "eu"},
        content_type=media or "application/json", hops=2, trail="e-0",
    )  # fmt: skip
    headers, body = binary(event)
    read = from_binary(HTTPMessage(headers, body), FORMAT)
    assert (read.get_id(), read.get_time(), read.get_extension("fuyunhops")) == ("e 1/ü%", AT, "2")
    assert read.get_data() == data
    assert read_events({name.lower(): value for name, value in headers.items()}, body, 0.0) == [event]
    assert read_events({"content-type": STRUCTURED}, structured(event), 0.0) == [event]


def test_an_event_without_a_time_happened_now() -> None:
    [event] = read_events({"ce-id": "1", "ce-source": "/a", "ce-type": "t", "ce-specversion": "1.0"}, b"", 7.0)
    assert event.time_s == 7.0


STRUCTURE = {"specversion": "1.0", "id": "1", "source": "/a", "type": "t"}
WRONG: list[tuple[dict[str, str], bytes, str]] = [
    ({}, b"{}", "carries no CloudEvent: its type is not given"),
    ({"content-type": "application/json"}, b"{}", "its type is application/json"),
    ({"content-type": STRUCTURED}, b"{", "the body is no CloudEvent"),
    ({"content-type": STRUCTURED}, b"[]", "the body is no CloudEvent"),
    ({"content-type": STRUCTURED}, b"\xff", "the body is no CloudEvent"),
    ({"content-type": STRUCTURED}, b"[" * 10**6, "the body is no CloudEvent"),
    ({"content-type": STRUCTURED}, b'{"specversion": "1.0"}', "Missing required attribute: 'source'"),
    ({"content-type": STRUCTURED}, b'{"specversion": "1.0", "source": "/a", "type": "t"}', "it has no id"),
    ({"ce-source": "/a", "ce-type": "t", "ce-specversion": "1.0"}, b"", "it has no id"),
    ({"content-type": STRUCTURED}, json.dumps(STRUCTURE | {"time": "yesterday"}).encode(), "no CloudEvent"),
    ({"content-type": STRUCTURED}, json.dumps(STRUCTURE | {"specversion": "0.3"}).encode(), "no CloudEvent"),
    ({"content-type": STRUCTURED}, json.dumps(STRUCTURE | {"data_base64": "?"}).encode(), "no CloudEvent"),
    ({"content-type": BATCH}, b"{}", "the body is no JSON array"),
    ({"content-type": BATCH}, b"[{}]", "event 0 is no CloudEvent"),
    ({"ce-id": "1"}, b"", "Missing required attribute: 'source'"),
    ({"ce-id": "1", "ce-source": "/a", "ce-type": "t", "ce-specversion": "1.0", "ce-time": "x"}, b"", "no CloudEvent"),
    (
        {"ce-id": "1", "ce-source": "/a", "ce-type": "t", "ce-specversion": "1.0", "content-type": "application/json"},
        b"{",
        "the data of event '1' is not JSON",
    ),
]


@pytest.mark.parametrize(("headers", "body", "said"), WRONG, ids=lambda value: str(value)[:30])
def test_what_is_no_event_is_explained(headers: dict[str, str], body: bytes, said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_events(headers, body, 0.0)
    assert said in refused.value.detail


def test_a_batch_is_bounded() -> None:
    with pytest.raises(PayloadTooLarge):
        read_events({"content-type": BATCH}, b"[" + b",".join([b"{}"] * 1001) + b"]", 0.0)


_json = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
_bodies = st.dictionaries(st.sampled_from([*STRUCTURE, "time", "data", "data_base64", "datacontenttype", "Ä"]), _json)


@given(_bodies, st.booleans())
def test_whatever_is_sent_is_an_event_or_a_bad_request(body: dict[str, Any], whole: bool) -> None:
    body = STRUCTURE | body if whole else body
    for media, text in ((STRUCTURED, msgspec.json.encode(body)), (BATCH, msgspec.json.encode([body]))):
        try:
            [event] = read_events({"content-type": media}, text, 1.0)
        except BadRequest:
            continue
        assert read_events({"content-type": STRUCTURED}, structured(event), 1.0) == [event]
