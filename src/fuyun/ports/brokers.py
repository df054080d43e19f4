"""Outside brokers, whose messages triggers take: Redis, RabbitMQ, NATS JetStream, MQTT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fuyun.domain.brokers import Address
from fuyun.domain.events import Event
from fuyun.domain.triggers import BrokerTrigger


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a trigger's messages are, and how it is known there.

    `name` stands for the trigger of this platform and for nothing else: 1 to 255 of a-z, 0-9, - and _. `start` is as
    `domain.triggers.Policy` has it. `most` messages are held at once, at most.
    """

    name: str
    trigger: BrokerTrigger
    address: Address
    start: str
    most: int
    namespace: str = ""  # whose it is, for the source of events
    password: str = field(default="", repr=False)  # in place of the address's
    authorities: str = ""  # certificates, PEM; "" for the host's


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A message that somebody must settle. Those of one `key` come in order; "" is a source that keeps none between
    messages, or one order for all. `sequence` tells it from all others of its source, given out again or not, as far
    as the broker does: then `lasting` is true, and a message that comes again has the same."""

    receipt: Any
    event: Event
    sequence: str
    key: str = ""
    lasting: bool = False
    again: bool = False  # the broker says, or cannot exclude, that it was given out before


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a message: it is done with; `refused` says that it was given up, for brokers that keep dead
    letters of their own."""

    receipt: Any
    refused: bool = False


class Consumer(Protocol):
    """A connection that takes messages for one trigger. Used by one task at a time per method.

    A message that was received and not settled is given out again: to this trigger, once a consumer is opened for it
    anew, whatever was killed meanwhile, before those that come after it where the source has an order. Raises
    Unavailable, in words without credentials, when the broker does not do its part; then the consumer is of no use any
    more and is to be closed.
    """

    #: Seconds after which `keep` is to be called for what is held; infinite where nothing runs out.
    keep_s: float

    async def receive(self, most: int, wait_s: float) -> list[Received]:
        """Up to `most` messages (1 or more) in their order; waits up to `wait_s` for the first. Cancelled, it loses
        none."""
        ...

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """They are not given out again, once the broker knows; of a connection that breaks some may be."""
        ...

    async def keep(self, receipts: Sequence[Any]) -> None:
        """They are being worked on: nobody else is to get them."""
        ...

    async def lag(self) -> int | None:
        """Messages that wait in the broker and were not received; None where it does not tell."""
        ...

    async def close(self) -> None:
        """Give back what was not settled, and disconnect. Never raises but for cancellation."""
        ...


class Broker(Protocol):
    """One technology. Loads its library when it is first asked to open something."""

    async def open(self, source: Source) -> Consumer:
        """Connect, and make what the trigger needs there and is its own (a group, a consumer, a session). Unavailable
        when it cannot be had now: the broker is away, refuses, or does not have what the trigger names."""
        ...

    async def forget(self, source: Source) -> None:
        """The trigger is gone: remove what was its own, give back what it had taken. Unavailable."""
        ...
