"""Streams: ordered records in partitions, read by offset; and snapshots of what a key's records add up to."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from starlette.responses import Response

from fuyun.domain.errors import Conflict, NotFound, PreconditionFailed, QuotaExceeded, StorageFull
from fuyun.domain.functions import Wire
from fuyun.domain.streams import (
    MOST_LABEL,
    MOST_PARTITIONS,
    MOST_RECORDS,
    MOST_WAIT_S,
    Appended,
    NewRecord,
    Partition,
    Position,
    RecordView,
    Slice,
    Stream,
    StreamSpec,
    position_of,
    view_of,
)
from fuyun.transports.api.calls import Answer, Call, Page, PageQuery
from fuyun.transports.api.ndjson import Lines, wants_lines
from fuyun.transports.api.preconditions import etag, expected_revision, not_modified
from fuyun.transports.api.table import JSON, NDJSON, Endpoint, Success, in_namespace

STREAM = "/v1/namespaces/{namespace}/streams/{stream}"
From = Annotated[
    str, msgspec.Meta(description="start, end, an offset, or time: and seconds or an ISO 8601 time", max_length=80)
]
Label = Annotated[str, msgspec.Meta(max_length=MOST_LABEL)]


class StreamView(Wire, frozen=True, kw_only=True):
    """A stream and its partitions."""

    stream: Stream
    partitions: list[Partition]


class Append(Wire, frozen=True, kw_only=True):
    """Records to append, all or none. A `producer` counts its appends: the newest one sent again changes nothing."""

    records: Annotated[list[NewRecord], msgspec.Meta(min_length=1, max_length=MOST_RECORDS)]
    producer: Label = ""
    sequence: Annotated[int, msgspec.Meta(ge=0, lt=2**53)] = 0


class ReadQuery(Wire, frozen=True, kw_only=True):
    """Which records of a partition; `wait_s` waits for the first."""

    partition: Annotated[int, msgspec.Meta(ge=0, lt=MOST_PARTITIONS)] = 0
    at: From = msgspec.field(default="start", name="from")
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_RECORDS, description="records at most")] = 100
    wait_s: Annotated[float, msgspec.Meta(ge=0, le=MOST_WAIT_S, description="seconds to wait for a record")] = 0.0
    follow: Annotated[bool, msgspec.Meta(description="all partitions, and what comes, one object a line")] = False


class SliceView(Wire, frozen=True, kw_only=True):
    """Records of one partition in order, and where to go on. `start` and `end` are the partition's."""

    records: list[RecordView]
    next: int
    start: int
    end: int


class KeyQuery(Wire, frozen=True, kw_only=True):
    """Which records of a key."""

    key: Label
    after: Annotated[int, msgspec.Meta(ge=0, lt=2**53, description="version of the last one seen")] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_RECORDS, description="records at most")] = 100


class SnapshotKey(Wire, frozen=True, kw_only=True):
    """Whose snapshot."""

    key: Label


class PutSnapshot(Wire, frozen=True, kw_only=True):
    """What a key's records up to `version` add up to, any JSON."""

    key: Label
    version: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
    data: Any


class SnapshotView(Wire, frozen=True, kw_only=True):
    """A snapshot."""

    key: str
    version: int
    at_s: float
    data: Any


async def _list(call: Call) -> Answer:
    query = call.query_as(PageQuery)
    found = await call.services.flows.streams.list_streams(call.namespace, query.after, query.limit + 1)
    items = found[: query.limit]
    return Answer(Page(items=items, next=items[-1].name if len(found) > len(items) else None))


async def _get(call: Call) -> Answer:
    stream, partitions = await call.services.flows.streams.get(call.namespace, call.params["stream"])
    headers = {"etag": etag(stream.revision)}
    if not_modified(call.request, stream.revision):
        return Answer(status=304, headers=headers)
    return Answer(StreamView(stream=stream, partitions=partitions), 200, headers)


async def _revision(call: Call) -> int | None:
    try:
        stream, _ = await call.services.flows.streams.get(call.namespace, call.params["stream"])
    except NotFound:
        return None
    return stream.revision


async def _put(call: Call) -> Answer:
    expected = expected_revision(call.request, await _revision(call), "stream")
    stream = await call.services.flows.streams.put(
        call.principal, call.namespace, call.params["stream"], call.body_as(StreamSpec), expected, call.source
    )
    return Answer(stream, 200, {"etag": etag(stream.revision)})


async def _delete(call: Call) -> Answer:
    await call.services.flows.streams.delete(call.principal, call.namespace, call.params["stream"], call.source)
    return Answer(status=204)


async def _append(call: Call) -> Answer:
    wanted = call.body_as(Append)
    made = await call.services.flows.streams.append_new(
        call.namespace, call.params["stream"], wanted.records, wanted.producer, wanted.sequence
    )
    return Answer(made)


async def _read(call: Call) -> Answer | Response:
    query, name = call.query_as(ReadQuery), call.params["stream"]
    at = position_of(query.at)
    if query.follow and wants_lines(call.request) and call.request.method != "HEAD":
        await call.services.flows.streams.get(call.namespace, name)
        return Lines(call.life, _views(call, name, at), endless=True)
    found = await _awaited(call, query, name, at)
    records = [view_of(record) for record in found.records]
    return Answer(SliceView(records=records, next=found.next, start=found.start, end=found.end))


