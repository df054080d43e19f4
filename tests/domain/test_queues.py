"""What queues, messages and subscriptions may say, and what is said of what they may not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fuyun.domain.errors import BadRequest, FuyunError, PayloadTooLarge
from fuyun.domain.queues import (
    PLAIN_TYPE,
    NewMessage,
    Outgoing,
    QueueSpec,
    check_outgoing,
    check_queue,
    outgoing_of,
    parse_receipt,
    receipt_of,
    size_of,
)
from fuyun.domain.rulechecks import check_subscription
from fuyun.domain.topics import SubscriptionSpec


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"visibility_s": 0}, "visibility_s"),
        ({"visibility_s": float("nan")}, "visibility_s"),
        ({"retention_s": 59}, "retention_s"),
        ({"delay_s": -1}, "delay_s"),
        ({"retention_s": 60, "delay_s": 31}, "delay_s"),
        ({"message_bytes": 2**21}, "message_bytes"),
        ({"max_receives": 0}, "max_receives"),
        ({"deduplication_s": 1e9}, "deduplication_s"),
        ({"dead_letter": "q"}, "dead_letter"),
        ({"dead_letter": "No"}, "queue"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any], path: str) -> None:
    with pytest.raises(BadRequest) as found:
        check_queue("q", QueueSpec(**wrong))
    assert found.value.fields["path"] == path
    check_queue("q", QueueSpec())


def made(**fields: Any) -> Outgoing:
    return outgoing_of(NewMessage(**fields), "/default/queue/q", "id", 5.0)


def test_what_a_sender_leaves_out_is_filled_in() -> None:
    event = made(data=msgspec.Raw(b'{"a": 1e400}')).event
    assert (event.id, event.source, event.type, event.time_s) == ("id", "/default/queue/q", PLAIN_TYPE, 5.0)
    assert (event.content_type, event.data) == ("application/json", b'{"a": 1e400}'), "byte for byte"
    given = made(id="x", source="/s", type="t", subject="u", attributes={"kind": "v"}, group="g", delay_s=1.0)
    assert (given.event.id, given.event.source, given.event.type, given.event.subject) == ("x", "/s", "t", "u")
    assert (given.event.data, given.event.extensions, given.group, given.delay_s) == (b"", {"kind": "v"}, "g", 1.0)
    bytes_ = made(data_base64="AAE=").event
    assert (bytes_.content_type, bytes_.data) == ("application/octet-stream", b"\0\1")
    assert made(data_base64="aGk=", content_type="text/plain").event.content_type == "text/plain"


@pytest.mark.parametrize(
    "wrong",
    [
        {"data": msgspec.Raw(b"1"), "data_base64": "AA=="},
        {"data": msgspec.Raw(b"1"), "content_type": "text/plain"},
        {"data_base64": "%%%"},
        {"data_base64": "AA==", "content_type": "application/json"},
        {"attributes": {"Kind": "x"}},
        {"attributes": {"fuyunhops": "0"}},
    ],
)
def test_bodies_and_attributes_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        made(**wrong)


@pytest.mark.parametrize(
    ("spec", "message", "error"),
    [
        (QueueSpec(fifo=True), made(), BadRequest),
        (QueueSpec(), made(group="g"), BadRequest),
        (QueueSpec(fifo=True), made(group="g", delay_s=1.0), BadRequest),
        (QueueSpec(), made(delay_s=-1.0), BadRequest),
        (QueueSpec(), made(delay_s=1e9), BadRequest),
        (QueueSpec(), made(deduplication="\n"), BadRequest),
        (QueueSpec(message_bytes=10), made(), PayloadTooLarge),
    ],
)
def test_a_queue_says_what_it_does_not_take(spec: QueueSpec, message: Outgoing, error: type[FuyunError]) -> None:
    with pytest.raises(error) as found:
        check_outgoing("q", spec, message)
    assert found.value.hint or "printable" in found.value.detail


def test_sizes_count_data_and_attributes() -> None:
    plain, more = made().event, made(data=msgspec.Raw(b"12345"), attributes={"ab": "cde"}).event
    assert size_of(more) - size_of(plain) == 10


def test_receipts_come_back() -> None:
    assert parse_receipt(receipt_of(12, 3)) == (12, 3)
    for wrong in ("", "12", "12-", "-3", "0-1", "1-0", "1-1x", "１-1", "9" * 30 + "-1"):
        with pytest.raises(BadRequest):
            parse_receipt(wrong)


def test_subscriptions_are_checked() -> None:
    check_subscription("s", SubscriptionSpec(target="function:f:live", filter={"type": {"prefix": "order."}}))
    for name, target, filter_ in (
        ("S", "queue:q", None),
        ("s", "queue", None),
        ("s", "http://example.com", None),
        ("s", "queue:q", {"type": {"prefiks": "x"}}),
        ("s", "queue:q", []),
    ):
        with pytest.raises(BadRequest):
            check_subscription(name, SubscriptionSpec(target=target, filter=filter_))
    assert (SubscriptionSpec(target="queue:q").queue, SubscriptionSpec(target="function:f").queue) == ("q", "")
