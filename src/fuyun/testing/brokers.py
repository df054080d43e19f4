"""A broker in memory, for scenes in virtual time: it keeps `ports.brokers`, and fails when it is told to."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from fuyun.base import clock
from fuyun.domain.brokers import message_event
from fuyun.domain.errors import Unavailable
from fuyun.ports.brokers import Received, Settlement, Source


class FakeBroker:
    """Implements `ports.brokers.Broker`; one list of messages for all sources. `away` is what everything ends in."""

    def __init__(self) -> None:
        self.messages: dict[int, tuple[bytes, str]] = {}  # number -> body and key, not settled
        self.out: set[int] = set()  # given to a consumer
        self.given: dict[int, int] = {}  # number -> how often it was given out
        self.away = ""
        self.deaf = False  # settlements are lost with the connection that they break
        self.opened: list[Source] = []
        self.opened_s: list[float] = []
        self.forgotten: list[Source] = []
        self.refused: list[int] = []
        self.kept = 0
        self.keep_s = math.inf
        self._number = 0
        self._change = asyncio.Event()

    def publish(self, *bodies: bytes, key: str = "") -> None:
        """Put messages in."""
        for body in bodies:
            self._number += 1
            self.messages[self._number] = (body, key)
        self.tell()

    def tell(self) -> None:
        """Have consumers look."""
        self._change.set()
        self._change = asyncio.Event()

    def check(self) -> None:
        """Unavailable while it is away."""
        if self.away:
            raise Unavailable(self.away)

    async def open(self, source: Source) -> FakeConsumer:
        """See `Broker`."""
        self.opened_s.append(clock.mono_s())
        self.check()
        self.opened.append(source)
        return FakeConsumer(self, source)

    async def forget(self, source: Source) -> None:
        """See `Broker`."""
        self.check()
        self.forgotten.append(source)

    async def wait(self, wait_s: float) -> None:
        """Until something changes."""
        change = self._change
        try:
            async with asyncio.timeout(wait_s):
                await change.wait()
        except TimeoutError:
            pass


class FakeConsumer:
    """Implements `ports.brokers.Consumer`."""

    def __init__(self, broker: FakeBroker, source: Source) -> None:
        self._broker = broker
        self._source = source
        self._mine: set[int] = set()
        self.keep_s = broker.keep_s

    def _ready(self) -> list[int]:
        return [number for number in self._broker.messages if number not in self._broker.out]

    async def receive(self, most: int, wait_s: float) -> list[Received]:
        """See `Consumer`."""
        self._broker.check()
        if not self._ready():
            await self._broker.wait(wait_s)
        self._broker.check()
        found = self._ready()[:most]
        for number in found:
            self._broker.out.add(number)
            self._mine.add(number)
            self._broker.given[number] = self._broker.given.get(number, 0) + 1
        return [self._made(number) for number in found]

    def _made(self, number: int) -> Received:
        body, key = self._broker.messages[number]
        event = message_event(
            id=str(number), source=self._source.address.shown, type=f"{self._source.address.scheme}.message",
            subject=key or "thing", time_s=clock.wall_s(), body=body,
        )  # fmt: skip
        again = self._broker.given[number] > 1
        return Received(receipt=number, event=event, sequence=str(number), key=key, lasting=True, again=again)

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """See `Consumer`."""
        self._broker.check()
        if self._broker.deaf and settlements:
            self._broker.deaf = False
            raise Unavailable("the connection broke")
        for one in settlements:
            self._broker.messages.pop(one.receipt, None)
            self._broker.out.discard(one.receipt)
            self._mine.discard(one.receipt)
            if one.refused:
                self._broker.refused.append(one.receipt)

    async def keep(self, receipts: Sequence[Any]) -> None:
        """See `Consumer`."""
        self._broker.check()
        self._broker.kept += len(receipts)

    async def lag(self) -> int | None:
        """See `Consumer`."""
        self._broker.check()
        return len(self._ready())

    async def close(self) -> None:
        """See `Consumer`."""
        self._broker.out -= self._mine
        self._mine.clear()
        self._broker.tell()