async def _awaited(call: Call, query: ReadQuery, name: str, at: Position) -> Slice:
    """The read, cut short when the API closes."""
    streams = call.services.flows.streams
    read = streams.read(call.namespace, name, query.partition, at, query.limit, query.wait_s)
    if not query.wait_s:
        return await read
    over = asyncio.Event()
    call.life.streams.add(over.set)
    reading: asyncio.Task[Slice] = call.life.scope.start(read, "long poll")
    ending = call.life.scope.start(over.wait(), "long poll's end")
    try:
        await asyncio.wait((reading, ending), return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            return reading.result()
        return await streams.read(call.namespace, name, query.partition, at, query.limit)
    finally:
        call.life.streams.discard(over.set)
        reading.cancel()
        ending.cancel()


async def _views(call: Call, name: str, at: Position) -> Any:
    tail = call.services.flows.streams.tail(call.namespace, name, at)
    try:
        async for record in tail:
            yield view_of(record)
    finally:
        await tail.aclose()


async def _read_key(call: Call) -> Answer:
    query = call.query_as(KeyQuery)
    streams = call.services.flows.streams
    found = await streams.read_key(call.namespace, call.params["stream"], query.key, query.after, query.limit + 1)
    items = [view_of(record) for record in found[: query.limit]]
    return Answer(Page(items=items, next=str(items[-1].version) if len(found) > len(items) else None))


async def _put_snapshot(call: Call) -> Answer:
    wanted = call.body_as(PutSnapshot)
    data = msgspec.json.encode(wanted.data)
    made = await call.services.flows.streams.put_snapshot(
        call.namespace, call.params["stream"], wanted.key, wanted.version, data
    )
    return Answer(SnapshotView(key=made.key, version=made.version, at_s=made.at_s, data=wanted.data))


async def _get_snapshot(call: Call) -> Answer:
    key = call.query_as(SnapshotKey).key
    found = await call.services.flows.streams.get_snapshot(call.namespace, call.params["stream"], key)
    return Answer(SnapshotView(key=key, version=found.version, at_s=found.at_s, data=msgspec.Raw(found.data)))


ENDPOINTS = (
    Endpoint(
        method="GET", path="/v1/namespaces/{namespace}/streams", run=_list, tag="streams",
        summary="Streams by name; those called table.NAME are change feeds",
        permission=in_namespace("read"), query=PageQuery, successes=(Success(body=Page[Stream]),), errors=(NotFound,),
    ),
    Endpoint(
        method="GET", path=STREAM, run=_get, tag="streams", summary="A stream and its partitions",
        permission=in_namespace("read"), request_headers=("If-None-Match",),
        successes=(
            Success(body=StreamView, headers=("ETag",)),
            Success(status=304, headers=("ETag",), description="unchanged"),
        ),
        errors=(NotFound,),
    ),
    Endpoint(
        method="PUT", path=STREAM, run=_put, tag="streams", summary="Create a stream, or change its retention",
        permission=in_namespace("deploy"), request=StreamSpec, request_headers=("If-Match", "If-None-Match"),
        successes=(Success(body=Stream, headers=("ETag",)),),
        errors=(NotFound, Conflict, PreconditionFailed, QuotaExceeded, StorageFull),
    ),
    Endpoint(
        method="DELETE", path=STREAM, run=_delete, tag="streams", summary="Delete a stream with its records and groups",
        permission=in_namespace("delete"), successes=(Success(status=204, description="deleted"),),
        errors=(NotFound, Conflict, StorageFull),
    ),
    Endpoint(
        method="POST", path=STREAM + "/records", run=_append, tag="streams",
        summary="Append records, all or none; they are durable when it answers",
        permission=in_namespace("send"), request=Append,
        successes=(Success(body=list[Appended], description="where they are"),),
        errors=(NotFound, Conflict, QuotaExceeded, StorageFull),
    ),
    Endpoint(
        method="GET", path=STREAM + "/records", run=_read, tag="streams",
        summary="Records of a partition; waits for them with `wait_s`, and goes on with `follow=1` as lines",
        permission=in_namespace("receive"), query=ReadQuery, request_headers=("Accept",),
        successes=(Success(body=SliceView, media=(JSON, NDJSON), stream=RecordView),), errors=(NotFound,),
    ),
    Endpoint(
        method="GET", path=STREAM + "/history", run=_read_key, tag="streams",
        summary="Records of one key of a versioned stream, by version",
        permission=in_namespace("receive"), query=KeyQuery, successes=(Success(body=Page[RecordView]),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="PUT", path=STREAM + "/snapshot", run=_put_snapshot, tag="streams",
        summary="Keep what a key's records up to a version add up to",
        permission=in_namespace("send"), request=PutSnapshot, successes=(Success(body=SnapshotView),),
        errors=(NotFound, Conflict, StorageFull),
    ),
    Endpoint(
        method="GET", path=STREAM + "/snapshot", run=_get_snapshot, tag="streams", summary="A key's snapshot",
        permission=in_namespace("receive"), query=SnapshotKey, successes=(Success(body=SnapshotView),),
        errors=(NotFound,),
    ),
)  # fmt: skip
