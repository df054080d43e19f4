"""Buses, their rules, what goes over them, and their archives."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from fuyun.base import clock
from fuyun.domain.bus import Archived, ArchiveSeconds, Bus, Replay, Rule, TypeSeen
from fuyun.domain.errors import Conflict, NotFound, PayloadTooLarge, PreconditionFailed, QuotaExceeded, StorageFull
from fuyun.domain.events import TargetText
from fuyun.domain.functions import Wire
from fuyun.domain.transforms import Transform
from fuyun.transports.api.calls import Answer, Call, Page, PageQuery, paged
from fuyun.transports.api.preconditions import etag, expected_revision, not_modified
from fuyun.transports.api.table import Endpoint, Success, in_namespace
from fuyun.transports.web.cloudevents import BATCH, STRUCTURED, read_events

_BUSES = "/v1/namespaces/{namespace}/buses"
_BUS = _BUSES + "/{bus}"
_RULE = _BUS + "/rules/{rule}"
#: Bytes of a request that publishes events.
_PUBLISHED_BYTES = 8 * 2**20
_Text = Annotated[str, msgspec.Meta(max_length=1000)]
_Moment = Annotated[float, msgspec.Meta(ge=0, le=1e11, description="seconds since the epoch")]


class PutBus(Wire, frozen=True, kw_only=True):
    """What a bus is to be."""

    archive_s: ArchiveSeconds = 0.0
    description: _Text = ""


class PutRule(Wire, frozen=True, kw_only=True):
    """What a rule is to be: see the filter language in the guide."""

    filter: dict[str, Any] = {}
    target: TargetText
    transform: Transform | None = None
    enabled: bool = True
    description: _Text = ""


class BeginReplay(Wire, frozen=True, kw_only=True):
    """Which stretch of the archive goes where; without a target to the bus's rules."""

    since_s: _Moment
    until_s: _Moment = 1e11
    target: str = ""
    filter: dict[str, Any] = {}


class ArchiveQuery(Wire, frozen=True, kw_only=True):
    """Which page of an archive."""

    since: _Moment = 0.0
    until: _Moment = 1e11
    after: Annotated[int, msgspec.Meta(ge=0, le=2**62, description="number of the last event seen")] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000, description="items at most")] = 100


class Published(Wire, frozen=True, kw_only=True):
    """Events that were taken: on disk, and on their way to every rule."""

    ids: list[str]


async def _list(call: Call) -> Answer:
    query = call.query_as(PageQuery)
    found = await call.services.buses.list_buses(call.namespace, query.after, query.limit + 1)
    items = found[: query.limit]
    return Answer(Page(items=items, next=items[-1].name if len(found) > len(items) else None))


async def _get(call: Call) -> Answer:
    return _tagged(call, await call.services.buses.get_bus(call.namespace, call.params["bus"]))


async def _put(call: Call) -> Answer:
    wanted, name = call.body_as(PutBus), call.params["bus"]
    try:
        current = (await call.services.buses.get_bus(call.namespace, name)).revision
    except NotFound:
        current = None
    bus = Bus(
        namespace=call.namespace, name=name, archive_s=wanted.archive_s, description=wanted.description,
        created_s=clock.wall_s(),
    )  # fmt: skip
    expect = expected_revision(call.request, current, "bus")
    made = await call.services.buses.put_bus(call.principal, bus, call.source, expect)
    return Answer(made, 200, {"etag": etag(made.revision)})


async def _delete(call: Call) -> Answer:
    await call.services.buses.delete_bus(call.principal, call.namespace, call.params["bus"], call.source)
    return Answer(status=204)


async def _publish(call: Call) -> Answer:
    # What a function or a person sends has crossed one edge to come here.
    body = await call.read(_PUBLISHED_BYTES)
    events = read_events({name.lower(): value for name, value in call.request.headers.items()}, body, clock.wall_s())
    await call.services.buses.publish(call.principal, call.namespace, call.params["bus"], events)
    return Answer(Published(ids=[event.id for event in events]), 202)


async def _rules(call: Call) -> Answer:
    query = call.query_as(PageQuery)
    found = await call.services.buses.list_rules(call.namespace, call.params["bus"])
    return Answer(paged(found, lambda rule: rule.name, query))


async def _get_rule(call: Call) -> Answer:
    return _tagged(call, await call.services.buses.get_rule(call.namespace, call.params["bus"], call.params["rule"]))


async def _put_rule(call: Call) -> Answer:
    wanted = call.body_as(PutRule)
    bus, name = call.params["bus"], call.params["rule"]
    try:
        current = (await call.services.buses.get_rule(call.namespace, bus, name)).revision
    except NotFound as exc:
        if exc.fields.get("kind") != "rule":
            raise
        current = None
    rule = Rule(
        namespace=call.namespace, bus=bus, name=name, filter=wanted.filter, target=wanted.target,
        transform=wanted.transform, enabled=wanted.enabled, description=wanted.description, created_s=clock.wall_s(),
    )  # fmt: skip
    expect = expected_revision(call.request, current, "rule")
    made = await call.services.buses.put_rule(call.principal, rule, call.source, expect)
    return Answer(made, 200, {"etag": etag(made.revision)})


async def _delete_rule(call: Call) -> Answer:
    params = call.params
    await call.services.buses.delete_rule(call.principal, call.namespace, params["bus"], params["rule"], call.source)
    return Answer(status=204)


