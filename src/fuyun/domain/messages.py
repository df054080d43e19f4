"""What is said about messages on the wire, at the control API and at the address inside instances."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from fuyun.domain.events import structured
from fuyun.domain.queues import MOST_BATCH, Message, NewMessage, Sent
from fuyun.domain.wire import Wire

Batch = Annotated[list[NewMessage], msgspec.Meta(min_length=1, max_length=MOST_BATCH)]
Receipts = Annotated[list[str], msgspec.Meta(min_length=1, max_length=MOST_BATCH)]


class NewMessages(Wire, frozen=True, kw_only=True):
    """Messages to send, all or none."""

    messages: Batch


class SentMessages(Wire, frozen=True, kw_only=True):
    """What became of each."""

    sent: list[Sent]


class Receive(Wire, frozen=True, kw_only=True):
    """How many to take out, how long to wait for the first, and for how long to have them (null: the queue's own)."""

    max: int = 1
    wait_s: float = 0.0
    visibility_s: float | None = None


class ReceivedMessage(Wire, frozen=True, kw_only=True):
    """A message: its CloudEvent, and the receipt to acknowledge it with ("" when it was only looked at). `origin` is
    the queue it was given up in."""

    event: dict[str, Any]
    receipt: str
    group: str
    sent_s: float
    receives: int
    origin: str
    lease_until_s: float


class ReceivedMessages(Wire, frozen=True, kw_only=True):
    """What there was."""

    messages: list[ReceivedMessage]


class Acknowledge(Wire, frozen=True, kw_only=True):
    """Receipts of messages that are done."""

    receipts: Receipts


class Extend(Wire, frozen=True, kw_only=True):
    """Receipts of messages to keep for so many seconds from now; 0 returns them."""

    receipts: Receipts
    visibility_s: float


class SettledMessages(Wire, frozen=True, kw_only=True):
    """For how many it was done, and why not for the others."""

    done: int
    refused: dict[str, str]


def shown(message: Message) -> dict[str, Any]:
    """The message as a `ReceivedMessage`, its event already encoded."""
    return {
        "event": msgspec.Raw(structured(message.event)), "receipt": message.receipt, "group": message.group,
        "sent_s": message.sent_s, "receives": message.receives, "origin": message.origin,
        "lease_until_s": message.lease_until_s,
    }  # fmt: skip
