"""`ports.changes.ChangeLog` of PostgreSQL, by asyncpg: a logical replication slot that is read through SQL.

https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-REPLICATION
"""

from __future__ import annotations

import ssl as tls
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from fuyun.domain.errors import BadRequest, FuyunError, NotFound, Unavailable
from fuyun.domain.postgres import lsn_of, lsn_text
from fuyun.drivers.changes.pgoutput import Decoder
from fuyun.ports.changes import Chunk, Look, Wanted

if TYPE_CHECKING:
    import asyncpg

#: Seconds for a connection, and for any one statement: making a slot waits for transactions that run.
_CONNECT_S: Final = 10.0
_STATEMENT_S: Final = 120.0
#: Messages that are fetched at once, and bytes of them after which a reading ends.
_FETCH: Final = 500
_MOST_BYTES: Final = 16 * 2**20
_SHAPE: Final = "write postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full"
_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
#: What a server says of itself that passes by itself.
_PASSING: Final = ("08", "53", "55006", "57", "58")
_READ: Final = (
    "SELECT data FROM pg_logical_slot_peek_binary_changes($1, NULL, $2, 'proto_version', '1', 'publication_names', $3)"
)
_TABLES: Final = """
SELECT c.oid::int8 AS oid, c.relkind::text AS kind, c.relreplident::text AS identity,
  ARRAY(SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
        WHERE i.indrelid = c.oid AND i.indisprimary ORDER BY array_position(i.indkey::int2[], a.attnum)) AS key
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2
"""
_LOOK: Final = """
SELECT confirmed_flush_lsn::text AS lsn, wal_status, database = current_database() AS ours, plugin,
  pg_wal_lsn_diff(pg_current_wal_flush_lsn(), confirmed_flush_lsn)::int8 AS lag,
  pg_wal_lsn_diff(pg_current_wal_flush_lsn(), restart_lsn)::int8 AS kept
FROM pg_replication_slots WHERE slot_name = $1
"""


class Postgres:
    """Opens connections. `reach(host, port)`: the address to connect to instead; it raises Forbidden."""

    def __init__(self, reach: Callable[[str, int], Awaitable[str]]) -> None:
        self._reach = reach

    async def open(self, address: str, wanted: Wanted) -> PostgresLog:
        """A `ports.changes.OpenChanges`."""
        import asyncpg  # 6 MB that only platforms with such a trigger need

        options = _options(address)
        found = await self._reach(options["host"], options["port"])
        if not isinstance(options["ssl"], tls.SSLContext):
            options["host"] = found  # what was checked; a certificate is for the name
        with _told(options["host"]):
            connection = await asyncpg.connect(
                **options, timeout=_CONNECT_S, command_timeout=_STATEMENT_S, statement_cache_size=0,
                server_settings={"application_name": "fuyun", "search_path": "pg_catalog"},
            )  # fmt: skip
        return PostgresLog(connection, wanted)


def _options(address: str) -> dict[str, Any]:
    """What to connect with. Everything is said, so that nothing is taken from the platform's own environment."""
    try:
        parts = urlsplit(address.strip())
        port = parts.port or 5432
    except ValueError as exc:
        raise BadRequest(f"the secret holds no address: {exc}", hint=_SHAPE) from exc
    if parts.scheme not in ("postgresql", "postgres") or not parts.hostname or "," in parts.netloc:
        raise BadRequest("the secret holds no address of a PostgreSQL server", hint=_SHAPE)
    asked = dict(parse_qsl(parts.query))
    mode = asked.pop("sslmode", "prefer")
    if asked or mode not in _MODES:
        raise BadRequest(
            f"the address asks for {', '.join(sorted(asked)) or f'sslmode={mode[:20]}'}, which is not known",
            hint=f"sslmode may be said, as one of {', '.join(_MODES)}",
        )
    verified = mode in ("verify-ca", "verify-full")
    context = tls.create_default_context() if verified else None
    if context is not None and mode == "verify-ca":
        context.check_hostname = False
    return {
        "host": parts.hostname, "port": port, "user": unquote(parts.username or "postgres"),
        "password": unquote(parts.password or ""), "database": unquote(parts.path.strip("/")) or "postgres",
        "ssl": context or mode,
    }  # fmt: skip


