"""Work that several ask for at once and that is done once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from fuyun.base.tasks import Scope

T = TypeVar("T")
Progress = Callable[[str], None]


@dataclass(slots=True)
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    listeners: list[Progress] = field(default_factory=list)


class Flights(Generic[T]):
    """One running task per key; everybody who joins gets its result, its error and its progress lines.

    A flight whose last passenger is cancelled is cancelled too, and has ended when `join` raises.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._flying: dict[str, _Flight[T]] = {}

    async def join(self, key: str, start: Callable[[Progress], Coroutine[Any, Any, T]], progress: Progress) -> T:
        """The result of the flight under `key`, started with `start` when there is none."""
        flight = self._flying.get(key)
        if flight is None:
            listeners: list[Progress] = []
            task = self._scope.start(start(lambda line: _tell(listeners, line)), key[:80])
            flight = self._flying[key] = _Flight(task, listeners)
            task.add_done_callback(lambda _: self._flying.pop(key, None))
        flight.listeners.append(progress)
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.listeners.remove(progress)
            if not flight.listeners and not flight.task.done():
                self._flying.pop(key, None)
                flight.task.cancel()
                await asyncio.gather(flight.task, return_exceptions=True)


def _tell(listeners: list[Progress], line: str) -> None:
    for listener in list(listeners):
        listener(line)
