"""Where messages wait that a broker pushes: what its client hears is put in, what a trigger receives is taken out."""

from __future__ import annotations

import asyncio
from collections import deque

from fuyun.domain.errors import Unavailable
from fuyun.ports.brokers import Received


class Inbox:
    """Of one connection. The broker bounds what is in it: it sends no more while so much is not settled."""

    def __init__(self) -> None:
        self._waiting: deque[Received] = deque()
        self._arrived = asyncio.Event()
        self._broken: Unavailable | None = None

    def put(self, received: Received) -> None:
        """A message came."""
        self._waiting.append(received)
        self._arrived.set()

    def fail(self, error: Unavailable) -> None:
        """The connection broke; what is still here cannot be settled any more."""
        self._broken = self._broken or error
        self._waiting.clear()
        self._arrived.set()

    def check(self) -> None:
        """Unavailable when the connection broke."""
        if self._broken is not None:
            raise Unavailable(self._broken.detail, hint=self._broken.hint)

    async def take(self, most: int, wait_s: float) -> list[Received]:
        """See `ports.brokers.Consumer.receive`."""
        self.check()
        if not self._waiting:
            self._arrived.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._arrived.wait()
            except TimeoutError:
                return []
            self.check()
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def __len__(self) -> int:
        return len(self._waiting)
