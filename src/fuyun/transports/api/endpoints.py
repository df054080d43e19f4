"""HTTP endpoints of others that events are sent to."""

from __future__ import annotations

from fuyun.domain.endpoints import EndpointSpec, EndpointView
from fuyun.domain.errors import NotFound, QuotaExceeded, StorageFull
from fuyun.transports.api.calls import Answer, Call, Page, PageQuery, paged
from fuyun.transports.api.table import Endpoint, Success, in_namespace

_ONE = "/v1/namespaces/{namespace}/endpoints/{endpoint}"


async def _list(call: Call) -> Answer:
    found = await call.services.outside.endpoints.list_endpoints(call.namespace)
    return Answer(paged(found, lambda endpoint: endpoint.name, call.query_as(PageQuery)))


async def _get(call: Call) -> Answer:
    return Answer(call.services.outside.endpoints.get(call.namespace, call.params["endpoint"]))


async def _put(call: Call) -> Answer:
    made = await call.services.outside.endpoints.put(
        call.principal, call.namespace, call.params["endpoint"], call.body_as(EndpointSpec), call.source
    )
    return Answer(made)


async def _confirm(call: Call) -> Answer:
    endpoints = call.services.outside.endpoints
    return Answer(await endpoints.confirm(call.principal, call.namespace, call.params["endpoint"], call.source))


async def _rotate(call: Call) -> Answer:
    endpoints = call.services.outside.endpoints
    return Answer(await endpoints.rotate(call.principal, call.namespace, call.params["endpoint"], call.source))


async def _delete(call: Call) -> Answer:
    endpoints = call.services.outside.endpoints
    await endpoints.delete(call.principal, call.namespace, call.params["endpoint"], call.source)
    return Answer(status=204)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/namespaces/{namespace}/endpoints",
        run=_list,
        summary="HTTP endpoints that events are sent to, by name",
        permission=in_namespace("read"),
        tag="endpoints",
        query=PageQuery,
        successes=(Success(body=Page[EndpointView]),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="GET",
        path=_ONE,
        run=_get,
        summary="An HTTP endpoint",
        permission=in_namespace("read"),
        tag="endpoints",
        successes=(Success(body=EndpointView),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="PUT",
        path=_ONE,
        run=_put,
        summary="Create an HTTP endpoint, or change it; it is asked whether it wants events; a new secret is told",
        permission=in_namespace("deploy"),
        tag="endpoints",
        request=EndpointSpec,
        successes=(Success(body=EndpointView),),
        errors=(NotFound, QuotaExceeded, StorageFull),
    ),
    Endpoint(
        method="POST",
        path=_ONE + "/confirm",
        run=_confirm,
        summary="Ask an HTTP endpoint again whether it wants events",
        permission=in_namespace("deploy"),
        tag="endpoints",
        successes=(Success(body=EndpointView),),
        errors=(NotFound, StorageFull),
    ),
    Endpoint(
        method="POST",
        path=_ONE + "/rotate",
        run=_rotate,
        summary="Give an HTTP endpoint another secret, told this once; the one before signs as well for a day",
        permission=in_namespace("deploy"),
        tag="endpoints",
        successes=(Success(body=EndpointView),),
        errors=(NotFound, StorageFull),
    ),
    Endpoint(
        method="DELETE",
        path=_ONE,
        run=_delete,
        summary="Delete an HTTP endpoint; what is on its way there becomes dead letters",
        permission=in_namespace("delete"),
        tag="endpoints",
        successes=(Success(status=204, description="deleted"),),
        errors=(NotFound, StorageFull),
    ),
)
