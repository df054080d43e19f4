"""Namespaces and their quotas."""

from __future__ import annotations

from fuyun.domain.errors import Conflict, NotFound, PreconditionFailed, StorageFull
from fuyun.domain.functions import Wire
from fuyun.domain.tenants import Namespace, Quotas
from fuyun.transports.api.calls import Answer, Call, Page, PageQuery, paged
from fuyun.transports.api.preconditions import etag, expected_revision, not_modified
from fuyun.transports.api.table import ANY_KEY, Endpoint, Success, in_namespace, on_platform


class NewNamespace(Wire, frozen=True, kw_only=True):
    """A namespace to make."""

    name: str
    quotas: Quotas = Quotas()


async def _list(call: Call) -> Answer:
    mine = [n for n in await call.services.tenants.list_namespaces() if call.principal.namespace in ("*", n.name)]
    return Answer(paged(mine, lambda namespace: namespace.name, call.query_as(PageQuery)))


async def _create(call: Call) -> Answer:
    wanted = call.body_as(NewNamespace)
    made = await call.services.tenants.create_namespace(call.principal, wanted.name, wanted.quotas, call.source)
    return _answer(made, 201, {"location": f"/v1/namespaces/{made.name}"})


async def _get(call: Call) -> Answer:
    found = await call.services.tenants.get_namespace(call.namespace)
    if not_modified(call.request, found.revision):
        return Answer(status=304, headers={"etag": etag(found.revision)})
    return _answer(found)


async def _delete(call: Call) -> Answer:
    await call.services.tenants.delete_namespace(call.principal, call.namespace, call.source)
    return Answer(status=204)


async def _set_quotas(call: Call) -> Answer:
    tenants, name = call.services.tenants, call.namespace
    async with call.life.quotas:
        expected_revision(call.request, (await tenants.get_namespace(name)).revision, "namespace")
        return _answer(await tenants.set_quotas(call.principal, name, call.body_as(Quotas), call.source))


def _answer(namespace: Namespace, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return Answer(namespace, status, {"etag": etag(namespace.revision), "cache-control": "no-cache", **(headers or {})})


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/namespaces",
        run=_list,
        summary="Namespaces this key may see",
        permission=ANY_KEY,
        tag="namespaces",
        query=PageQuery,
        successes=(Success(body=Page[Namespace]),),
    ),
    Endpoint(
        method="POST",
        path="/v1/namespaces",
        run=_create,
        summary="Make a namespace",
        permission=on_platform("namespaces"),
        tag="namespaces",
        request=NewNamespace,
        successes=(Success(status=201, body=Namespace, headers=("ETag", "Location"), description="made"),),
        errors=(Conflict, StorageFull),
    ),
    Endpoint(
        method="GET",
        path="/v1/namespaces/{namespace}",
        run=_get,
        summary="One namespace",
        permission=in_namespace("read"),
        tag="namespaces",
        request_headers=("If-None-Match",),
        successes=(
            Success(body=Namespace, headers=("ETag",)),
            Success(status=304, headers=("ETag",), description="unchanged"),
        ),
        errors=(NotFound,),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/namespaces/{namespace}",
        run=_delete,
        summary="Delete a namespace that holds no functions, with its keys and secrets",
        permission=on_platform("namespaces"),
        tag="namespaces",
        successes=(Success(status=204, description="deleted"),),
        errors=(NotFound, Conflict, StorageFull),
    ),
    Endpoint(
        method="PUT",
        path="/v1/namespaces/{namespace}/quotas",
        run=_set_quotas,
        summary="Replace a namespace's quotas",
        permission=on_platform("namespaces"),
        tag="namespaces",
        request=Quotas,
        request_headers=("If-Match",),
        successes=(Success(body=Namespace, headers=("ETag",)),),
        errors=(NotFound, PreconditionFailed, StorageFull),
    ),
)
