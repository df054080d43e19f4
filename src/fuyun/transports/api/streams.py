"""Streams: ordered records in partitions, read by offset; and snapshots of what a key's records add up to."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from starlette.responses import Response

from fuyun.domain.errors import Conflict, NotFound, PreconditionFailed, QuotaExceeded, StorageFull
from fuyun.domain.flows import (
    Append,
    KeyQuery,
    PutSnapshot,
    Reading,
    SliceView,
    SnapshotKey,
    SnapshotView,
    shown,
    snapshot_view,
)
from fuyun.domain.streams import (
    Appended,
    Partition,
    Position,
    RecordView,
    Slice,
    Stream,
    StreamSpec,
    position_of,
    view_of,
)
from fuyun.domain.wire import Wire
from fuyun.transports.api.calls import Answer, Call, Page, PageQuery
from fuyun.transports.api.ndjson import Lines, wait_gone, wants_lines
from fuyun.transports.api.preconditions import etag, expected_revision, not_modified
from fuyun.transports.api.table import JSON, NDJSON, Endpoint, Success, in_namespace

STREAM = "/v1/namespaces/{namespace}/streams/{stream}"


class StreamView(Wire, frozen=True, kw_only=True):
    """A stream and its partitions."""

    stream: Stream
    partitions: list[Partition]


class ReadQuery(Reading, frozen=True, kw_only=True):
    """Which records, and whether to go on with those to come."""

    follow: Annotated[bool, msgspec.Meta(description="all partitions, and what comes, one object a line")] = False


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
    return Answer(shown(await _awaited(call, query, name, at)))


async def _awaited(call: Call, query: ReadQuery, name: str, at: Position) -> Slice:
    """The read; a wait ends when the API closes, or the client has left."""
    read = call.services.flows.streams.read
    if not query.wait_s:
        return await read(call.namespace, name, query.partition, at, query.limit)
    left: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def leave() -> None:
        if not left.done():
            left.set_result(None)

    call.life.streams.add(leave)
    listening = call.life.scope.start(wait_gone(call.request.receive), "long poll")
    listening.add_done_callback(lambda _: leave())
    try:
        return await read(call.namespace, name, query.partition, at, query.limit, query.wait_s, left)
    finally:
        call.life.streams.discard(leave)
        listening.cancel()


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
    return Answer(snapshot_view(made))


async def _get_snapshot(call: Call) -> Answer:
    key = call.query_as(SnapshotKey).key
    found = await call.services.flows.streams.get_snapshot(call.namespace, call.params["stream"], key)
    return Answer(snapshot_view(found))


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
