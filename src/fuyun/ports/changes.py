"""The log of changes of an outside database, and what we remember of our places in such logs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from fuyun.domain.postgres import RowOperation, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be read: `tables` as (schema, name); `publication` is to be made where `own`, under
    the name of the slot."""

    slot: str
    publication: str
    own: bool
    tables: tuple[tuple[str, str], ...]
    operations: tuple[RowOperation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of a row. `lsn` is that of its commit, `index` its number in the transaction. `old` has the columns that
    the database tells of the row before, `key` those that identify it; values are what JSON can say."""

    lsn: int
    index: int
    xid: int
    at_s: float
    operation: RowOperation
    schema: str
    table: str
    key: dict[str, Any] = field(default_factory=dict)
    old: dict[str, Any] | None = None
    new: dict[str, Any] | None = None
    unchanged: tuple[str, ...] = ()  # columns whose value did not change and was too large to be told


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Changes in their order. `ends`: (count, lsn): when the first `count` are dealt with, the log may be cut at `lsn`.
    The last ones may belong to a transaction whose end is not here."""

    changes: tuple[Change, ...] = ()
    ends: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a slot stands: its place, bytes of the log behind it, bytes that the server keeps for it, and whether the
    server has given it up."""

    lsn: int
    lag_bytes: int
    kept_bytes: int
    lost: bool


class ChangeLog(Protocol):
    """One connection. Nothing is taken out by reading: what was read is read again until `advance`.

    Raises Unavailable when the server is not there or will not now, BadRequest when something has to be set right first
    (its text says what), Forbidden for an address that may not be reached.
    """

    async def prepare(self, made: bool) -> bool:
        """Check the server, make or correct the publication, and make the slot unless it is there; whether it was made
        just now. NotFound when it is not there although it was `made` before: changes have been lost then."""
        ...

    async def read(self, skip: int, most: int) -> Chunk:
        """Changes behind the slot's place without the first `skip`: about `most`, or fewer when there are no more."""
        ...

    async def advance(self, lsn: int) -> None:
        """Move the slot's place on; what is before it is not told again (but by a server that has crashed since)."""
        ...

    async def look(self) -> Look:
        """NotFound when there is no such slot."""
        ...

    async def drop(self) -> None:
        """Remove the slot, and the publication of its name. Done when they are not there."""
        ...

    async def close(self) -> None:
        """End the connection."""
        ...


#: `(address of the database, wanted)`: a connection. Raises as `ChangeLog` does.
OpenChanges = Callable[[str, Wanted], Awaitable[ChangeLog]]


class SlotStore(Protocol):
    """Slots that we have, or had and must drop. Durable when a write returns."""

    async def list_slots(self) -> list[Slot]:
        """All, by name."""
        ...

    async def put(self, slot: Slot) -> None:
        """Remember it in place of what was known of the name."""
        ...

    async def forget(self, name: str) -> None:
        """It is dropped."""
        ...
