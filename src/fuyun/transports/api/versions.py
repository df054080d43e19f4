"""Versions: immutable, numbered; `$LATEST` is the draft."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fuyun.domain.errors import Conflict, NotFound, StorageFull
from fuyun.domain.functions import Version, Wire
from fuyun.domain.names import LATEST
from fuyun.transports.api.calls import Answer, Call, Page
from fuyun.transports.api.table import Endpoint, Success, in_namespace


class VersionsQuery(Wire, frozen=True, kw_only=True):
    """Which page of versions."""

    after: Annotated[int, msgspec.Meta(ge=-1, le=999_999_999, description="number of the last version seen")] = -1
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000, description="items at most")] = 100


class Publish(Wire, frozen=True, kw_only=True):
    """What to remember about a new version."""

    description: Annotated[str, msgspec.Meta(max_length=1000)] = ""


async def _list(call: Call) -> Answer:
    query = call.query_as(VersionsQuery)
    found = await call.services.functions.list_versions(call.namespace, call.function, query.after, query.limit + 1)
    items = found[: query.limit]
    return Answer(Page(items=items, next=str(items[-1].number) if len(found) > len(items) else None))


def number_of(version: str) -> int:
    """The number that a path's `version` means; 0 is the draft."""
    return 0 if version == LATEST else int(version)


async def _get(call: Call) -> Answer:
    number = number_of(call.params["version"])
    return Answer(await call.services.functions.get_version(call.namespace, call.function, number))


async def _publish(call: Call) -> Answer:
    description = call.body_as(Publish).description
    return Answer(
        await call.services.functions.publish(call.principal, call.namespace, call.function, description, call.source)
    )


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/namespaces/{namespace}/functions/{function}/versions",
        run=_list,
        summary="Versions, the draft first",
        permission=in_namespace("read"),
        tag="versions",
        query=VersionsQuery,
        successes=(Success(body=Page[Version]),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="POST",
        path="/v1/namespaces/{namespace}/functions/{function}/versions",
        run=_publish,
        summary="Freeze the draft as the next version; an unchanged draft gives the version it already is",
        permission=in_namespace("deploy"),
        tag="versions",
        request=Publish,
        successes=(Success(body=Version, description="the version"),),
        errors=(NotFound, Conflict, StorageFull),
    ),
    Endpoint(
        method="GET",
        path="/v1/namespaces/{namespace}/functions/{function}/versions/{version}",
        run=_get,
        summary="One version",
        permission=in_namespace("read"),
        tag="versions",
        successes=(Success(body=Version),),
        errors=(NotFound,),
    ),
)
