"""Tables: made, changed in transactions, read and queried; what has outlived its time is removed.

What changes a table itself takes the principal that asks, checks what it may do and is audited. Whoever offers reading
and writing items checks that (`Principal.require`, a function's permissions).
"""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from fuyun.base import clock
from fuyun.base.tasks import Scope
from fuyun.decide.filters import View, compiled
from fuyun.domain.errors import BadRequest, FuyunError, NotFound
from fuyun.domain.events import Event
from fuyun.domain.filters import read_filter
from fuyun.domain.names import nearest
from fuyun.domain.streams import FEED
from fuyun.domain.tables import (
    MOST_ITEMS,
    MOST_KEYS,
    Change,
    Changed,
    Document,
    Item,
    Query,
    Table,
    TableSpec,
    check_table,
    over_attributes,
)
from fuyun.domain.tenants import Principal
from fuyun.ports.tables import TableStore
from fuyun.services.streams import Streams
from fuyun.services.tenants import Tenants, entry_of

_log = structlog.get_logger("fuyun.tables")

#: Seconds between two looks for items whose time is over. They are not seen in the meantime.
SWEEP_EVERY_S = 10.0
#: Items that one write removes: others' writes get their turn in between.
SWEEP_ITEMS = 500
_PAGE = 500


@dataclass(slots=True)
class TableTally:
    """What became of a table's items since the platform started."""

    written: int = 0
    read: int = 0
    expired: int = 0


class Tables:
    """One per platform."""

    def __init__(self, store: TableStore, streams: Streams, tenants: Tenants) -> None:
        self._store = store
        self._streams = streams
        self._tenants = tenants
        self.tallies: dict[tuple[str, str], TableTally] = {}

    async def put(
        self,
        principal: Principal,
        namespace: str,
        name: str,
        spec: TableSpec,
        expected_revision: int | None = None,
        source: str = "",
    ) -> Table:
        """Create the table or change it. `expected_revision` 0: it must not exist. BadRequest, Conflict,
        PreconditionFailed, QuotaExceeded."""
        principal.require("deploy", namespace)
        check_table(name, spec)
        await self._tenants.get_namespace(namespace)
        entry = entry_of(principal, namespace, "table.put", name, source)
        quotas = self._tenants.quotas(namespace)
        made = await self._store.put(
            namespace, name, spec, quotas, clock.wall_s(), expected_revision=expected_revision, entry=entry
        )
        self._streams.changed()
        return made

    async def get(self, namespace: str, name: str) -> Table:
        """NotFound names the nearest table there is."""
        try:
            return await self._store.get(namespace, name)
        except NotFound as exc:
            known = [table.name for table in await self._store.list_tables(namespace, limit=_PAGE)]
            close = nearest(name, known)
            hint = f"did you mean {close!r}?" if close else f"create it: fuyun table create {name}"
            raise NotFound(exc.detail, hint=hint, kind="table", name=name) from exc

    async def list_tables(self, namespace: str, after: str = "", limit: int = 100) -> list[Table]:
        """A page by name. NotFound when the namespace is absent."""
        await self._tenants.get_namespace(namespace)
        return await self._store.list_tables(namespace, after, limit)

    async def delete(self, principal: Principal, namespace: str, name: str, source: str = "") -> None:
        """With its items and feed. NotFound."""
        principal.require("delete", namespace)
        await self.get(namespace, name)
        await self._store.delete(namespace, name, entry_of(principal, namespace, "table.delete", name, source))
        self.tallies.pop((namespace, name), None)
        self._streams.arrivals.scatter(namespace, FEED + name)
        self._streams.changed()

    async def write(
        self, namespace: str, name: str, changes: Sequence[Change], hops: int = 0, trail: str = ""
    ) -> tuple[Changed, ...]:
        """All changes or none, durable when it returns. `hops` and `trail`: what the events of the changes follow from.
        See `ports.tables.TableStore.write`."""
        quotas = self._tenants.quotas(namespace)
        done = await self._store.write(namespace, name, changes, quotas, clock.wall_s(), hops=hops, trail=trail)
        self._tally(namespace, name).written += len(changes)
        self._streams.grown(namespace, FEED + name, done.grown)
        return done.changed

    async def find_items(self, namespace: str, name: str, keys: Sequence[Document]) -> list[Item | None]:
        """The item of each key, of one moment. NotFound for the table, BadRequest."""
        if not 1 <= len(keys) <= MOST_KEYS:
            raise BadRequest(f"{len(keys)} keys", hint=f"ask for 1 to {MOST_KEYS}", path="keys")
        self._tally(namespace, name).read += len(keys)
        return await self._store.find_items(namespace, name, keys, clock.wall_s())

    async def query(
        self, namespace: str, name: str, query: Query, after: str = "", match: Any = None
    ) -> tuple[list[Item], str]:
        """A page, and what to pass as `after` for the next one ("": there is none). `match`, a filter over attributes,
        leaves items of the page out. BadRequest, NotFound."""
        if not 1 <= query.limit <= MOST_ITEMS:
            raise BadRequest(f"limit is {query.limit}", hint=f"use 1 to {MOST_ITEMS}", path="limit")
        wanted = _matcher(match)
        if after:
            query = msgspec.structs.replace(query, after=_place_of(after))
        found = await self._store.query(namespace, name, query, clock.wall_s())
        self._tally(namespace, name).read += len(found.items)
        return [one for one in found.items if wanted(one.item)], _token_of(found.after) if found.after else ""

    # --- in the background -----------------------------------------------------------------------------------------

    def start(self, scope: Scope) -> None:
        """Keep removing items whose time is over."""
        scope.start(self._keep_sweeping(), "sweep-tables")

    async def sweep(self) -> int:
        """Remove items whose time is over, and what deleted tables held; how many."""
        total = 0
        while True:
            removed, grown = await self._store.sweep(clock.wall_s(), SWEEP_ITEMS)
            for (namespace, name), partitions in grown.items():
                self._tally(namespace, name).expired += removed
                self._streams.grown(namespace, FEED + name, sorted(partitions))
            if not removed:
                return total
            total += removed

    async def _keep_sweeping(self) -> None:
        while True:
            try:
                await self.sweep()
            except FuyunError as error:  # a disk in trouble; it may be well the next time
                _log.warning("expired items could not be removed", error=str(error))
            await asyncio.sleep(SWEEP_EVERY_S)

    async def forget(self, namespace: str) -> None:
        """A namespace was deleted."""
        self.tallies = {key: tally for key, tally in self.tallies.items() if key[0] != namespace}

    def _tally(self, namespace: str, name: str) -> TableTally:
        return self.tallies.setdefault((namespace, name), TableTally())


def _matcher(match: Any) -> Callable[[Document], bool]:
    if match is None:
        return lambda item: True
    takes = compiled(read_filter(over_attributes(match), "match"))
    return lambda item: takes(View(Event(id="-", source="-", type="-", time_s=0.0, data=msgspec.json.encode(item))))


def _token_of(place: tuple[str, ...]) -> str:
    return urlsafe_b64encode(msgspec.json.encode(place)).rstrip(b"=").decode()


def _place_of(token: str) -> tuple[str, ...]:
    try:
        return msgspec.json.decode(urlsafe_b64decode(token + "=" * (-len(token) % 4)), type=tuple[str, ...])
    except (ValueError, msgspec.MsgspecError) as exc:
        raise BadRequest(
            f"after: {token[:80]!r} is no place of a query", hint="pass `next` of the page before as it came",
            path="after",
        ) from exc  # fmt: skip
