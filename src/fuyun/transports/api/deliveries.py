"""Deliveries: asynchronous invocations and events on their way; their dead letters, and the trails they belong to."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import msgspec

from fuyun.domain.deliveries import DEAD, FINISHED, Delivery, Parcel, State
from fuyun.domain.errors import Conflict, NotFound, StorageFull
from fuyun.domain.events import structured, target_of
from fuyun.domain.wire import Wire
from fuyun.ports.deliveries import DeliveryQuery
from fuyun.transports.api.calls import Answer, Call, Page
from fuyun.transports.api.table import Endpoint, Success, in_namespace

_ID = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
_TARGET = Annotated[str, msgspec.Meta(max_length=200, description="KIND:NAME; all without")]
_LIMIT = Annotated[int, msgspec.Meta(ge=1, le=1000, description="items at most")]


class DeliveriesQuery(Wire, frozen=True, kw_only=True):
    """Which deliveries: those that match, in the order in which they were accepted."""

    target: _TARGET = ""
    state: Literal["", "queued", "running", "retrying", "succeeded", "failed", "stopped", "expired", "dead"] = ""
    after: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{32})?$")] = ""
    limit: _LIMIT = 100


class Choice(Wire, frozen=True, kw_only=True):
    """Which finished deliveries a change is for. Dead letters are failed and expired ones."""

    target: _TARGET = ""
    ids: Annotated[tuple[_ID, ...], msgspec.Meta(max_length=1000)] = ()
    limit: _LIMIT = 1000


class Purge(Choice, frozen=True, kw_only=True):
    """Which of them are deleted: dead letters, or `finished` ones in any state."""

    finished: bool = False


class Changed(Wire, frozen=True, kw_only=True):
    """How many there were. At the limit there may be more."""

    count: int


class Shown(Wire, frozen=True, kw_only=True):
    """A delivery with what is delivered, as long as that is kept: JSON as it is, other bytes as base64."""

    delivery: Delivery
    kind: Literal["event", "call", ""] = ""  # of what is delivered; "" when it is kept no longer
    payload: Any = None
    payload_base64: str = ""


class TrailQuery(Wire, frozen=True, kw_only=True):
    """Of what: an event's id, or a delivery's."""

    id: Annotated[str, msgspec.Meta(max_length=2000)]


def _query(namespace: str, target: str, **fields: Any) -> DeliveryQuery:
    if target:
        found = target_of(target)
        fields |= {"kind": found.kind, "name": found.name}
    return DeliveryQuery(namespace=namespace, **fields)


async def _list(call: Call) -> Answer:
    query = call.query_as(DeliveriesQuery)
    states: tuple[State, ...] = DEAD if query.state == "dead" else (query.state,) if query.state else ()
    wanted = _query(call.namespace, query.target, states=states, after=query.after, limit=query.limit)
    items = await call.services.oversight.list_deliveries(call.principal, wanted)
    return Answer(Page(items=items, next=items[-1].id if len(items) == query.limit else None))


async def _get(call: Call) -> Answer:
    found, parcel = await call.services.oversight.get(call.principal, call.namespace, call.params["delivery"])
    return Answer(_shown(found, parcel))


def _shown(found: Delivery, parcel: Parcel | None) -> Shown:
    if parcel is None:
        return Shown(delivery=found)
    kind: Literal["event", "call"] = "event" if parcel.event is not None else "call"
    payload = structured(parcel.event) if parcel.event is not None else parcel.body
    try:
        return Shown(delivery=found, kind=kind, payload=msgspec.json.decode(payload) if payload else None)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Shown(delivery=found, kind=kind, payload_base64=base64.b64encode(payload).decode())


async def _stop(call: Call) -> Answer:
    id_ = call.params["delivery"]
    return Answer(await call.services.oversight.stop(call.principal, call.namespace, id_, call.source))


async def _redrive(call: Call) -> Answer:
    chosen = call.body_as(Choice)
    wanted = _query(call.namespace, chosen.target, ids=chosen.ids, limit=chosen.limit)
    return Answer(Changed(count=await call.services.oversight.redrive(call.principal, wanted, call.source)))


async def _purge(call: Call) -> Answer:
    chosen = call.body_as(Purge)
    states = FINISHED if chosen.finished else DEAD
    wanted = _query(call.namespace, chosen.target, ids=chosen.ids, limit=chosen.limit, states=states)
    return Answer(Changed(count=await call.services.oversight.purge(call.principal, wanted, call.source)))


async def _trail(call: Call) -> Answer:
    wanted = call.query_as(TrailQuery).id
    return Answer(Page(items=await call.services.oversight.list_trail(call.principal, call.namespace, wanted)))


_BASE = "/v1/namespaces/{namespace}/deliveries"

ENDPOINTS = (
    Endpoint(
        method="GET",
        path=_BASE,
        run=_list,
        summary="Deliveries that match, in the order in which they were accepted",
        permission=in_namespace("read"),
        tag="deliveries",
        query=DeliveriesQuery,
        successes=(Success(body=Page[Delivery]),),
    ),
    Endpoint(
        method="GET",
        path=_BASE + "/{delivery}",
        run=_get,
        summary="One delivery, with what is delivered as long as that is kept",
        permission=in_namespace("read"),
        tag="deliveries",
        successes=(Success(body=Shown),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="POST",
        path=_BASE + "/{delivery}/stop",
        run=_stop,
        summary="Stop one that waits or runs; a call inside the function is cancelled",
        permission=in_namespace("invoke"),
        tag="deliveries",
        successes=(Success(body=Delivery),),
        errors=(NotFound, Conflict, StorageFull),
    ),
    Endpoint(
        method="POST",
        path="/v1/namespaces/{namespace}/dead-letters/redrive",
        run=_redrive,
        summary="Deliver dead letters again, as if they were new",
        permission=in_namespace("invoke"),
        tag="deliveries",
        request=Choice,
        successes=(Success(body=Changed),),
        errors=(StorageFull,),
    ),
    Endpoint(
        method="POST",
        path="/v1/namespaces/{namespace}/dead-letters/purge",
        run=_purge,
        summary="Delete dead letters, or all that is finished",
        permission=in_namespace("delete"),
        tag="deliveries",
        request=Purge,
        successes=(Success(body=Changed),),
        errors=(StorageFull,),
    ),
    Endpoint(
        method="GET",
        path="/v1/namespaces/{namespace}/trail",
        run=_trail,
        summary="Everything that followed from an event or a delivery, in order; empty when nothing is known",
        permission=in_namespace("read"),
        tag="deliveries",
        query=TrailQuery,
        successes=(Success(body=Page[Delivery]),),
    ),
)
