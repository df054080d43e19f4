"""Secrets of a namespace: names can be read, values never."""

from __future__ import annotations

from fuyun.domain.errors import NotFound, StorageFull
from fuyun.domain.functions import Wire
from fuyun.transports.api.calls import Answer, Call, Page, PageQuery, paged
from fuyun.transports.api.table import Endpoint, Success, in_namespace


class SecretValue(Wire, frozen=True, kw_only=True):
    """What a secret holds."""

    value: str

    def __repr__(self) -> str:
        return "SecretValue(...)"


class SecretName(Wire, frozen=True, kw_only=True):
    """A secret without its value."""

    name: str


async def _list(call: Call) -> Answer:
    names = await call.services.tenants.list_secrets(call.namespace)
    page = paged(names, str, call.query_as(PageQuery))
    return Answer(Page(items=[SecretName(name=name) for name in page.items], next=page.next))


async def _put(call: Call) -> Answer:
    value = call.body_as(SecretValue).value
    await call.services.tenants.put_secret(call.principal, call.namespace, call.params["secret"], value, call.source)
    return Answer(status=204)


async def _delete(call: Call) -> Answer:
    await call.services.tenants.delete_secret(call.principal, call.namespace, call.params["secret"], call.source)
    return Answer(status=204)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/namespaces/{namespace}/secrets",
        run=_list,
        summary="Names of secrets",
        permission=in_namespace("read"),
        tag="secrets",
        query=PageQuery,
        successes=(Success(body=Page[SecretName]),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="PUT",
        path="/v1/namespaces/{namespace}/secrets/{secret}",
        run=_put,
        summary="Create or replace a secret; new instances get the new value",
        permission=in_namespace("secrets"),
        tag="secrets",
        request=SecretValue,
        successes=(Success(status=204, description="stored"),),
        errors=(NotFound, StorageFull),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/namespaces/{namespace}/secrets/{secret}",
        run=_delete,
        summary="Delete a secret",
        permission=in_namespace("secrets"),
        tag="secrets",
        successes=(Success(status=204, description="deleted"),),
        errors=(NotFound, StorageFull),
    ),
)
