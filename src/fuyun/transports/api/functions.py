"""Functions: deploy, list, read, delete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

from starlette.responses import Response

from fuyun.domain.errors import (
    BuildFailed,
    Conflict,
    FunctionError,
    FunctionExited,
    FunctionInitFailed,
    FunctionLoadFailed,
    FunctionOutOfMemory,
    FunctionTimedOut,
    FuyunError,
    HandlerMissing,
    HostUnable,
    NotFound,
    QuotaExceeded,
    StorageFull,
    Unavailable,
)
from fuyun.domain.functions import Function, Version, Wire
from fuyun.services.deploying import DeployRequest
from fuyun.transports.api.calls import Answer, Call, Page, PageQuery
from fuyun.transports.api.dispatch import as_error
from fuyun.transports.api.ndjson import Lines, wants_lines
from fuyun.transports.api.table import JSON, NDJSON, Endpoint, Success, in_namespace
from fuyun.transports.web.problems import problem

#: What may go wrong while a new version is built and started once.
DEPLOY_ERRORS: tuple[type[FuyunError], ...] = (
    NotFound,
    Conflict,
    QuotaExceeded,
    BuildFailed,
    FunctionError,
    FunctionLoadFailed,
    HandlerMissing,
    FunctionInitFailed,
    FunctionOutOfMemory,
    FunctionExited,
    FunctionTimedOut,
    HostUnable,
    StorageFull,
    Unavailable,
)


class DeployLine(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """A line of a deployment's progress: words for people, and at the end either the version or the problem."""

    progress: str | None = None
    version: Version | None = None
    problem: dict[str, Any] | None = None


async def _deploy(call: Call) -> Answer | Response:
    wanted = call.body_as(DeployRequest)
    if not wants_lines(call.request):
        return Answer(await _run(call, wanted, lambda text: None))
    queue: asyncio.Queue[DeployLine] = asyncio.Queue()

    async def work() -> None:
        try:
            version = await _run(call, wanted, lambda text: queue.put_nowait(DeployLine(progress=text)))
            queue.put_nowait(DeployLine(version=version))
        except Exception as exc:
            error = as_error(exc, f"deploy {call.namespace}/{call.function}", call.id)
            queue.put_nowait(DeployLine(problem=problem(error, call.id)))

    call.life.scope.start(work(), f"deploy {call.namespace}/{call.function}")
    return Lines(call.life, _until_done(queue))


async def _until_done(queue: asyncio.Queue[DeployLine]) -> AsyncGenerator[DeployLine, None]:
    while True:
        line = await queue.get()
        yield line
        if line.progress is None:
            return


async def _run(call: Call, wanted: DeployRequest, progress: Callable[[str], None]) -> Version:
    return await call.services.deployer.deploy(
        call.principal, call.namespace, call.function, wanted, progress, call.source
    )


async def _list(call: Call) -> Answer:
    query = call.query_as(PageQuery)
    found = await call.services.functions.list_functions(call.namespace, query.after, query.limit + 1)
    items = found[: query.limit]
    return Answer(Page(items=items, next=items[-1].name if len(found) > len(items) else None))


async def _get(call: Call) -> Answer:
    return Answer(await call.services.functions.get_function(call.namespace, call.function))


async def _delete(call: Call) -> Answer:
    await call.services.functions.delete_function(call.principal, call.namespace, call.function, call.source)
    call.services.measures.forget(call.namespace, call.function)
    return Answer(status=204)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/namespaces/{namespace}/functions",
        run=_list,
        summary="Functions, by name",
        permission=in_namespace("read"),
        tag="functions",
        query=PageQuery,
        successes=(Success(body=Page[Function]),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="PUT",
        path="/v1/namespaces/{namespace}/functions/{function}",
        run=_deploy,
        summary="Deploy: build, store, publish, move the alias, warm; a failed step leaves the old version serving",
        permission=in_namespace("deploy"),
        tag="functions",
        request=DeployRequest,
        request_headers=("Accept",),
        successes=(Success(body=Version, media=(JSON, NDJSON), stream=DeployLine, description="deployed"),),
        errors=DEPLOY_ERRORS,
    ),
    Endpoint(
        method="GET",
        path="/v1/namespaces/{namespace}/functions/{function}",
        run=_get,
        summary="One function",
        permission=in_namespace("read"),
        tag="functions",
        successes=(Success(body=Function),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/namespaces/{namespace}/functions/{function}",
        run=_delete,
        summary="Delete a function with its versions and aliases",
        permission=in_namespace("delete"),
        tag="functions",
        successes=(Success(status=204, description="deleted"),),
        errors=(NotFound, StorageFull),
    ),
)
