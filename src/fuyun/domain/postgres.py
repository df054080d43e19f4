"""Changes of tables in an outside PostgreSQL: the trigger, and the replication slot that remembers its place there.

https://www.postgresql.org/docs/current/logicaldecoding.html
"""

from __future__ import annotations

import re
from typing import Final, Literal

from fuyun.domain.errors import BadRequest
from fuyun.domain.wire import Wire

RowOperation = Literal["insert", "update", "delete", "truncate"]
ROW_OPERATIONS: Final[tuple[RowOperation, ...]] = ("insert", "update", "delete", "truncate")
#: Tables of one trigger.
MOST_TABLES: Final = 100
#: Names that need no quotes, and those that only have upper case besides; they are quoted where they are used.
_TABLE: Final = re.compile(r"(?:([A-Za-z_][A-Za-z0-9_$]{0,62})\.)?([A-Za-z_][A-Za-z0-9_$]{0,62})")


class PostgresTrigger(Wire, frozen=True, kw_only=True):
    """Calls the function with changes of tables, in the order in which they were committed. `secret` is the name of the
    namespace's secret that holds the address of the database, `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`."""

    secret: str
    tables: tuple[str, ...]  # [SCHEMA.]NAME; the schema is public unless it is said
    operations: tuple[RowOperation, ...] = ("insert", "update", "delete")
    publication: str = ""  # one that is there already and has the tables; "" has one made
    alias: str = ""  # qualifier that serves it; "" is $LATEST


class Slot(Wire, frozen=True, kw_only=True):
    """A replication slot of ours at somebody's server. `made`: it has been there; `gone`: nobody wants it any more, and
    it is to be dropped. Of a transaction that is too long for one reading, `skip` changes behind `lsn`, the slot's
    own place, have been dealt with."""

    name: str
    namespace: str
    function: str
    trigger: str
    secret: str
    publication: str
    own: bool  # the publication is ours as well
    made: bool = False
    gone: bool = False
    lsn: int = 0
    skip: int = 0

    @property
    def key(self) -> tuple[str, str, str]:
        """Whose it is: namespace, function, name of the trigger."""
        return self.namespace, self.function, self.trigger


def table_of(text: str) -> tuple[str, str]:
    """(schema, name). BadRequest."""
    found = _TABLE.fullmatch(text)
    if found is None:
        raise BadRequest(f"{text[:140]!r} is no table", hint="write SCHEMA.NAME, or NAME for one of the schema public")
    return found[1] or "public", found[2]


def check_postgres(trigger: PostgresTrigger) -> None:
    """BadRequest that says which part of the trigger cannot be."""
    if not 1 <= len(trigger.tables) <= MOST_TABLES:
        raise BadRequest(f"it names {len(trigger.tables)} tables", hint=f"name 1 to {MOST_TABLES}")
    tables = [table_of(table) for table in trigger.tables]
    if len(set(tables)) < len(tables):
        raise BadRequest("a table stands twice", hint="name each once")
    if not trigger.operations:
        raise BadRequest("it names no operation", hint=f"name some of {', '.join(ROW_OPERATIONS)}")
    if trigger.publication and not _TABLE.fullmatch(trigger.publication.replace(".", "!")):
        raise BadRequest(f"{trigger.publication[:80]!r} is no publication", hint="name one, or leave it out")


def lsn_text(lsn: int) -> str:
    """A place in the log as PostgreSQL writes it: 16/B374D848."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def lsn_of(text: str) -> int:
    """The place that PostgreSQL wrote."""
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)
