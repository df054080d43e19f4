"""Where a builder makes its artifacts: once for each key, in rooms of their own."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fuyun.base.tasks import Scope
from fuyun.domain.functions import Artifact
from fuyun.drivers.builds.flights import Flights, Progress
from fuyun.drivers.builds.rooms import Room, discard, new_room
from fuyun.drivers.disk import translated
from fuyun.ports.blobs import BlobStore

Making = Callable[[Progress], Coroutine[Any, Any, Artifact]]


class Workshop:
    """`work` is emptied; it is on the file system of the blob store, so that a finished tree is moved, not copied."""

    def __init__(self, name: str, blobs: BlobStore, work: Path) -> None:
        self._blobs = blobs
        self._work = work.absolute()
        self._scope = Scope(name, lambda _: None)
        self._flights: Flights[Artifact] = Flights(self._scope)
        with translated(self._work):
            discard(self._work)
            self._work.mkdir(parents=True)

    async def kept(self, key: str, make: Making, progress: Progress) -> Artifact:
        """What is stored under `key`; made once, however many ask, when it is not there."""
        known = await self._blobs.find(hashlib.sha256(key.encode()).hexdigest())
        return known or await self._flights.join(key, make, progress)

    @asynccontextmanager
    async def room(self) -> AsyncIterator[Room]:
        """A room, gone afterwards."""
        with translated(self._work):
            room = await asyncio.to_thread(new_room, self._work)
            try:
                yield room
            finally:
                await asyncio.to_thread(discard, room.path)

    async def close(self) -> None:
        """End what runs."""
        await self._scope.close()
