"""Objects and buses as functions meet them at their address.

    POST /objects/NAMESPACE/BUCKET/{put,get,head,list,delete,copy}
    POST /buses/NAMESPACE/BUS/publish

`put` takes the object's bytes, `get` gives them; the rest is JSON. What a function writes, deletes or publishes is one
hop further than its invocation.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from fuyun.base import clock, ids
from fuyun.domain.bus import EVENT_BYTES
from fuyun.domain.errors import BadRequest, Forbidden, NotFound
from fuyun.domain.functions import Version
from fuyun.domain.messages import NewMessages
from fuyun.domain.objects import ANYTHING, MOST_PART_BYTES, Object, Selection
from fuyun.domain.objectviews import AskObject, CopyObject, Gone, ListObjects, PutObject, page_of, view_of
from fuyun.domain.queues import outgoing_of
from fuyun.domain.tenants import Principal
from fuyun.services.buses import Buses
from fuyun.services.objects import Objects, Put
from fuyun.services.offers import Asking, Streamed

#: Of a request that is not the bytes of an object.
_LIMIT_BYTES = 64 * 1024
#: Events that are published at once, as JSON.
_EVENTS_BYTES = 8 * EVENT_BYTES
#: How often an object is looked up again that was replaced while it was opened.
_TRIES = 5


class ObjectOffer:
    """Implements `services.offers.Offer`."""

    verbs = frozenset({"put", "get", "head", "list", "delete", "copy"})
    streaming = frozenset({"put"})
    limit_bytes, streamed_bytes = _LIMIT_BYTES, MOST_PART_BYTES

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def allowed(self, version: Version) -> tuple[str, ...]:
        """See `Offer`."""
        return version.spec.permissions.objects

    async def answer(self, asking: Asking) -> Any:
        """See `Offer`."""
        objects, bucket = self._objects, asking.name
        principal = _principal(asking)
        match asking.verb:
            case "put":
                return await self._put(principal, asking)
            case "get":
                return await self._get(principal, asking)
            case "head":
                asked = asking.read(AskObject)
                return view_of(_present(await objects.get(principal, bucket, asked.key, asked.version)))
            case "list":
                wanted = asking.read(ListObjects)
                selection = Selection(
                    prefix=wanted.prefix, delimiter=wanted.delimiter, after=wanted.after, limit=wanted.limit
                )
                return page_of(await objects.list_objects(principal, bucket, selection))
            case "delete":
                asking.check_hops()
                asked = asking.read(AskObject)
                gone = await objects.delete(principal, bucket, asked.key, asked.version)
                if gone is None:
                    return Gone(deleted=False, version="", marker=False)
                return Gone(deleted=True, version=gone.version, marker=gone.marker)
        return await self._copy(principal, asking)

    async def _put(self, principal: Principal, asking: Asking) -> Any:
        asking.check_hops()
        assert asking.pieces is not None
        asked = asking.read(PutObject)
        put = Put(details=asked.details, condition=asked.condition, size_bytes=asked.size_bytes)
        return view_of(await self._objects.put(principal, asking.name, asked.key, asking.pieces, put))

    async def _get(self, principal: Principal, asking: Asking) -> Streamed:
        asked = asking.read(AskObject)
        for attempt in range(1, _TRIES + 1):
            found = _present(await self._objects.get(principal, asking.name, asked.key, asked.version))
            start, end = asked.span(found.size_bytes)
            pieces = self._objects.read(found, start, end)
            try:
                first = await anext(pieces, b"")
            except NotFound:  # replaced between look-up and opening
                if attempt == _TRIES:
                    raise
                continue
            return Streamed(view_of(found), end - start, _chained(first, pieces))
        raise AssertionError("the loop returns or raises")

    async def _copy(self, principal: Principal, asking: Asking) -> Any:
        asking.check_hops()
        asked, named = asking.read(CopyObject), self.allowed(asking.version)
        if asked.source_bucket not in named and "*" not in named:
            raise Forbidden(
                f"{asking.version.function!r} may not use {asked.source_bucket[:64]!r} of objects: its permissions "
                f"name {', '.join(named)}",
                hint=f"add {asked.source_bucket[:64]!r} to permissions.objects in fuyun.yaml and deploy",
            )
        source = _present(
            await self._objects.get(principal, asked.source_bucket, asked.source_key, asked.source_version)
        )
        details = asked.details if asked.describe else None
        return view_of(await self._objects.copy(principal, source, asking.name, asked.key, details, ANYTHING))


class BusOffer:
    """Implements `services.offers.Offer`."""

    verbs = frozenset({"publish"})
    streaming = frozenset[str]()
    limit_bytes, streamed_bytes = _EVENTS_BYTES, 0

    def __init__(self, buses: Buses) -> None:
        self._buses = buses

    def allowed(self, version: Version) -> tuple[str, ...]:
        """See `Offer`."""
        return version.spec.permissions.buses

    async def answer(self, asking: Asking) -> Any:
        """See `Offer`."""
        asking.check_hops()
        now_s, version = clock.wall_s(), asking.version
        source = f"/{version.namespace}/function/{version.function}"
        events = []
        for new in asking.read(NewMessages).messages:
            if new.group or new.deduplication or new.delay_s is not None:
                raise BadRequest(
                    "a bus knows no group, deduplication or delay", hint="send it to a queue, or leave them out",
                    path="messages",
                )  # fmt: skip
            made = outgoing_of(new, source, ids.new_id(now_s), now_s).event
            events.append(msgspec.structs.replace(made, hops=asking.hops + 1, trail=asking.trail))
        await self._buses.publish(_principal(asking), version.namespace, asking.name, events)
        return {"ids": [event.id for event in events]}


def _principal(asking: Asking) -> Principal:
    """The function that asks: what names it may use was checked; what it changes is one hop on."""
    version = asking.version
    return Principal(
        key_id=f"function {version.function}", namespace=version.namespace, role="developer",
        hops=asking.hops + 1, trail=asking.trail,
    )  # fmt: skip


def _present(found: Object) -> Object:
    if found.marker:
        raise NotFound(
            f"version {found.version} of {found.bucket}/{found.key} says that it was deleted",
            hint="ask for another version", kind="object", name=found.key,
        )  # fmt: skip
    return found


async def _chained(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    try:
        yield first
        async for piece in rest:
            yield piece
    finally:
        await rest.aclose()
