"""What functions wrote, so far and as it comes."""

from __future__ import annotations

from typing import Annotated

import msgspec
from starlette.responses import Response

from fuyun.domain.errors import BadRequest, NotFound
from fuyun.domain.functions import Wire
from fuyun.domain.invocations import LogLine
from fuyun.ports.records import RecordQuery
from fuyun.transports.api.calls import Answer, Call, Page
from fuyun.transports.api.invocations import FAR_S, Moment
from fuyun.transports.api.ndjson import Lines
from fuyun.transports.api.table import JSON, NDJSON, Endpoint, Success, in_namespace


class LogsQuery(Wire, frozen=True, kw_only=True):
    """Which lines: the newest `limit` that match, oldest first; with `follow` also those to come, one JSON object a
    line, until either side ends it."""

    since: Moment = 0.0
    until: Moment = FAR_S
    request: Annotated[str, msgspec.Meta(description="id of an invocation", max_length=64)] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000, description="lines at most (of those written so far)")] = 1000
    follow: bool = False


async def _logs(call: Call) -> Answer | Response:
    query = call.query_as(LogsQuery)
    await call.services.functions.get_function(call.namespace, call.function)
    if query.since > query.until:
        raise BadRequest("since is after until", hint="swap them", path="since")
    wanted = RecordQuery(
        namespace=call.namespace,
        function=call.function,
        since_s=query.since,
        until_s=query.until,
        request=query.request,
        limit=query.limit,
    )
    records = call.services.records
    if query.follow and call.request.method != "HEAD":
        return Lines(call.life, records.follow_logs(call.principal, wanted), endless=True)
    return Answer(Page(items=await records.list_logs(call.principal, wanted)))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/namespaces/{namespace}/functions/{function}/logs",
        run=_logs,
        summary="The newest lines that match, oldest first; `follow=1` goes on with what is written",
        permission=in_namespace("read"),
        tag="invocations",
        query=LogsQuery,
        successes=(Success(body=Page[LogLine], media=(JSON, NDJSON), stream=LogLine, description="lines"),),
        errors=(NotFound,),
    ),
)
