"""Layers: read-only folders that functions of a namespace share, in numbered versions."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fuyun.domain.errors import NotFound, QuotaExceeded, StorageFull
from fuyun.domain.functions import Wire
from fuyun.domain.layers import LayerVersion
from fuyun.transports.api.calls import Answer, Call, Page, PageQuery
from fuyun.transports.api.preconditions import etag, not_modified
from fuyun.transports.api.table import Endpoint, Success, in_namespace

_LAYER = "/v1/namespaces/{namespace}/layers/{layer}"
_ONE = (Success(body=LayerVersion, headers=("ETag",)), Success(status=304, headers=("ETag",), description="unchanged"))


class LayerVersionsQuery(Wire, frozen=True, kw_only=True):
    """Which page of a layer's versions."""

    after: Annotated[int, msgspec.Meta(ge=0, le=999_999_999, description="number of the last version seen")] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000, description="items at most")] = 100


class PublishLayer(Wire, frozen=True, kw_only=True):
    """What a layer's next version holds: the digest an archive was answered with."""

    content: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    description: Annotated[str, msgspec.Meta(max_length=1000)] = ""


async def _list(call: Call) -> Answer:
    query = call.query_as(PageQuery)
    found = await call.services.layers.list_layers(call.namespace, query.after, query.limit + 1)
    items = found[: query.limit]
    return Answer(Page(items=items, next=items[-1].name if len(found) > len(items) else None))


async def _list_versions(call: Call) -> Answer:
    query = call.query_as(LayerVersionsQuery)
    found = await call.services.layers.list_versions(call.namespace, call.params["layer"], query.after, query.limit + 1)
    items = found[: query.limit]
    return Answer(Page(items=items, next=str(items[-1].number) if len(found) > len(items) else None))


async def _get(call: Call) -> Answer:
    number = int(call.params.get("number", "0"))
    found = await call.services.layers.get_layer(call.namespace, call.params["layer"], number)
    headers = {"etag": etag(found.number), "cache-control": "no-cache"}
    if not_modified(call.request, found.number):
        return Answer(status=304, headers=headers)
    return Answer(found, 200, headers)


async def _publish(call: Call) -> Answer:
    wanted = call.body_as(PublishLayer)
    return Answer(
        await call.services.layers.publish(
            call.principal, call.namespace, call.params["layer"], wanted.content, wanted.description, call.source
        )
    )


async def _delete(call: Call) -> Answer:
    await call.services.layers.delete(
        call.principal, call.namespace, call.params["layer"], int(call.params["number"]), call.source
    )
    return Answer(status=204)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/namespaces/{namespace}/layers",
        run=_list,
        summary="Layers by name, each as its newest version",
        permission=in_namespace("read"),
        tag="layers",
        query=PageQuery,
        successes=(Success(body=Page[LayerVersion]),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="GET",
        path=_LAYER,
        run=_get,
        summary="The newest version of a layer",
        permission=in_namespace("read"),
        tag="layers",
        request_headers=("If-None-Match",),
        successes=_ONE,
        errors=(NotFound,),
    ),
    Endpoint(
        method="GET",
        path=_LAYER + "/versions",
        run=_list_versions,
        summary="Versions of a layer, by number",
        permission=in_namespace("read"),
        tag="layers",
        query=LayerVersionsQuery,
        successes=(Success(body=Page[LayerVersion]),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="POST",
        path=_LAYER + "/versions",
        run=_publish,
        summary="Publish an uploaded archive as the layer's next version; what the newest holds already gives that one",
        permission=in_namespace("deploy"),
        tag="layers",
        request=PublishLayer,
        successes=(Success(body=LayerVersion, description="the version"),),
        errors=(NotFound, QuotaExceeded, StorageFull),
    ),
    Endpoint(
        method="GET",
        path=_LAYER + "/versions/{number}",
        run=_get,
        summary="One version of a layer",
        permission=in_namespace("read"),
        tag="layers",
        request_headers=("If-None-Match",),
        successes=_ONE,
        errors=(NotFound,),
    ),
    Endpoint(
        method="DELETE",
        path=_LAYER + "/versions/{number}",
        run=_delete,
        summary="Delete a version of a layer; functions that mount it keep what it held",
        permission=in_namespace("delete"),
        tag="layers",
        successes=(Success(status=204, description="deleted"),),
        errors=(NotFound, StorageFull),
    ),
)
