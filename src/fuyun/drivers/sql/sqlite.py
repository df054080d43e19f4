"""One SQLite file: opened, migrated, read by a few threads, written by one.

WAL with `synchronous=FULL`: a commit is on the disk when it returns (https://www.sqlite.org/pragma.html#pragma_synchronous).
Readers never wait for the writer. `BEGIN` is ours instead of the sqlite3 module's, whose own transaction control starts
too late for SAVEPOINT and for DDL.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError

from fuyun.domain.errors import BadRequest, Conflict, FuyunError, Internal, OperatorError, StorageFull, Unavailable
from fuyun.drivers.disk import translated
from fuyun.drivers.sql import schema
from fuyun.drivers.sql.writer import Counts, Writer

T = TypeVar("T")

#: Seconds to wait for another process (a backup, sqlite3 on the command line) that holds the file.
BUSY_S = 10.0
#: Threads that read. Reads are short and mostly come from memory; more threads would only queue for the interpreter.
READERS = 2

#: SQLite's result code -> (error, what happened, what to do next). Longest prefix first: IOERR_READ before IOERR.
_TABLE: tuple[tuple[str, type[FuyunError], str, str], ...] = (
    ("SQLITE_FULL", StorageFull, "the disk is full", "free space on that disk, then repeat the request"),
    ("SQLITE_READONLY", StorageFull, "the file or its disk is read-only", "make the data directory writable"),
    ("SQLITE_CANTOPEN", StorageFull, "the file cannot be opened for writing",
     "give the user that runs Fuyun write access to the data directory and free space on its disk"),
    ("SQLITE_PERM", StorageFull, "the file may not be written", "give the user that runs Fuyun write access"),
    ("SQLITE_IOERR_READ", OperatorError, "the disk cannot be read", "look into dmesg; restore a backup"),
    ("SQLITE_IOERR_SHORT_READ", OperatorError, "the file is cut short", "restore a backup"),
    ("SQLITE_IOERR_CORRUPTFS", OperatorError, "the file system is damaged", "look into dmesg; restore a backup"),
    ("SQLITE_IOERR", StorageFull, "the disk cannot be written", "free space, look into dmesg, then repeat the request"),
    ("SQLITE_CORRUPT", OperatorError, "the file is damaged", "restore a backup"),
    ("SQLITE_NOTADB", OperatorError, "the file is no SQLite database", "move it away or restore a backup"),
    ("SQLITE_BUSY", Unavailable, f"another process has held the file for {BUSY_S:g} s", "end that process"),
    ("SQLITE_LOCKED", Unavailable, "the file is locked", "try again"),
    ("SQLITE_NOMEM", Unavailable, "the host is out of memory", "free memory, then try again"),
)  # fmt: skip


def translate(exc: BaseException, path: Path) -> BaseException:
    """Ours for SQLite's and SQLAlchemy's errors; `exc` itself when it is ours already. Anything else is a bug."""
    if isinstance(exc, FuyunError) or not isinstance(exc, Exception):
        return exc
    foreign = exc.orig if isinstance(exc, DBAPIError) else exc
    known: FuyunError | None = None
    if isinstance(exc, IntegrityError):
        known = Conflict("it exists already, or what it belongs to is gone", hint="read its state, then try again")
    elif isinstance(foreign, OverflowError):
        known = BadRequest("a number is out of range", hint="use one below 2^63")
    elif isinstance(foreign, UnicodeEncodeError):
        known = BadRequest("a text holds half of a surrogate pair", hint="send valid Unicode")
    elif isinstance(foreign, sqlite3.Error):
        name = getattr(foreign, "sqlite_errorname", "")
        for prefix, kind, happened, hint in _TABLE:
            if name.startswith(prefix):
                known = kind(f"{path}: {happened} ({name})", hint=hint, path=str(path))
                break
    if known is None:
        known = Internal(f"{path}: {type(foreign).__name__}: {foreign}", hint="report this as a bug")
    known.__cause__ = exc
    return known


def _raise(exc: BaseException, path: Path) -> NoReturn:
    ours = translate(exc, path)
    if ours is exc:
        raise exc
    raise ours from exc


class Database:
    """The open file. `read` and `write` run a function of a `Connection`; errors come out as ours."""

    def __init__(self, path: Path, writing: Engine, reading: Engine) -> None:
        self._path = path
        self._engines = (writing, reading)
        self._reading = reading
        self._writer = Writer(writing, lambda exc: translate(exc, path))
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="fuyun-catalog-reader")
        self._closed = False

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open or create the file and bring its schema up to date. SchemaTooNew, StorageFull, OperatorError."""
        return await asyncio.to_thread(cls._open, path)

    @classmethod
    def _open(cls, path: Path) -> Self:
        with translated(path.parent):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite gives its -wal and -shm files the mode of the database: nobody else may read key hashes.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        writing = _engine(path, "BEGIN IMMEDIATE", 1, "PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL",
                          "PRAGMA foreign_keys=ON", "PRAGMA journal_size_limit=67108864")  # fmt: skip
        try:
            with writing.connect() as connection, connection.begin():
                schema.upgrade(connection, path)
        except BaseException as exc:
            writing.dispose()
            _raise(exc, path)
        return cls(path, writing, _engine(path, "BEGIN", READERS, "PRAGMA query_only=ON"))

    @property
    def counts(self) -> Counts:
        """Writes and commits so far."""
        return self._writer.counts

    def on_emit(self, call: Callable[[], None]) -> None:
        """Have `call` called on this loop after commits that put something into the outbox."""
        loop = asyncio.get_running_loop()

        def tell() -> None:
            try:
                loop.call_soon_threadsafe(call)
            except RuntimeError:  # the loop is closed: nobody listens any more
                return

        self._writer.on_emit = tell

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a snapshot that holds every write that returned before."""
        if self._closed:
            raise Unavailable("the catalog is closed", hint="the platform is stopping; try again shortly")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._reading.connect() as connection, connection.begin():
                return work(connection)
        except Exception as exc:
            _raise(exc, self._path)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction; returns when it is on the disk."""
        return await self._writer.write(work)

    async def close(self) -> None:
        """Finish what is queued, fold the log into the file and let go of it."""
        if not self._closed:
            self._closed = True
            self._writer.stop_nowait()
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._readers.shutdown(wait=True)
        self._writer.join()
        for engine in reversed(self._engines):
            engine.dispose()


def _engine(path: Path, begin: str, connections: int, *pragmas: str) -> Engine:
    from sqlalchemy.pool import QueuePool

    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        connect_args={"timeout": BUSY_S, "check_same_thread": False},
        query_cache_size=200,
    )

    @event.listens_for(engine, "connect")
    def _connected(raw: Any, _record: Any) -> None:
        raw.isolation_level = None
        for pragma in pragmas:
            raw.execute(pragma).close()

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
