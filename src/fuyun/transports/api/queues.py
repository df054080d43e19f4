"""Queues and their messages."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fuyun.base import clock, ids
from fuyun.domain.errors import (
    Conflict,
    NotFound,
    PayloadTooLarge,
    PreconditionFailed,
    QuotaExceeded,
    StorageFull,
)
from fuyun.domain.functions import Wire
from fuyun.domain.messages import (
    Acknowledge,
    Extend,
    NewMessages,
    Receive,
    ReceivedMessages,
    SentMessages,
    SettledMessages,
    shown,
)
from fuyun.domain.queues import (
    MOST_BATCH,
    NewMessage,
    Outgoing,
    Queue,
    QueueSpec,
    Settling,
    Statistics,
    outgoing_of,
)
from fuyun.transports.api.calls import Answer, Call, Page, PageQuery
from fuyun.transports.api.ndjson import wait_gone
from fuyun.transports.api.preconditions import etag, expected_revision
from fuyun.transports.api.table import Endpoint, Success, in_namespace

_QUEUE = "/v1/namespaces/{namespace}/queues/{queue}"


class QueueReport(Wire, frozen=True, kw_only=True):
    """A queue and what its messages wait for."""

    queue: Queue
    statistics: Statistics


class PeekQuery(Wire, frozen=True, kw_only=True):
    """How many to look at."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_BATCH, description="messages at most")] = 10


class Redrive(Wire, frozen=True, kw_only=True):
    """Where to move the messages; "" is the queue that each was given up in."""

    to: str = ""


class Counted(Wire, frozen=True, kw_only=True):
    """How many messages it was done to."""

    count: int


def outgoing(call: Call, kind: str, name: str, messages: list[NewMessage]) -> list[Outgoing]:
    """What is to be sent to the `kind` of that name in the path's namespace."""
    now_s = clock.wall_s()
    source = f"/{call.namespace}/{kind}/{name}"
    return [outgoing_of(message, source, ids.new_id(now_s), now_s) for message in messages]


async def _list(call: Call) -> Answer:
    query = call.query_as(PageQuery)
    found = await call.services.messaging.queues.list_queues(call.namespace, query.after, query.limit + 1)
    items = found[: query.limit]
    return Answer(Page(items=items, next=items[-1].name if len(found) > len(items) else None))


async def _put(call: Call) -> Answer:
    queues, name = call.services.messaging.queues, call.params["queue"]
    current: int | None = None
    if "if-match" in call.request.headers or "if-none-match" in call.request.headers:
        try:
            current = (await queues.get_queue(call.namespace, name))[0].revision
        except NotFound:
            current = None
    expected = expected_revision(call.request, current, "queue")
    made = await queues.put_queue(call.principal, call.namespace, name, call.body_as(QueueSpec), call.source, expected)
    return Answer(made, 200, {"etag": etag(made.revision)})


async def _get(call: Call) -> Answer:
    queue, statistics = await call.services.messaging.queues.get_queue(call.namespace, call.params["queue"])
    return Answer(QueueReport(queue=queue, statistics=statistics), 200, {"etag": etag(queue.revision)})


async def _delete(call: Call) -> Answer:
    await call.services.messaging.queues.delete_queue(call.principal, call.namespace, call.params["queue"], call.source)
    return Answer(status=204)


async def _send(call: Call) -> Answer:
    name = call.params["queue"]
    messages = outgoing(call, "queue", name, call.body_as(NewMessages).messages)
    return Answer(SentMessages(sent=await call.services.messaging.queues.send(call.namespace, name, messages)))


async def _receive(call: Call) -> Answer:
    """A client that leaves, or a platform that stops, ends the wait; what was taken out for nobody is returned."""
    asked = call.body_as(Receive)
    left = call.life.scope.start(wait_gone(call.request.receive), "receive listener")

    def end() -> None:
        left.cancel()

    call.life.streams.add(end)
    if call.life.closing:
        end()
    try:
        found = await call.services.messaging.queues.receive(
            call.namespace, call.params["queue"], asked.max,
            wait_s=asked.wait_s, visibility_s=asked.visibility_s, left=left,
        )  # fmt: skip
    finally:
        call.life.streams.discard(end)
        end()
    return Answer({"messages": [shown(message) for message in found]})


async def _peek(call: Call) -> Answer:
    found = await call.services.messaging.queues.peek(
        call.namespace, call.params["queue"], call.query_as(PeekQuery).limit
    )
    return Answer({"messages": [shown(message) for message in found]})


