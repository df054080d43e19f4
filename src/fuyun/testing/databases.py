"""A database in memory, without threads: drivers on SQL in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import StaticPool

from fuyun.domain.errors import FuyunError
from fuyun.drivers.catalog import tables as tables  # what tables of other drivers refer to
from fuyun.drivers.sql.columns import metadata
from fuyun.drivers.sql.writer import EMITTED

T = TypeVar("T")


class InlineDatabase:
    """Stands in for `drivers.sql.sqlite.Database` where a loop must not wait for threads. A write takes `commit_s` of
    the loop's time; `failing` is what the next ones end in."""

    def __init__(self, commit_s: float = 0.001) -> None:
        self.commit_s = commit_s
        self.failing: FuyunError | None = None
        self.writes = 0
        self._on_emit: Callable[[], None] = lambda: None
        self._engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})

        @event.listens_for(self._engine, "connect")
        def _connected(raw: object, _record: object) -> None:
            raw.isolation_level = None  # type: ignore[attr-defined]

        @event.listens_for(self._engine, "begin")
        def _begun(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN")

        metadata.create_all(self._engine)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """See `Database.read`."""
        await asyncio.sleep(0)
        with self._engine.begin() as connection:
            return work(connection)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """See `Database.write`: done when it returns. Cancelled, it may have happened."""
        await asyncio.sleep(self.commit_s / 2)
        if self.failing is not None:
            raise self.failing
        self.writes += 1
        with self._engine.begin() as connection:
            found = work(connection)
            emitted = connection.info.pop(EMITTED, False)
        if emitted:
            asyncio.get_running_loop().call_soon(self._on_emit)
        await asyncio.sleep(self.commit_s / 2)
        return found

    def on_emit(self, call: Callable[[], None]) -> None:
        """See `Database.on_emit`."""
        self._on_emit = call

    def close(self) -> None:
        """Forget everything."""
        self._engine.dispose()
