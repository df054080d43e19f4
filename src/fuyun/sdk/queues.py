"""Queues of the namespace: send to them, and receive where a trigger is not what you want.

Standard library only. The function's `permissions.queues` name the queues it may use.
"""

from __future__ import annotations

from base64 import b64decode, b64encode

from fuyun.sdk.calling import ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, Optional


class Message:
    """A message that was taken out. `event` is the whole CloudEvent; `id`, `data` and `attributes` are parts of it.
    Acknowledge it by its `receipt`, or another receiver gets it when `lease_until_s` (epoch seconds) has passed."""

    __slots__ = ("event", "group", "lease_until_s", "origin", "receipt", "receives", "sent_s")

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.event: dict[str, Any] = told["event"]
        self.receipt: str = told["receipt"]
        self.group: str = told["group"]
        self.sent_s: float = told["sent_s"]
        self.receives: int = told["receives"]
        self.origin: str = told["origin"]
        self.lease_until_s: float = told["lease_until_s"]

    @property
    def id(self) -> str:
        """The event's."""
        return str(self.event["id"])

    @property
    def data(self) -> Any:
        """What was sent: what JSON can carry, or bytes; None for nothing."""
        if "data_base64" in self.event:
            return b64decode(self.event["data_base64"])
        return self.event.get("data")

    def __repr__(self) -> str:
        return f"Message(id={self.id!r}, receipt={self.receipt!r})"


def new_message(
    data: Any,
    *,
    attributes: Optional[Mapping[str, str]] = None,
    type: str = "",
    subject: str = "",
    id: str = "",
    group: str = "",
    deduplication: str = "",
    delay_s: Optional[float] = None,
) -> dict[str, Any]:
    """A message as `send_all` takes it. `data`: what JSON can carry, or bytes."""
    body: dict[str, Any] = {"data_base64": b64encode(data).decode()} if isinstance(data, bytes) else {"data": data}
    given = {
        "attributes": dict(attributes or {}), "type": type, "subject": subject, "id": id, "group": group,
        "deduplication": deduplication,
    }  # fmt: skip
    body.update({name: value for name, value in given.items() if value})
    if delay_s is not None:
        body["delay_s"] = delay_s
    return body


def send(queue: str, data: Any, **options: Any) -> str:
    """Send one message (options as `new_message` has them); its id. It is on disk when this returns."""
    return send_all(queue, [new_message(data, **options)])[0]


def send_all(queue: str, messages: Iterable[Mapping[str, Any]]) -> list[str]:
    """Send up to 100 of `new_message`, all or none; their ids, or those of the messages whose `deduplication` they
    repeat."""
    told = ask("queues", queue, "send", {"messages": list(messages)})
    return [str(sent["id"]) for sent in told["sent"]]


def receive(queue: str, most: int = 1, *, wait_s: float = 0.0, visibility_s: Optional[float] = None) -> list[Message]:
    """Take out up to `most` messages, waiting `wait_s` for the first."""
    asked = {"max": most, "wait_s": wait_s, "visibility_s": visibility_s}
    return [Message(told) for told in ask("queues", queue, "receive", asked, wait_s=wait_s)["messages"]]


def acknowledge(queue: str, messages: Iterable[Message]) -> dict[str, str]:
    """These are done. Receipt -> why not, for those whose lease had run out."""
    return _refused(ask("queues", queue, "acknowledge", {"receipts": _receipts(messages)}))


def extend(queue: str, messages: Iterable[Message], visibility_s: float) -> dict[str, str]:
    """Keep these for so many seconds from now; 0 returns them. Receipt -> why not."""
    asked = {"receipts": _receipts(messages), "visibility_s": visibility_s}
    return _refused(ask("queues", queue, "extend", asked))


def _receipts(messages: Iterable[Message]) -> Sequence[str]:
    return [message.receipt for message in messages]


def _refused(told: Mapping[str, Any]) -> dict[str, str]:
    return dict(told["refused"])


__all__ = ["Message", "acknowledge", "extend", "new_message", "receive", "send", "send_all"]
