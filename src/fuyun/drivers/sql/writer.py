"""The only thread that writes: many queued writes, one commit (group commit).

While one transaction is brought to the disk, callers queue; the next transaction takes all of them, each in a SAVEPOINT
of its own, so that one refused write leaves its neighbours alone. A write is answered after the commit that holds it.
A lone write waits for nobody.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from fuyun.base import faults
from fuyun.domain.errors import Unavailable

T = TypeVar("T")

#: Writes per transaction at most: bounds how long the first of them waits for its answer.
MAX_BATCH = 512
#: What a connection's `info` says when its transaction has put something into the outbox (`drivers.sql.outbox`).
EMITTED = "fuyun.emitted"


@dataclass(slots=True)
class _Write:
    work: Callable[[Connection], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class Counts:
    """What the writer has done."""

    writes: int = 0
    commits: int = 0
    largest: int = 0  # writes in one commit


class Writer:
    """Runs writes on its own thread and connection. `translate` turns foreign errors into ours."""

    def __init__(self, engine: Engine, translate: Callable[[BaseException], BaseException]) -> None:
        self._engine = engine
        self._translate = translate
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._closed = False
        self.on_emit: Callable[[], None] = lambda: None  # called on the thread after such a commit
        self.counts = Counts()
        self._thread = threading.Thread(target=self._run, name="fuyun-catalog-writer", daemon=True)
        self._thread.start()

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction; its result once that is on disk. The write may happen even when cancelled."""
        if self._closed:
            raise Unavailable("the catalog is closed", hint="the platform is stopping; try again shortly")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put(_Write(work, loop, future))
        return await future

    def stop_nowait(self) -> None:
        """Refuse further writes; the thread ends when what is queued is done. Call it on the loop that writes."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)

    def join(self) -> None:
        """Wait until the thread has ended. Blocks."""
        self._thread.join()

    # --- on the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        last = False
        while not last:
            batch, last = self._take()
            if batch:
                self._commit(batch)
                _answer(batch)
            # The thread sleeps in `_take` next; nothing of these callers may stay alive until then.
            batch = []

    def _take(self) -> tuple[list[_Write], bool]:
        """All queued writes up to MAX_BATCH, waiting for the first; True when the thread is to end after them."""
        batch: list[_Write] = []
        first = self._queue.get()
        if first is None:
            return batch, True
        batch.append(first)
        while len(batch) < MAX_BATCH:
            try:
                more = self._queue.get_nowait()
            except queue.Empty:
                break
            if more is None:
                return batch, True
            batch.append(more)
        return batch, False

    def _commit(self, batch: list[_Write]) -> None:
        try:
            with self._engine.connect() as connection, connection.begin():
                for write in batch:
                    self._try(connection, write)
                faults.point("catalog.before_commit")
                emitted = connection.info.pop(EMITTED, False)
            faults.point("catalog.after_commit")
            if emitted:
                self.on_emit()
            self.counts.commits += 1
            self.counts.writes += len(batch)
            self.counts.largest = max(self.counts.largest, len(batch))
        except Exception as exc:  # nothing of the batch is on disk: every caller hears so
            error = self._translate(exc)
            for write in batch:
                write.error = write.error or error

    def _try(self, connection: Connection, write: _Write) -> None:
        savepoint = connection.begin_nested()
        try:
            write.result = write.work(connection)
            savepoint.commit()
        except Exception as exc:
            write.error = self._translate(exc)
            try:
                savepoint.rollback()
            except Exception:
                # A full disk ends SQLite's whole transaction, savepoints included: the batch fails as one, for the
                # reason that ended it.
                raise exc from None


def _answer(batch: list[_Write]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[_Write]] = {}
    for write in batch:
        by_loop.setdefault(write.loop, []).append(write)
    for loop, writes in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, writes)
        except RuntimeError:  # the loop is closed: nobody waits any more
            continue


def _resolve(writes: list[_Write]) -> None:
    for write in writes:
        if write.future.done():
            continue
        if write.error is not None:
            write.future.set_exception(write.error)
        else:
            write.future.set_result(write.result)