class PostgresLog:
    """See `ports.changes.ChangeLog`."""

    def __init__(self, connection: asyncpg.Connection[Any], wanted: Wanted) -> None:
        self._db = connection
        self._wanted = wanted
        self._primary: dict[tuple[str, str], list[str]] = {}

    async def prepare(self, made: bool) -> bool:
        """See `ports.changes.ChangeLog.prepare`."""
        with _told("the database"):
            level = await self._db.fetchval("SHOW wal_level")
            if level != "logical":
                raise BadRequest(
                    f"the server's wal_level is {level}", hint="set wal_level = logical there, and start it again"
                )
            for table in self._wanted.tables:
                await self._check_table(*table)
            await self._publish()
            return await self._make_slot(made)

    async def _check_table(self, schema: str, table: str) -> None:
        found = await self._db.fetchrow(_TABLES, schema, table)
        name = f"{schema}.{table}"
        if found is None or found["kind"] not in ("r", "p"):
            what = "is no table" if found is not None else "is not there"
            raise BadRequest(f"table {name} {what}", hint="name tables of this database, with their schema")
        # An update of a published table that has no identity is refused by the server: to whoever makes it.
        changes = {"update", "delete"} & set(self._wanted.operations)
        if (
            self._wanted.own
            and changes
            and (found["identity"] == "n" or (found["identity"] == "d" and not found["key"]))
        ):
            raise BadRequest(
                f"table {name} has nothing that tells its rows apart: updates of it would be refused",
                hint=f"give it a primary key, or run ALTER TABLE {name} REPLICA IDENTITY FULL, or take inserts only",
            )
        self._primary[schema, table] = list(found["key"])

    async def _publish(self) -> None:
        name, wanted = self._wanted.publication, self._wanted
        there = await self._db.fetchval("SELECT count(*) FROM pg_publication WHERE pubname = $1", name)
        if not wanted.own:
            if not there:
                raise BadRequest(f"there is no publication {name!r}", hint="make it, or leave it out of the trigger")
            await self._db.execute(f"DROP PUBLICATION IF EXISTS {_quoted(wanted.slot)}")  # ours, from before
            return
        tables = ", ".join(f"{_quoted(schema)}.{_quoted(table)}" for schema, table in wanted.tables)
        options = f"publish = '{', '.join(wanted.operations)}', publish_via_partition_root = true"
        if not there:
            await self._db.execute(f"CREATE PUBLICATION {_quoted(name)} FOR TABLE {tables} WITH ({options})")
            return
        query = "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = $1"
        if {tuple(row) for row in await self._db.fetch(query, name)} != set(wanted.tables):
            await self._db.execute(f"ALTER PUBLICATION {_quoted(name)} SET TABLE {tables}")
        query = "SELECT pubinsert, pubupdate, pubdelete, pubtruncate FROM pg_publication WHERE pubname = $1"
        now = await self._db.fetchrow(query, name)
        if [bool(now[f"pub{one}"]) for one in _ALL] != [one in wanted.operations for one in _ALL]:
            await self._db.execute(f"ALTER PUBLICATION {_quoted(name)} SET ({options})")

    async def _make_slot(self, made: bool) -> bool:
        found = await self._db.fetchrow(_LOOK, self._wanted.slot)
        if found is not None and found["wal_status"] == "lost" and not made:
            await self._db.execute("SELECT pg_drop_replication_slot($1)", self._wanted.slot)
        elif found is not None:
            if not found["ours"] or found["plugin"] != "pgoutput":
                raise BadRequest(
                    f"slot {self._wanted.slot} belongs to somebody else",
                    hint="drop it, or give the trigger another name",
                )
            return False
        elif made:
            raise NotFound(f"slot {self._wanted.slot} is not there any more", kind="slot", name=self._wanted.slot)
        await self._db.execute("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", self._wanted.slot)
        return True

    async def read(self, skip: int, most: int) -> Chunk:
        """See `ports.changes.ChangeLog.read`."""
        decoder = Decoder(skip=skip, primary=self._primary)
        size = 0
        with _told("the database"):
            # In a transaction of its own that ends before anything is done with what was read: it holds up no vacuum.
            async with self._db.transaction():
                cursor = await self._db.cursor(
                    _READ, self._wanted.slot, min(skip + most, 2**31 - 1), f'"{self._wanted.publication}"'
                )
                while len(decoder.changes) < most and size < _MOST_BYTES:
                    rows = await cursor.fetch(_FETCH)
                    for row in rows:
                        decoder.feed(row["data"])
                        size += len(row["data"]) if not decoder.skip else 0
                    if len(rows) < _FETCH:
                        break
        return Chunk(changes=tuple(decoder.changes), ends=tuple(decoder.ends))

    async def advance(self, lsn: int) -> None:
        """See `ports.changes.ChangeLog.advance`."""
        with _told("the database"):
            await self._db.execute("SELECT pg_replication_slot_advance($1, $2::text::pg_lsn)", self._wanted.slot,
                                   lsn_text(lsn))  # fmt: skip

    async def look(self) -> Look:
        """See `ports.changes.ChangeLog.look`."""
        with _told("the database"):
            found = await self._db.fetchrow(_LOOK, self._wanted.slot)
        if found is None:
            raise NotFound(f"slot {self._wanted.slot} is not there", kind="slot", name=self._wanted.slot)
        lag = max(0, found["lag"] or 0)
        return Look(
            lsn=lsn_of(found["lsn"] or "0/0"), lag_bytes=lag, kept_bytes=max(lag, found["kept"] or 0),
            lost=found["wal_status"] == "lost",
        )  # fmt: skip

    async def drop(self) -> None:
        """See `ports.changes.ChangeLog.drop`."""
        with _told("the database"):
            query = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1"
            await self._db.execute(query, self._wanted.slot)
            await self._db.execute(f"DROP PUBLICATION IF EXISTS {_quoted(self._wanted.slot)}")

    async def close(self) -> None:
        """See `ports.changes.ChangeLog.close`."""
        try:
            await self._db.close(timeout=2.0)
        except (OSError, TimeoutError, Exception):  # it is ended either way
            self._db.terminate()


_ALL: Final = ("insert", "update", "delete", "truncate")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Errors of asyncpg and of the network as ours."""
    import asyncpg

    try:
        yield
    except FuyunError:
        raise
    except asyncpg.PostgresError as exc:
        state = exc.sqlstate or ""
        text = f"{where}: {exc.args[0] if exc.args else type(exc).__name__}"[:1000]
        if state.startswith(_PASSING):
            raise Unavailable(text, hint="it is tried again", retry_after_s=1) from exc
        hint = exc.hint if hasattr(exc, "hint") and exc.hint else "set it right there; it is tried again"
        raise BadRequest(text, hint=str(hint)) from exc
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError, ValueError) as exc:
        raise Unavailable(f"{where}: {type(exc).__name__}: {exc}"[:1000], hint="it is tried again") from exc
