"""Appends that come while others of their stream are brought to the disk go there together.

The store's writer commits many writes at once anyway; but a record in statements of its own, in a savepoint of its own,
costs its one thread forty times what a record among others does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from fuyun.base.tasks import Scope
from fuyun.domain.streams import MOST_RECORDS, Appended, Appending

_log = structlog.get_logger("fuyun.streams")
#: Bytes of records that are written together, unless one append has more.
_MOST_BYTES = 4 * 2**20
_Key = tuple[str, str]
_Waiting = tuple[Sequence[Appending], "asyncio.Future[list[Appended]]"]


class Joining:
    """By namespace and stream. `write(namespace, stream, records)` is the store's append."""

    def __init__(self, write: Callable[[str, str, Sequence[Appending]], Awaitable[list[Appended]]]) -> None:
        self._write = write
        self._waiting: dict[_Key, list[_Waiting]] = {}  # of streams that are being written
        self._scope = Scope("append", lambda error: _log.error("appending failed", exc_info=error))

    async def append(self, namespace: str, stream: str, records: Sequence[Appending]) -> list[Appended]:
        """Where the records are, once they are on the disk; all or none of them."""
        future: asyncio.Future[list[Appended]] = asyncio.get_running_loop().create_future()
        key = (namespace, stream)
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = [(records, future)]
            self._scope.start(self._run(key), "write")
        else:
            waiting.append((records, future))
        return await future

    async def _run(self, key: _Key) -> None:
        waiting = self._waiting[key]
        try:
            while waiting:
                count = _together([records for records, _ in waiting])
                batch = waiting[:count]
                del waiting[:count]
                await self._together(key, batch)
        finally:
            del self._waiting[key]
            for _, future in waiting:
                future.cancel()

    async def _together(self, key: _Key, batch: list[_Waiting]) -> None:
        try:
            made = await self._write(*key, [record for records, _ in batch for record in records])
        except Exception as error:
            if len(batch) > 1:  # one of them may be to blame: each for itself
                for one in batch:
                    await self._together(key, [one])
            elif not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        start = 0
        for records, future in batch:
            if not future.done():
                future.set_result(made[start : start + len(records)])
            start += len(records)

    async def close(self) -> None:
        """End. What the store has begun may be written; nobody hears of it."""
        await self._scope.close()


def _together(waiting: Sequence[Sequence[Appending]]) -> int:
    """How many of the first are one write."""
    records = size = 0
    for count, some in enumerate(waiting):
        records += len(some)
        size += sum(len(record.event.data) for record in some)
        if count and (records > MOST_RECORDS or size > _MOST_BYTES):
            return count
    return len(waiting)
