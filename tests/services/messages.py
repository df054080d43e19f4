"""Queues, topics and their triggers over the event path, in virtual time."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fuyun.domain.queues import Message, QueueSpec, Settling, Statistics
from fuyun.domain.triggers import Policy, QueueTrigger, TopicTrigger, Trigger
from fuyun.drivers.catalog import tables as tables  # what the tables of queues refer to
from fuyun.services.tenants import PLATFORM
from fuyun.testing.contracts.queues import outgoing
from fuyun.testing.hosts import FakeCall
from tests.services.events import Events, play

Handler = Callable[[FakeCall], None]


class Messages:
    """Everything that moves messages; `e` is the event path below. `restart` is a kill and a new start."""

    def __init__(self, e: Events) -> None:
        self.e = e
        self._begin()

    def _begin(self) -> None:
        made = self.e.path.messaging
        self.e.path.targets.register("queue", made.queues.take)
        self.queues, self.topics, self.triggers = made.queues, made.topics, made.triggers
        self.tenants, self.scope = self.e.tenants, self.e.scope

    async def restart(self) -> None:
        await self.e.restart()
        self._begin()

    async def create(self, name: str = "q", **spec: Any) -> None:
        await self.queues.put_queue(PLATFORM, "default", name, QueueSpec(**spec))

    async def send(self, *ids: str, to: str = "q", **rest: Any) -> None:
        await self.queues.send("default", to, [outgoing(id_, **rest) for id_ in ids])

    async def receive(self, most: int = 1, *, of: str = "q", **rest: Any) -> list[str]:
        return [message.id for message in await self.queues.receive("default", of, most, **rest)]

    async def settle(self, message: Message, hold_s: float | None = None, of: str = "q") -> None:
        await self.queues.settle("default", of, [Settling(receipt=message.receipt, hold_s=hold_s)])

    async def held(self, name: str = "q") -> list[str]:
        return [message.id for message in await self.queues.peek("default", name, 100)]

    async def count(self, name: str = "q") -> int:
        return (await self.queues.get_queue("default", name))[0].messages

    async def statistics(self, name: str = "q") -> Statistics:
        return (await self.queues.get_queue("default", name))[1]

    async def bind(self, queue: str = "q", function: str = "f", alias: str = "", **policy: Any) -> None:
        """Deploy a function with a trigger of the queue."""
        trigger = Trigger(queue=QueueTrigger(queue=queue, alias=alias), policy=Policy(**policy))
        await self.deploy(function, trigger)

    async def bind_topic(self, topic: str = "t", function: str = "f", **policy: Any) -> None:
        """Deploy a function with a trigger of the topic."""
        await self.deploy(function, Trigger(topic=TopicTrigger(topic=topic), policy=Policy(**policy)))

    async def deploy(self, function: str, *triggers: Trigger, **spec: Any) -> None:
        await self.e.platform.deploy(function, triggers=triggers, **spec)
        self.e.path.bindings.changed()


def ids_of(call: FakeCall) -> list[str]:
    """Ids of the events of a batch, or of the one event."""
    body = json.loads(call.body)
    return [event["id"] for event in body] if isinstance(body, list) else [body["id"]]


def run(scene: Callable[[Messages], Awaitable[None]], **options: Any) -> None:
    """Run a scene in virtual time."""

    async def main(e: Events) -> None:
        await scene(Messages(e))

    play(main, **options)


def virtual(scene: Callable[[Messages], Awaitable[None]]) -> Callable[[], None]:
    """A test that runs its scene in virtual time."""

    def test() -> None:
        run(scene)

    test.__name__, test.__doc__ = scene.__name__, scene.__doc__
    return test


def numbered(count: int, prefix: str = "m") -> Sequence[str]:
    """That many ids."""
    return [f"{prefix}{number}" for number in range(count)]


def record(m: Messages) -> list[list[str]]:
    """Answer every call; the ids of each."""
    seen: list[list[str]] = []

    def handler(call: FakeCall) -> None:
        seen.append(ids_of(call))
        call.answer(None)

    m.e.handler = handler
    return seen