async def _types(call: Call) -> Answer:
    query = call.query_as(PageQuery)
    found = await call.services.buses.list_types(call.namespace, call.params["bus"], query.after, query.limit + 1)
    items = found[: query.limit]
    return Answer(Page(items=items, next=items[-1].type if len(found) > len(items) else None))


async def _archive(call: Call) -> Answer:
    query = call.query_as(ArchiveQuery)
    found = await call.services.buses.list_archive(
        call.namespace, call.params["bus"], query.since, query.until, query.after, query.limit + 1
    )
    items = found[: query.limit]
    return Answer(Page(items=items, next=str(items[-1].number) if len(found) > len(items) else None))


async def _replays(call: Call) -> Answer:
    return Answer(Page(items=await call.services.buses.list_replays(call.namespace, call.params["bus"])))


async def _replay(call: Call) -> Answer:
    wanted = call.body_as(BeginReplay)
    replay = Replay(
        id="", namespace=call.namespace, bus=call.params["bus"], since_s=wanted.since_s, until_s=wanted.until_s,
        target=wanted.target, filter=wanted.filter, created_s=clock.wall_s(),
    )  # fmt: skip
    return Answer(await call.services.buses.begin_replay(call.principal, replay, call.source), 202)


async def _stop_replay(call: Call) -> Answer:
    params = call.params
    return Answer(
        await call.services.buses.stop_replay(
            call.principal, call.namespace, params["bus"], params["replay"], call.source
        )
    )


def _tagged(call: Call, found: Bus | Rule) -> Answer:
    headers = {"etag": etag(found.revision), "cache-control": "no-cache"}
    if not_modified(call.request, found.revision):
        return Answer(status=304, headers=headers)
    return Answer(found, 200, headers)


_UNCHANGED = Success(status=304, headers=("ETag",), description="unchanged")
_CONDITIONS = ("If-Match", "If-None-Match")
_CHANGED = (NotFound, Conflict, PreconditionFailed, StorageFull)


def _row(method: str, path: str, run: Any, summary: str, action: str, **rest: Any) -> Endpoint:
    return Endpoint(
        method=method, path=path, run=run, summary=summary, permission=in_namespace(action), tag="buses", **rest
    )


ENDPOINTS = (
    _row("GET", _BUSES, _list, "Buses by name", "read", query=PageQuery, successes=(Success(body=Page[Bus]),),
         errors=(NotFound,)),
    _row("GET", _BUS, _get, "A bus", "read", request_headers=("If-None-Match",),
         successes=(Success(body=Bus, headers=("ETag",)), _UNCHANGED), errors=(NotFound,)),
    _row("PUT", _BUS, _put, "Create a bus, or change it", "deploy", request=PutBus, request_headers=_CONDITIONS,
         successes=(Success(body=Bus, headers=("ETag",)),), errors=(*_CHANGED, QuotaExceeded)),
    _row("DELETE", _BUS, _delete, "Delete a bus with its rules and its archive", "delete",
         successes=(Success(status=204, description="deleted"),), errors=(NotFound, StorageFull)),
    _row("POST", _BUS + "/events", _publish, f"Publish CloudEvents: binary, {STRUCTURED}, {BATCH}", "invoke",
         raw_request=True, request_media="*/*",
         successes=(Success(status=202, body=Published, description="on disk, and on their way"),),
         errors=(NotFound, PayloadTooLarge, StorageFull)),
    _row("GET", _BUS + "/rules", _rules, "Rules of a bus by name", "read", query=PageQuery,
         successes=(Success(body=Page[Rule]),), errors=(NotFound,)),
    _row("GET", _RULE, _get_rule, "A rule", "read", request_headers=("If-None-Match",),
         successes=(Success(body=Rule, headers=("ETag",)), _UNCHANGED), errors=(NotFound,)),
    _row("PUT", _RULE, _put_rule, "Create a rule, or change it", "deploy", request=PutRule, request_headers=_CONDITIONS,
         successes=(Success(body=Rule, headers=("ETag",)),), errors=(*_CHANGED, QuotaExceeded)),
    _row("DELETE", _RULE, _delete_rule, "Delete a rule", "delete",
         successes=(Success(status=204, description="deleted"),), errors=(NotFound, StorageFull)),
    _row("GET", _BUS + "/types", _types, "Types of events that the bus has seen, each with a sample", "read",
         query=PageQuery, successes=(Success(body=Page[TypeSeen]),), errors=(NotFound,)),
    _row("GET", _BUS + "/archive", _archive, "Events that the bus remembers, in the order of their arrival", "read",
         query=ArchiveQuery, successes=(Success(body=Page[Archived]),), errors=(NotFound,)),
    _row("GET", _BUS + "/replays", _replays, "Replays, newest first", "read", successes=(Success(body=Page[Replay]),),
         errors=(NotFound,)),
    _row("POST", _BUS + "/replays", _replay, "Hand on a stretch of the archive again", "deploy", request=BeginReplay,
         successes=(Success(status=202, body=Replay, description="under way"),),
         errors=(NotFound, Conflict, StorageFull)),
    _row("DELETE", _BUS + "/replays/{replay}", _stop_replay, "Stop a replay", "deploy",
         successes=(Success(body=Replay, description="stopped"),), errors=(NotFound, Conflict, StorageFull)),
)  # fmt: skip
