"""Keys of a namespace, and of the platform (`*`)."""

from __future__ import annotations

from fuyun.domain.errors import Conflict, Forbidden, NotFound, StorageFull
from fuyun.domain.functions import Wire
from fuyun.domain.tenants import Key, Role
from fuyun.transports.api.calls import Answer, Call, Page, PageQuery, paged
from fuyun.transports.api.table import ANY_KEY, Endpoint, Success, in_namespace


class NewKey(Wire, frozen=True, kw_only=True):
    """A key to make. `expires_s` is wall-clock seconds since the epoch; null: it does not expire."""

    name: str = ""
    role: Role
    expires_s: float | None = None


class MadeKey(Wire, frozen=True, kw_only=True):
    """A new key with its token, which is shown this once."""

    key: Key
    token: str


async def _list(call: Call) -> Answer:
    found = await call.services.tenants.list_keys(call.params["scope"])
    return Answer(paged(found, lambda key: key.id, call.query_as(PageQuery)))


async def _create(call: Call) -> Answer:
    wanted, scope = call.body_as(NewKey), call.params["scope"]
    key, token = await call.services.tenants.create_key(
        call.principal, scope, wanted.role, wanted.name, wanted.expires_s, call.source
    )
    return Answer(MadeKey(key=key, token=token), 201)


async def _delete(call: Call) -> Answer:
    await call.services.tenants.delete_key(call.principal, call.params["scope"], call.params["key"], call.source)
    return Answer(status=204)


class AccessKey(Wire, frozen=True, kw_only=True):
    """A key as S3's clients take it."""

    access_key: str
    secret_key: str
    endpoint: str
    region: str = "us-east-1"


async def _access(call: Call) -> Answer:
    key = call.params["key"]
    secret = call.services.tenants.reveal_access(call.principal, call.params["scope"], key)
    return Answer(AccessKey(access_key=key, secret_key=secret, endpoint=call.services.s3_url()))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/namespaces/{scope}/keys",
        run=_list,
        summary="Keys, without their tokens",
        permission=in_namespace("keys"),
        tag="keys",
        query=PageQuery,
        successes=(Success(body=Page[Key]),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="POST",
        path="/v1/namespaces/{scope}/keys",
        run=_create,
        summary="Make a key; the answer is the only time its token is shown",
        permission=in_namespace("keys"),
        tag="keys",
        request=NewKey,
        successes=(Success(status=201, body=MadeKey, description="made"),),
        errors=(NotFound, StorageFull),
    ),
    Endpoint(
        method="GET",
        path="/v1/namespaces/{scope}/keys/{key}/s3",
        run=_access,
        summary="A key as S3's clients take it; for whoever holds it, and whoever may make such keys",
        permission=ANY_KEY,
        tag="keys",
        successes=(Success(body=AccessKey),),
        errors=(NotFound, Forbidden),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/namespaces/{scope}/keys/{key}",
        run=_delete,
        summary="Revoke a key; its next request is refused",
        permission=in_namespace("keys"),
        tag="keys",
        successes=(Success(status=204, description="revoked"),),
        errors=(NotFound, Conflict, StorageFull),
    ),
)
