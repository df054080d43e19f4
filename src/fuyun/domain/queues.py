"""Queues and their messages. A message is an event: one shape for triggers and for people, who may give a body alone.

A receipt proves that its holder took a message out, and when: `NUMBER-LEASE` of the message and of that taking.
"""

from __future__ import annotations

import base64
import re
from typing import Annotated

import msgspec

from fuyun.domain.errors import BadRequest, PayloadTooLarge
from fuyun.domain.events import Event, check_event
from fuyun.domain.functions import Wire
from fuyun.domain.names import check_name

#: What a queue's settings may say at most. Seconds and bytes.
MOST_VISIBILITY_S = 12 * 3600.0
MOST_RETENTION_S = 14 * 86400.0
LEAST_RETENTION_S = 60.0
MOST_DEDUPLICATION_S = 86400.0
MOST_MESSAGE_BYTES = 2**20
MOST_RECEIVES = 1000
#: Messages of one request.
MOST_BATCH = 100
#: Seconds one request waits for a message.
MOST_WAIT_S = 60.0
#: Characters of a group's name and of a deduplication id.
MOST_LABEL = 128
#: Characters of an attribute of a sender's own.
MOST_WORD = 512
#: Messages that one transaction moves, so that others get their turn.
MOVE_AT_ONCE = 500
#: Type of an event that was sent as a body alone.
PLAIN_TYPE = "fuyun.queue.message"

_RECEIPT = re.compile(r"([1-9][0-9]{0,17})-([1-9][0-9]{0,9})")


def _doc(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class QueueSpec(Wire, frozen=True, kw_only=True):
    """What a queue does with its messages."""

    fifo: Annotated[bool, _doc("in order: the messages of a group one after the other, one out at a time")] = False
    visibility_s: Annotated[float, _doc("seconds a receiver has until a message is given to another")] = 30.0
    delay_s: Annotated[float, _doc("seconds a message waits before it may be received")] = 0.0
    retention_s: Annotated[float, _doc("seconds a message is kept when nobody acknowledges it")] = 4 * 86400.0
    message_bytes: Annotated[int, _doc("data and attributes of one message at most")] = 256 * 1024
    dead_letter: Annotated[str, _doc("the queue that takes what was received `max_receives` times; empty: none")] = ""
    max_receives: Annotated[int, _doc("how often a message is given out before it goes to `dead_letter`")] = 5
    deduplication_s: Annotated[float, _doc("seconds in which a deduplication id is taken once")] = 300.0


class Queue(Wire, frozen=True, kw_only=True):
    """A queue of a namespace. `messages` and `bytes` are all it holds, whatever state they are in."""

    namespace: str
    name: str
    spec: QueueSpec = QueueSpec()
    created_s: float
    revision: int = 1
    messages: int = 0
    bytes: int = 0


class Statistics(Wire, frozen=True, kw_only=True):
    """What a queue's messages wait for. `oldest_s` is the age of the oldest in seconds, 0 in an empty queue."""

    ready: int = 0
    in_flight: int = 0
    delayed: int = 0
    blocked: int = 0  # behind another message of their group
    oldest_s: float = 0.0


class NewMessage(Wire, frozen=True, kw_only=True):
    """A message as its sender gives it: a body, and what the sender wants to say about it. The rest is filled in."""

    data: Annotated[msgspec.Raw | msgspec.UnsetType, _doc("any JSON")] = msgspec.UNSET
    data_base64: Annotated[str, _doc("bytes instead of JSON")] = ""
    content_type: Annotated[str, msgspec.Meta(max_length=MOST_WORD, description="of the bytes")] = ""
    type: Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_WORD, description="what happened")] = PLAIN_TYPE
    source: Annotated[str, msgspec.Meta(max_length=MOST_WORD, description="where; empty: where it was sent to")] = ""
    subject: Annotated[str, msgspec.Meta(max_length=MOST_WORD, description="to what of it")] = ""
    id: Annotated[str, msgspec.Meta(max_length=MOST_LABEL, description="of the event; empty: a new one")] = ""
    attributes: Annotated[dict[str, str], _doc("extension attributes: names of 1 to 20 of a-z and 0-9")] = {}
    group: Annotated[str, msgspec.Meta(max_length=MOST_LABEL, description="of a queue with order")] = ""
    deduplication: Annotated[str, msgspec.Meta(max_length=MOST_LABEL, description="what is taken once")] = ""
    delay_s: Annotated[float | None, _doc("seconds until it may be received; null: the queue's own")] = None


class Outgoing(Wire, frozen=True, kw_only=True):
    """A message to send. `delay_s` None is the queue's own."""

    event: Event
    group: str = ""
    deduplication: str = ""
    delay_s: float | None = None


class Sent(Wire, frozen=True, kw_only=True):
    """What became of one: its id, or that of the message whose deduplication id it repeats."""

    id: str
    duplicate: bool = False


class Message(Wire, frozen=True, kw_only=True):
    """A message that was taken out, or looked at (`receipt` is "" then). `origin` is the queue it was given up in."""

    event: Event
    receipt: str = ""
    group: str = ""
    sent_s: float
    receives: int
    origin: str = ""
    lease_until_s: float = 0.0

    @property
    def id(self) -> str:
        """The event's."""
        return self.event.id


