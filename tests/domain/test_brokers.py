"""Addresses of brokers, and what may stand in their triggers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fuyun.domain.brokers import address_of, attributes_of, hidden, masked, message_event
from fuyun.domain.errors import BadRequest
from fuyun.domain.events import structured
from fuyun.domain.triggerchecks import check_triggers
from fuyun.domain.triggers import Trigger


def trigger(kind: str, start: str = "end", **fields: Any) -> Trigger:
    return msgspec.convert({kind: fields, "policy": {"start": start}}, Trigger)


@pytest.mark.parametrize(
    ("kind", "url", "shown"),
    [
        ("redis", "redis://host", "redis://host:6379"), ("redis", "rediss://u:p%40@h.example:1/2", "rediss://h.example:1/2"),
        ("rabbitmq", "amqps://u:p@[::1]/shop", "amqps://[::1]:5671/shop"), ("mqtt", "mqtts://h", "mqtts://h:8883"),
        ("nats", "tls://:token@h:4333", "tls://h:4333"),
    ],
)  # fmt: skip
def test_an_address_is_shown_without_who_asks(kind: str, url: str, shown: str) -> None:
    found = address_of(kind, url)
    assert found.shown == shown
    assert "p%40" not in repr(found)
    assert "token" not in repr(found)
    assert hidden(url).count("***") == (":p" in url or ":token" in url)


@pytest.mark.parametrize(
    "url", ["http://h", "redis://", "redis://u:word@h:port", "redis://u:word@h@i", "redis://h:0", "h", "u:word@h"]
)
def test_what_is_no_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(BadRequest) as told:
        address_of("redis", url)
    assert "word" not in told.value.detail
    assert told.value.hint


@pytest.mark.parametrize(
    ("made", "path"),
    [
        (trigger("redis", url="redis://h"), "redis"),
        (trigger("redis", url="redis://h", stream="a", list="b"), "redis"),
        (trigger("redis", url="redis://h", list="b", group="g"), "redis.group"),
        (trigger("redis", url="redis://h/first", stream="a"), "redis.url"),
        (trigger("redis", "sequence:1", url="redis://h", stream="a"), "start"),
        (trigger("redis", "start", url="redis://h", list="a"), "start"),
        (trigger("mqtt", "start", url="mqtt://h", topics=["a"]), "start"),
        (trigger("rabbitmq", url="amqp://h", queue=""), "rabbitmq.queue"),
        (trigger("rabbitmq", url="redis://h", queue="q"), "rabbitmq.url"),
        (trigger("nats", url="nats://h", stream="a.b"), "nats.stream"),
        (trigger("nats", url="nats://h", stream="a", subject="a.>.b"), "nats.subject"),
        (trigger("nats", url="nats://h", stream="a", ack_wait_s=0.1), "nats.ack_wait"),
        (trigger("mqtt", url="mqtt://h", topics=[]), "mqtt.topics"),
        (trigger("mqtt", url="mqtt://h", topics=["a/#/b"]), "mqtt.topics"),
        (trigger("mqtt", url="mqtt://h", topics=["$share/g"]), "mqtt.topics"),
        (trigger("mqtt", url="mqtt://h/topic", topics=["a"]), "mqtt.url"),
        (trigger("mqtt", url="mqtt://h", topics=["a"], secret="No Name"), "mqtt.secret"),
    ],
)  # fmt: skip
def test_a_trigger_that_cannot_be_is_refused_with_its_place(made: Trigger, path: str) -> None:
    with pytest.raises(BadRequest) as told:
        check_triggers((made,))
    assert told.value.fields["path"] == f"triggers[0].{path}"
    assert told.value.hint


def test_triggers_that_can_be() -> None:
    check_triggers(
        (
            trigger("redis", "id:17-0", url="redis://h/1", stream="a", group="g", field="data"),
            trigger("nats", "sequence:7", url="nats://h", stream="a", subject="a.*.>"),
            trigger("mqtt", url="mqtt://h", topics=["+/a/#", "$share/g/a/+"], version="3.1.1"),
            trigger("rabbitmq", url="amqp://h/%2F", queue="a queue"),
        )
    )


def test_a_trigger_is_shown_without_its_password() -> None:
    made = trigger("redis", url="redis://u:word@h", stream="a")
    shown = masked(made)
    assert shown.redis is not None
    assert shown.redis.url == "redis://u:***@h"
    http = trigger("http", path="/a")
    assert masked(http) is http


def test_a_message_cannot_break_the_batch_it_comes_in() -> None:
    for body in (b'"\xff"', b"{", b"", b"NaN", b"1 2", b'"\\ud800"'):
        event = message_event(
            id="1", source="redis://h", type="t", subject="s", time_s=0.0, body=body, content_type="application/json",
            properties={"ID": "x", "fuyunhops": "31", "X-Very-Long-Header-Name": "y", "-": "z"},
        )  # fmt: skip
        found = msgspec.json.decode(b"[" + structured(event) + b"]")[0]
        assert found["id"] == "1"
        assert "fuyunhops" not in found


def test_names_of_properties_are_made_to_fit() -> None:
    assert attributes_of({"X-Trace": "1", "xtrace": "2", "Time": "3", "": "4"}) == {"xtrace": "1"}
