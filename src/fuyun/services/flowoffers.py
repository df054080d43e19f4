"""Streams and tables as functions meet them at their address.

    POST /streams/NAMESPACE/STREAM/{append,read,history,snapshot,keep}
    POST /tables/NAMESPACE/TABLE/{write,read,query}

Bodies and answers are those of the control API. What a function appends or changes is one hop further than its
invocation.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fuyun.base import clock, ids
from fuyun.domain.flows import (
    Append,
    FoundItems,
    KeyQuery,
    PutSnapshot,
    QueryItems,
    Reading,
    ReadItems,
    SnapshotKey,
    Write,
    shown,
    snapshot_view,
)
from fuyun.domain.functions import Version
from fuyun.domain.streams import Appending, NewRecord, position_of, view_of
from fuyun.services.offers import Asking
from fuyun.services.streams import Streams
from fuyun.services.tables import Tables

#: As at the control API.
_LIMIT_BYTES = 2 * 2**20


class StreamOffer:
    """Implements `services.offers.Offer`."""

    verbs = frozenset({"append", "read", "history", "snapshot", "keep"})
    streaming = frozenset[str]()
    limit_bytes, streamed_bytes = _LIMIT_BYTES, 0

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def allowed(self, version: Version) -> tuple[str, ...]:
        """See `Offer`."""
        return version.spec.permissions.streams

    async def answer(self, asking: Asking) -> Any:
        """See `Offer`."""
        streams, place = self._streams, (asking.version.namespace, asking.name)
        match asking.verb:
            case "append":
                appended = asking.read(Append)
                records = [_appending(asking, record) for record in appended.records]
                return await streams.append(*place, records, appended.producer, appended.sequence)
            case "read":
                asked = asking.read(Reading)
                at = position_of(asked.at)
                return shown(await streams.read(*place, asked.partition, at, asked.limit, asked.wait_s, asking.left))
            case "history":
                query = asking.read(KeyQuery)
                return [view_of(one) for one in await streams.read_key(*place, query.key, query.after, query.limit)]
            case "snapshot":
                return snapshot_view(await streams.get_snapshot(*place, asking.read(SnapshotKey).key))
        kept = asking.read(PutSnapshot)
        data = msgspec.json.encode(kept.data)
        return snapshot_view(await streams.put_snapshot(*place, kept.key, kept.version, data))


class TableOffer:
    """Implements `services.offers.Offer`."""

    verbs = frozenset({"write", "read", "query"})
    streaming = frozenset[str]()
    limit_bytes, streamed_bytes = _LIMIT_BYTES, 0

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def allowed(self, version: Version) -> tuple[str, ...]:
        """See `Offer`."""
        return version.spec.permissions.tables

    async def answer(self, asking: Asking) -> Any:
        """See `Offer`."""
        tables, place = self._tables, (asking.version.namespace, asking.name)
        match asking.verb:
            case "write":
                asking.check_hops()
                changes = asking.read(Write).changes
                return await tables.write(*place, changes, hops=asking.hops + 1, trail=asking.trail)
            case "read":
                return await tables.find_items(*place, asking.read(ReadItems).keys)
        asked = asking.read(QueryItems)
        items, following = await tables.query(*place, asked.query, asked.after, asked.match)
        return FoundItems(items=items, next=following or None)


def _appending(asking: Asking, record: NewRecord) -> Appending:
    """What is appended follows from the invocation that appends it. LoopDetected."""
    asking.check_hops()
    now_s = clock.wall_s()
    source = f"/{asking.version.namespace}/function/{asking.version.function}"
    made = record.appending(source, ids.new_id(now_s), now_s)
    event = msgspec.structs.replace(made.event, hops=asking.hops + 1, trail=asking.trail)
    return msgspec.structs.replace(made, event=event)