class Received(Wire, frozen=True, kw_only=True):
    """What a receiver got. `next_due_s`: when the next message may be taken, as far as is known; None when none waits
    for a time. `given_up`: the dead-letter queue and how many were moved there on the way."""

    messages: tuple[Message, ...] = ()
    next_due_s: float | None = None
    given_up: tuple[str, int] = ("", 0)


class Settling(Wire, frozen=True, kw_only=True):
    """What becomes of a message that was taken out: done (`hold_s` None), kept that long from now, or returned (0)."""

    receipt: str
    hold_s: float | None = None


class Settled(Wire, frozen=True, kw_only=True):
    """`refused`: receipt -> why nothing was done for it. `ready`: how many messages may be received because of it."""

    refused: dict[str, str] = {}
    ready: int = 0


def outgoing_of(new: NewMessage, source: str, id_: str, now_s: float) -> Outgoing:
    """What the sender gave, with what it left out filled in. BadRequest."""
    data, content_type = b"", new.content_type or "application/json"
    if isinstance(new.data, msgspec.Raw):
        data = bytes(new.data)
        if new.data_base64 or new.content_type not in ("", "application/json"):
            raise BadRequest(
                "data is JSON, and data_base64 or content_type say something else",
                hint="send bytes as data_base64 with their content_type", path="data",
            )  # fmt: skip
    elif new.data_base64:
        content_type = new.content_type or "application/octet-stream"
        try:
            data = base64.b64decode(new.data_base64, validate=True)
        except ValueError as exc:
            raise BadRequest(f"data_base64 is no base64: {exc}", hint="use RFC 4648", path="data_base64") from exc
    event = Event(
        id=new.id or id_, source=new.source or source, type=new.type, subject=new.subject, time_s=now_s,
        content_type=content_type, data=data, extensions=new.attributes,
    )  # fmt: skip
    return Outgoing(event=check_event(event), group=new.group, deduplication=new.deduplication, delay_s=new.delay_s)


def check_queue(name: str, spec: QueueSpec) -> None:
    """BadRequest that says which setting of the queue cannot be."""
    check_name("queue", name)
    _within("visibility_s", spec.visibility_s, 1.0, MOST_VISIBILITY_S)
    _within("retention_s", spec.retention_s, LEAST_RETENTION_S, MOST_RETENTION_S)
    _within("delay_s", spec.delay_s, 0.0, spec.retention_s / 2)
    _within("message_bytes", spec.message_bytes, 1, MOST_MESSAGE_BYTES)
    _within("max_receives", spec.max_receives, 1, MOST_RECEIVES)
    _within("deduplication_s", spec.deduplication_s, 0.0, MOST_DEDUPLICATION_S)
    if spec.dead_letter:
        check_name("queue", spec.dead_letter)
    if spec.dead_letter == name:
        raise BadRequest(f"{name!r} cannot be its own dead-letter queue", hint="name another queue", path="dead_letter")


def _within(path: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise BadRequest(f"{path} is {value:g}", hint=f"use {least:g} to {most:g}", path=path)


def size_of(event: Event) -> int:
    """What counts: bytes of data, and characters of the attributes."""
    named = len(event.id) + len(event.source) + len(event.type) + len(event.subject) + len(event.content_type)
    return named + len(event.data) + sum(len(name) + len(value) for name, value in event.extensions.items())


def check_outgoing(queue: str, spec: QueueSpec, message: Outgoing) -> int:
    """The message's size in bytes. BadRequest or PayloadTooLarge when the queue cannot take it."""
    for path, label in (("group", message.group), ("deduplication", message.deduplication)):
        if len(label) > MOST_LABEL or not label.isprintable():
            raise BadRequest(f"{path} is up to {MOST_LABEL} printable characters", path=path)
    if spec.fifo and not message.group:
        raise BadRequest(
            f"queue {queue!r} keeps an order, and the message names no group",
            hint="set `group`; messages of one group are received one after the other", path="group",
        )  # fmt: skip
    if message.group and not spec.fifo:
        raise BadRequest(
            f"queue {queue!r} keeps no order, and the message names a group",
            hint="leave `group` out, or create the queue with fifo", path="group",
        )  # fmt: skip
    if message.delay_s is not None:
        if spec.fifo:
            raise BadRequest(
                f"queue {queue!r} keeps an order: one message cannot be delayed alone",
                hint="set the queue's own delay_s", path="delay_s",
            )  # fmt: skip
        _within("delay_s", message.delay_s, 0.0, spec.retention_s / 2)
    size = size_of(message.event)
    if size > spec.message_bytes:
        raise PayloadTooLarge(
            f"the message has {size} bytes, queue {queue!r} takes {spec.message_bytes}",
            hint="send less, raise the queue's message_bytes, or put the data into a bucket and send its name",
            limit_bytes=spec.message_bytes,
        )
    return size


def receipt_of(number: int, lease: int) -> str:
    """The receipt of one taking of a message."""
    return f"{number}-{lease}"


def parse_receipt(receipt: str) -> tuple[int, int]:
    """(number, lease) of a receipt. BadRequest."""
    found = _RECEIPT.fullmatch(receipt)
    if found is None:
        raise BadRequest(
            f"{receipt[:80]!r} is no receipt", hint="use what `receive` gave with the message", path="receipt"
        )
    return int(found[1]), int(found[2])
