"""Records of what ran."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from fuyun.domain.errors import NotFound
from fuyun.domain.functions import Wire
from fuyun.domain.invocations import Invocation
from fuyun.ports.records import RecordQuery
from fuyun.transports.api.calls import Answer, Call, Page
from fuyun.transports.api.table import Endpoint, Success, in_namespace

#: Wall-clock seconds of the year 2100: later than any record.
FAR_S = 4102444800.0

Moment = Annotated[float, msgspec.Meta(ge=0, le=FAR_S)]


class InvocationsQuery(Wire, frozen=True, kw_only=True):
    """Which records: the newest `limit` that match, oldest first. Times are wall-clock seconds since the epoch."""

    since: Moment = 0.0
    until: Moment = FAR_S
    status: Literal["", "ok", "error", "throttled", "cancelled"] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000, description="items at most")] = 100


async def _list(call: Call) -> Answer:
    query = call.query_as(InvocationsQuery)
    await call.services.functions.get_function(call.namespace, call.function)
    wanted = RecordQuery(
        namespace=call.namespace,
        function=call.function,
        since_s=query.since,
        until_s=query.until,
        status=query.status,
        limit=query.limit,
    )
    return Answer(Page(items=await call.services.records.list_invocations(call.principal, wanted)))


async def _get(call: Call) -> Answer:
    id_ = call.params["invocation"]
    return Answer(await call.services.records.get_invocation(call.principal, call.namespace, call.function, id_))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/namespaces/{namespace}/functions/{function}/invocations",
        run=_list,
        summary="The newest records that match, oldest first",
        permission=in_namespace("read"),
        tag="invocations",
        query=InvocationsQuery,
        successes=(Success(body=Page[Invocation]),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="GET",
        path="/v1/namespaces/{namespace}/functions/{function}/invocations/{invocation}",
        run=_get,
        summary="One record",
        permission=in_namespace("read"),
        tag="invocations",
        successes=(Success(body=Invocation),),
        errors=(NotFound,),
    ),
)
