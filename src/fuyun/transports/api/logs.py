"""What functions wrote, so far and as it comes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import msgspec
from starlette.responses import Response

from fuyun.base import clock
from fuyun.domain.errors import NotFound
from fuyun.domain.functions import Wire
from fuyun.domain.invocations import Invocation, LogLine
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
    limit: Annotated[int, msgspec.Meta(ge=0, le=10_000, description="lines at most (of those written so far)")] = 1000
    follow: bool = False


async def _logs(call: Call) -> Answer | Response:
    query = call.query_as(LogsQuery)
    await call.services.functions.get_function(call.namespace, call.function)
    wanted = RecordQuery(
        namespace=call.namespace,
        function=call.function,
        since_s=query.since,
        until_s=query.until,
        request=query.request,
        limit=query.limit,
    )
    if query.follow and call.request.method != "HEAD":
        return await _follow(call, wanted)
    return Answer(Page(items=await _so_far(call, wanted)))


async def _so_far(call: Call, wanted: RecordQuery) -> list[LogLine]:
    return await call.services.records.list_logs(wanted) if wanted.limit else []


async def _follow(call: Call, wanted: RecordQuery) -> Lines:
    """The lines so far, then the live ones. Listening begins before reading, so that none is missed; what was read
    and heard is sent once."""
    early: list[LogLine] = []
    live = False

    def heard(items: Sequence[Invocation | LogLine]) -> None:
        for item in items:
            if isinstance(item, LogLine) and (not wanted.request or item.request == wanted.request):
                if live:
                    lines.put(item)
                else:
                    early.append(item)

    stop = call.services.records.follow(call.namespace, call.function, heard)
    lines = Lines(call.life, on_gone=stop, notice=lambda count: _dropped(call, count))
    try:
        read = await _so_far(call, wanted)
    except BaseException:
        stop()
        raise
    seen = Counter(read)
    for line in read:
        lines.put(line)
    for line in early:
        if seen[line]:
            seen[line] -= 1
        else:
            lines.put(line)
    live = True
    return lines


def _dropped(call: Call, count: int) -> LogLine:
    return LogLine(
        at_s=clock.wall_s(),
        namespace=call.namespace,
        function=call.function,
        version=0,
        instance="",
        stream="platform",
        text=f"{count} lines are missing here: they came quicker than this client read them",
    )


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