async def _acknowledge(call: Call) -> Answer:
    return await _settle(call, [Settling(receipt=receipt) for receipt in call.body_as(Acknowledge).receipts])


async def _extend(call: Call) -> Answer:
    asked = call.body_as(Extend)
    return await _settle(call, [Settling(receipt=receipt, hold_s=asked.visibility_s) for receipt in asked.receipts])


async def _settle(call: Call, settlings: list[Settling]) -> Answer:
    settled = await call.services.messaging.queues.settle(call.namespace, call.params["queue"], settlings)
    done = sum(settling.receipt not in settled.refused for settling in settlings)
    return Answer(SettledMessages(done=done, refused=settled.refused))


async def _redrive(call: Call) -> Answer:
    count = await call.services.messaging.queues.redrive(
        call.principal, call.namespace, call.params["queue"], call.body_as(Redrive).to, call.source
    )
    return Answer(Counted(count=count))


async def _purge(call: Call) -> Answer:
    count = await call.services.messaging.queues.purge(
        call.principal, call.namespace, call.params["queue"], call.source
    )
    return Answer(Counted(count=count))


_SETTLED = (Success(body=SettledMessages),)
_SENDING = (NotFound, PayloadTooLarge, QuotaExceeded, StorageFull)

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/namespaces/{namespace}/queues",
        run=_list,
        summary="Queues, by name",
        permission=in_namespace("read"),
        tag="queues",
        query=PageQuery,
        successes=(Success(body=Page[Queue]),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="PUT",
        path=_QUEUE,
        run=_put,
        summary="Create a queue, or change its settings",
        permission=in_namespace("deploy"),
        tag="queues",
        request=QueueSpec,
        request_headers=("If-Match", "If-None-Match"),
        successes=(Success(body=Queue, headers=("ETag",)),),
        errors=(NotFound, Conflict, PreconditionFailed, QuotaExceeded, StorageFull),
    ),
    Endpoint(
        method="GET",
        path=_QUEUE,
        run=_get,
        summary="A queue and what its messages wait for",
        permission=in_namespace("read"),
        tag="queues",
        successes=(Success(body=QueueReport, headers=("ETag",)),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="DELETE",
        path=_QUEUE,
        run=_delete,
        summary="Delete a queue with its messages",
        permission=in_namespace("delete"),
        tag="queues",
        successes=(Success(status=204, description="deleted"),),
        errors=(NotFound, Conflict, StorageFull),
    ),
    Endpoint(
        method="POST",
        path=_QUEUE + "/messages",
        run=_send,
        summary="Send messages, all or none; they are on disk when this is answered",
        permission=in_namespace("send"),
        tag="queues",
        request=NewMessages,
        successes=(Success(body=SentMessages),),
        errors=_SENDING,
    ),
    Endpoint(
        method="GET",
        path=_QUEUE + "/messages",
        run=_peek,
        summary="The oldest messages, which stay where they are",
        permission=in_namespace("receive"),
        tag="queues",
        query=PeekQuery,
        successes=(Success(body=ReceivedMessages),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="DELETE",
        path=_QUEUE + "/messages",
        run=_purge,
        summary="Remove all messages",
        permission=in_namespace("delete"),
        tag="queues",
        successes=(Success(body=Counted),),
        errors=(NotFound, StorageFull),
    ),
    Endpoint(
        method="POST",
        path=_QUEUE + "/receive",
        run=_receive,
        summary="Take messages out for a time, waiting for the first",
        permission=in_namespace("receive"),
        tag="queues",
        request=Receive,
        successes=(Success(body=ReceivedMessages),),
        errors=(NotFound, StorageFull),
    ),
    Endpoint(
        method="POST",
        path=_QUEUE + "/acknowledge",
        run=_acknowledge,
        summary="Messages are done; a receipt whose lease has run out does nothing and says so",
        permission=in_namespace("receive"),
        tag="queues",
        request=Acknowledge,
        successes=_SETTLED,
        errors=(NotFound, StorageFull),
    ),
    Endpoint(
        method="POST",
        path=_QUEUE + "/extend",
        run=_extend,
        summary="Keep messages longer, or (0) return them",
        permission=in_namespace("receive"),
        tag="queues",
        request=Extend,
        successes=_SETTLED,
        errors=(NotFound, StorageFull),
    ),
    Endpoint(
        method="POST",
        path=_QUEUE + "/redrive",
        run=_redrive,
        summary="Move messages to a queue, or back to those they were given up in",
        permission=in_namespace("receive"),
        tag="queues",
        request=Redrive,
        successes=(Success(body=Counted),),
        errors=(NotFound, StorageFull),
    ),
)
