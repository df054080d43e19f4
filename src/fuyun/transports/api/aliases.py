"""Aliases: mutable names for versions, changed by compare-and-set."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fuyun.domain.errors import Conflict, NotFound, PreconditionFailed, StorageFull
from fuyun.domain.functions import Alias, Weight, Wire
from fuyun.transports.api.calls import Answer, Call, Page, PageQuery, paged
from fuyun.transports.api.preconditions import etag, expected_revision, not_modified
from fuyun.transports.api.table import Endpoint, Success, in_namespace

_ALIAS = "/v1/namespaces/{namespace}/functions/{function}/aliases/{alias}"


class SetAlias(Wire, frozen=True, kw_only=True):
    """Where an alias points: one version, or several by weight (percent, together 100)."""

    weights: tuple[Weight, ...]
    sticky_header: Annotated[str, msgspec.Meta(max_length=100, pattern=r"^[A-Za-z0-9-]*$")] = ""


async def _list(call: Call) -> Answer:
    found = await call.services.functions.list_aliases(call.namespace, call.function)
    return Answer(paged(found, lambda alias: alias.name, call.query_as(PageQuery)))


async def _find(call: Call) -> Alias | None:
    found = await call.services.functions.list_aliases(call.namespace, call.function)
    return next((alias for alias in found if alias.name == call.params["alias"]), None)


async def _get(call: Call) -> Answer:
    found = await call.services.functions.get_alias(call.namespace, call.function, call.params["alias"])
    if not_modified(call.request, found.revision):
        return Answer(status=304, headers={"etag": etag(found.revision)})
    return _answer(found)


async def _set(call: Call) -> Answer:
    current = await _find(call)
    expected = expected_revision(call.request, current.revision if current else None, "alias")
    wanted = call.body_as(SetAlias)
    alias = await call.services.functions.set_alias(
        call.principal, call.namespace, call.function, call.params["alias"], wanted.weights, wanted.sticky_header,
        expected, call.source,
    )  # fmt: skip
    return _answer(alias)


async def _delete(call: Call) -> Answer:
    current = await _find(call)
    expected = expected_revision(call.request, current.revision if current else None, "alias")
    await call.services.functions.delete_alias(
        call.principal, call.namespace, call.function, call.params["alias"], expected, call.source
    )
    return Answer(status=204)


async def _rollback(call: Call) -> Answer:
    current = await call.services.functions.get_alias(call.namespace, call.function, call.params["alias"])
    expected = expected_revision(call.request, current.revision, "alias")
    return _answer(
        await call.services.functions.rollback(
            call.principal, call.namespace, call.function, call.params["alias"], expected, call.source
        )
    )


def _answer(alias: Alias) -> Answer:
    return Answer(alias, 200, {"etag": etag(alias.revision), "cache-control": "no-cache"})


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/namespaces/{namespace}/functions/{function}/aliases",
        run=_list,
        summary="Aliases, by name",
        permission=in_namespace("read"),
        tag="aliases",
        query=PageQuery,
        successes=(Success(body=Page[Alias]),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="GET",
        path=_ALIAS,
        run=_get,
        summary="One alias",
        permission=in_namespace("read"),
        tag="aliases",
        request_headers=("If-None-Match",),
        successes=(
            Success(body=Alias, headers=("ETag",)),
            Success(status=304, headers=("ETag",), description="unchanged"),
        ),
        errors=(NotFound,),
    ),
    Endpoint(
        method="PUT",
        path=_ALIAS,
        run=_set,
        summary="Create or move an alias; If-Match and If-None-Match make it a compare-and-set",
        permission=in_namespace("deploy"),
        tag="aliases",
        request=SetAlias,
        request_headers=("If-Match", "If-None-Match"),
        successes=(Success(body=Alias, headers=("ETag",)),),
        errors=(NotFound, PreconditionFailed, Conflict, StorageFull),
    ),
    Endpoint(
        method="DELETE",
        path=_ALIAS,
        run=_delete,
        summary="Delete an alias; its versions stay",
        permission=in_namespace("deploy"),
        tag="aliases",
        request_headers=("If-Match",),
        successes=(Success(status=204, description="deleted"),),
        errors=(NotFound, PreconditionFailed, StorageFull),
    ),
    Endpoint(
        method="POST",
        path=_ALIAS + "/rollback",
        run=_rollback,
        summary="Point the alias back at what it served before",
        permission=in_namespace("deploy"),
        tag="aliases",
        request_headers=("If-Match",),
        successes=(Success(body=Alias, headers=("ETag",)),),
        errors=(NotFound, PreconditionFailed, Conflict, StorageFull),
    ),
)
