"""Triggers of functions: listed, paused, resumed. What they are is deployed with their function."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fuyun.domain.errors import NotFound, StorageFull
from fuyun.domain.wire import Wire
from fuyun.services.triggers.governing import TriggerStatus
from fuyun.transports.api.calls import Answer, Call, Page
from fuyun.transports.api.table import Endpoint, Success, in_namespace


class TriggersQuery(Wire, frozen=True, kw_only=True):
    """Of which function; all without."""

    function: Annotated[str, msgspec.Meta(max_length=63)] = ""


async def _list(call: Call) -> Answer:
    function = call.query_as(TriggersQuery).function
    if function:
        await call.services.functions.get_function(call.namespace, function)
    return Answer(Page(items=await call.services.triggers.list_triggers(call.principal, call.namespace, function)))


async def _pause(call: Call) -> Answer:
    return Answer(await _put(call, True))


async def _resume(call: Call) -> Answer:
    return Answer(await _put(call, False))


async def _put(call: Call, paused: bool) -> TriggerStatus:
    key = (call.namespace, call.function, call.params["trigger"])
    return await call.services.triggers.pause(call.principal, key, paused, call.source)


_ONE = "/v1/namespaces/{namespace}/functions/{function}/triggers/{trigger}"

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/namespaces/{namespace}/triggers",
        run=_list,
        summary="Triggers, by function and name",
        permission=in_namespace("read"),
        tag="triggers",
        query=TriggersQuery,
        successes=(Success(body=Page[TriggerStatus]),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="POST",
        path=_ONE + "/pause",
        run=_pause,
        summary="Pause a trigger: it does nothing until it is resumed",
        permission=in_namespace("deploy"),
        tag="triggers",
        successes=(Success(body=TriggerStatus),),
        errors=(NotFound, StorageFull),
    ),
    Endpoint(
        method="POST",
        path=_ONE + "/resume",
        run=_resume,
        summary="Resume a trigger where it was; what a timer missed is up to its `missed`",
        permission=in_namespace("deploy"),
        tag="triggers",
        successes=(Success(body=TriggerStatus),),
        errors=(NotFound, StorageFull),
    ),
)
