"""Buses, their rules and their archives, durably."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fuyun.domain.bus import Archived, Bus, Replay, Rule, TypeSeen
from fuyun.domain.events import Event
from fuyun.domain.tenants import AuditEntry, Quotas

NO_QUOTAS = Quotas()


class BusStore(Protocol):
    """The truth about buses and rules. Same durability and errors as `ports.catalog.Catalog`; deleting a namespace or a
    bus deletes what belongs to it."""

    async def put_bus(
        self, bus: Bus, entry: AuditEntry | None = None, expect: int | None = None, quotas: Quotas = NO_QUOTAS
    ) -> Bus:
        """Create the bus (`expect` 0), change the one of that revision, or either (None); its `revision` and
        `created_s` are the store's. Conflict when it exists already, PreconditionFailed for another revision, NotFound
        when the namespace or the bus to change is absent, QuotaExceeded for one bus too many."""
        ...

    async def get_bus(self, namespace: str, name: str) -> Bus:
        """NotFound when absent."""
        ...

    async def list_buses(self, namespace: str, after: str = "", limit: int = 100) -> list[Bus]:
        """A page by name; "*" is every namespace, `after` then NAMESPACE/NAME."""
        ...

    async def delete_bus(self, namespace: str, name: str, entry: AuditEntry | None = None) -> None:
        """With its rules, archive, types and replays. Events that were published before are handed on all the same.
        NotFound."""
        ...

    async def put_rule(self, rule: Rule, most: int, entry: AuditEntry | None = None, expect: int | None = None) -> Rule:
        """Like `put_bus`. QuotaExceeded when the bus has `most` rules already."""
        ...

    async def list_rules(self, namespace: str, bus: str) -> list[Rule]:
        """All of a bus, by name; "*" as `namespace` and `bus`: of all buses. NotFound when the bus is absent."""
        ...

    async def delete_rule(self, namespace: str, bus: str, name: str, entry: AuditEntry | None = None) -> None:
        """NotFound when absent."""
        ...


class BusArchive(Protocol):
    """What went over buses."""

    async def publish(self, namespace: str, bus: str, events: Sequence[Event], now_s: float) -> None:
        """All of them or none, on disk when it returns: in the outbox (kind `bus`), with their types counted and, when
        the bus archives, in its archive. NotFound when the bus is absent."""
        ...

    async def read(
        self, namespace: str, bus: str, since_s: float, until_s: float, after: int = 0, limit: int = 100
    ) -> list[Archived]:
        """A page of the archive: arrived at `since_s` or later and before `until_s`, by number, above `after`."""
        ...

    async def prune(self, now_s: float, limit: int = 1000) -> int:
        """Remove up to `limit` events whose archive keeps them no longer; how many."""
        ...

    async def list_types(self, namespace: str, bus: str, after: str = "", limit: int = 100) -> list[TypeSeen]:
        """A page of the types a bus has seen, by name."""
        ...

    async def put_replay(self, replay: Replay, entry: AuditEntry | None = None) -> None:
        """Write a replay down, whole; one whose state is `stopped` in the store stays stopped. NotFound when the bus
        is absent."""
        ...

    async def list_replays(self, namespace: str, bus: str) -> list[Replay]:
        """The newest hundred, newest first; "*" as `namespace` and `bus`: the running ones of all."""
        ...

    async def repeat(self, replay: Replay, events: Sequence[Event]) -> None:
        """`put_replay`, and in the same transaction `events` in the outbox as if published: of a replay to the bus's
        rules."""
        ...
