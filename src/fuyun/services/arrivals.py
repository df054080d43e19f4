"""Who waits for records of a stream, and what wakes them: an append. The store is not asked here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

_Key = tuple[str, str, int]


class Arrivals:
    """By namespace, stream and partition."""

    def __init__(self) -> None:
        self._waiting: dict[_Key, set[asyncio.Event]] = {}
        self.closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    @contextmanager
    def watch(self, namespace: str, stream: str, partitions: Iterable[int]) -> Iterator[asyncio.Event]:
        """An event that is set whenever one of the partitions has grown. Clear it before each look at the store, so
        that nothing that comes meanwhile is missed."""
        arrived = asyncio.Event()
        watched = [(namespace, stream, number) for number in partitions]
        for key in watched:
            self._waiting.setdefault(key, set()).add(arrived)
        try:
            yield arrived
        finally:
            for key in watched:
                waiting = self._waiting[key]
                waiting.discard(arrived)
                if not waiting:
                    del self._waiting[key]

    def wake(self, namespace: str, stream: str, partitions: Iterable[int]) -> None:
        """They have grown."""
        for number in set(partitions):
            for arrived in self._waiting.get((namespace, stream, number), ()):
                arrived.set()

    def scatter(self, namespace: str, stream: str = "") -> None:
        """Have everybody look, since a stream (or a namespace's all) is not what it was."""
        for key, waiting in self._waiting.items():
            if key[0] == namespace and stream in ("", key[1]):
                for arrived in waiting:
                    arrived.set()

    def close(self) -> None:
        """Nobody waits any more."""
        self.closed = True
        for waiting in self._waiting.values():
            for arrived in waiting:
                arrived.set()
