"""Who waits for messages, and what wakes them: a message that came, or the time at which one may be taken.

A line is there while somebody waits in it, and has a timer only while it knows such a time. No store is asked here.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import Any

from fuyun.base import clock


class Ticket:
    """One waiter's place. Take it before the first look, so that nothing that comes meanwhile is missed."""

    __slots__ = ("_line", "_wake", "_woken")

    def __init__(self, line: _Line) -> None:
        self._line = line
        self._woken = False
        self._wake: asyncio.Future[None] | None = None

    def wake(self) -> bool:
        """Have it look again; False when it is to do so already."""
        if self._woken:
            return False
        self._woken = True
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
        return True

    async def wait(self, due_s: float | None, timeout_s: float, left: asyncio.Future[Any] | None) -> None:
        """Until it is woken, or that long, or `left` is done. `due_s`: when (wall clock) something may be taken, as a
        look has told."""
        if not self._woken:
            self._line.expect(due_s)
            self._wake = asyncio.get_running_loop().create_future()
            ends = [self._wake] if left is None else [self._wake, left]
            await asyncio.wait(
                ends, timeout=None if timeout_s == math.inf else timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        self._wake = None
        self._woken = False

    def leave(self, more: bool, due_s: float | None) -> None:
        """It waits no more. `more`: there may be more to take; a wake that was not used passes to the next, too.
        `due_s`: when what it took may be taken again, if it does not say that it is done."""
        self._line.leave(self, more or self._woken, due_s)


class _Line:
    """The waiters of one queue, longest first."""

    def __init__(self, lines: Lines, key: tuple[str, str]) -> None:
        self._lines = lines
        self.key = key
        self.tickets: deque[Ticket] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def wake(self, count: int) -> None:
        for ticket in self.tickets:
            if count <= 0:
                return
            count -= ticket.wake()

    def expect(self, due_s: float | None) -> None:
        """Something may be taken then."""
        if due_s is None or (self._timer is not None and self._due_s <= due_s):
            return
        self.rest()
        self._due_s = due_s
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due_s - clock.wall_s()), self._due)

    def _due(self) -> None:
        self._timer = None
        self.wake(1)

    def rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def leave(self, ticket: Ticket, more: bool, due_s: float | None) -> None:
        self.tickets.remove(ticket)
        if not self.tickets:
            self.rest()
            self._lines.drop(self)
            return
        self.expect(due_s)
        if more:
            self.wake(1)


class Lines:
    """All of them, by (namespace, queue)."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], _Line] = {}
        self.closed = False

    def __len__(self) -> int:
        return sum(len(line.tickets) for line in self._lines.values())

    def join(self, namespace: str, queue: str) -> Ticket:
        """A place at the end of a queue's line."""
        key = (namespace, queue)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(self, key)
        ticket = Ticket(line)
        line.tickets.append(ticket)
        return ticket

    def wake(self, namespace: str, queue: str, count: int) -> None:
        """So many messages may be taken now."""
        line = self._lines.get((namespace, queue))
        if line is not None:
            line.wake(count)

    def expect(self, namespace: str, queue: str, due_s: float) -> None:
        """A message may be taken then (wall clock)."""
        line = self._lines.get((namespace, queue))
        if line is not None:
            line.expect(due_s)

    def scatter(self, namespace: str, queue: str) -> None:
        """Have everybody look, since the queue is not what it was."""
        line = self._lines.get((namespace, queue))
        if line is not None:
            line.wake(len(line.tickets))

    def drop(self, line: _Line) -> None:
        """Nobody waits there any more."""
        self._lines.pop(line.key, None)

    def close(self) -> None:
        """Nobody waits any more."""
        self.closed = True
        for line in self._lines.values():
            line.rest()
            line.wake(len(line.tickets))
