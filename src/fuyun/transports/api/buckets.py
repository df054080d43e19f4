"""Buckets, and a look at what is in them. Bytes go over S3, for which `presign` gives addresses."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

import msgspec

from fuyun.base import clock, signatures
from fuyun.domain.errors import Conflict, NotFound, QuotaExceeded, StorageFull
from fuyun.domain.functions import Wire
from fuyun.domain.objects import Bucket, Object, Selection, absent_bucket, check_key
from fuyun.transports.api.calls import Answer, Call, Page, PageQuery
from fuyun.transports.api.table import Endpoint, Success, in_namespace

_BUCKET = "/v1/namespaces/{namespace}/buckets/{bucket}"
_REGION = "us-east-1"
_Key = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class ObjectsQuery(Wire, frozen=True, kw_only=True):
    """Which objects: those whose keys begin with `prefix`; keys that go on with `delimiter` are folded."""

    prefix: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    delimiter: Annotated[str, msgspec.Meta(max_length=16)] = ""
    after: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000, description="items at most")] = 100


class ObjectQuery(Wire, frozen=True, kw_only=True):
    """An object, or one of its versions."""

    key: _Key
    version: Annotated[str, msgspec.Meta(max_length=32)] = ""


class ObjectEntry(Wire, frozen=True, kw_only=True):
    """An object in a list; a `prefix` stands for all keys that begin with it."""

    key: str
    prefix: bool = False
    size_bytes: int = 0
    etag: str = ""
    content_type: str = ""
    created_s: float = 0.0


class Presign(Wire, frozen=True, kw_only=True):
    """What the address is to be good for, and how long."""

    method: Literal["GET", "PUT", "HEAD", "DELETE"] = "GET"
    key: _Key
    lasts_s: Annotated[int, msgspec.Meta(ge=1, le=604_800, description="seconds the address is good for")] = 3600


class Presigned(Wire, frozen=True, kw_only=True):
    """An address that whoever has it may use, in the name of the key that asked."""

    url: str


def _held(call: Call, action: str) -> Bucket:
    """The bucket of the path, which is to be the namespace's. NotFound."""
    found = call.services.buckets.access(call.principal, action, call.params["bucket"])
    if found.namespace != call.namespace:
        raise absent_bucket(found.name)
    return found


async def _list(call: Call) -> Answer:
    query = call.query_as(PageQuery)
    found = await call.services.buckets.list_buckets(call.principal, call.namespace, query.after, query.limit + 1)
    items = found[: query.limit]
    return Answer(Page(items=items, next=items[-1].name if len(found) > len(items) else None))


async def _get(call: Call) -> Answer:
    return Answer(await call.services.buckets.get_bucket(call.principal, _held(call, "read").name))


async def _create(call: Call) -> Answer:
    made = await call.services.buckets.create_bucket(
        call.principal, call.namespace, call.params["bucket"], _REGION, call.source
    )
    return Answer(made, 201)


async def _delete(call: Call) -> Answer:
    await call.services.buckets.delete_bucket(call.principal, _held(call, "delete").name, call.source)
    return Answer(status=204)


async def _list_objects(call: Call) -> Answer:
    query = call.query_as(ObjectsQuery)
    selection = Selection(prefix=query.prefix, delimiter=query.delimiter, after=query.after, limit=query.limit)
    bucket = _held(call, "read objects")
    found = await call.services.objects.list_objects(call.principal, bucket.name, selection)
    entries = [_entry(one) for one in found.objects] + [ObjectEntry(key=one, prefix=True) for one in found.prefixes]
    return Answer(Page(items=sorted(entries, key=lambda one: one.key), next=found.next_key if found.more else None))


def _entry(found: Object) -> ObjectEntry:
    return ObjectEntry(
        key=found.key, size_bytes=found.size_bytes, etag=found.etag, created_s=found.created_s,
        content_type=found.details.headers.get("content-type", ""),
    )  # fmt: skip


async def _delete_object(call: Call) -> Answer:
    query = call.query_as(ObjectQuery)
    bucket = _held(call, "write objects")
    await call.services.objects.delete(call.principal, bucket.name, query.key, query.version)
    return Answer(status=204)


async def _presign(call: Call) -> Answer:
    wanted = call.body_as(Presign)
    action = "read objects" if wanted.method in ("GET", "HEAD") else "write objects"
    bucket = _held(call, action)
    key = call.principal.key_id
    access = (key, call.services.tenants.access_secret(key), _REGION)
    url = f"{call.services.s3_url()}/{bucket.name}/{quote(check_key(wanted.key), safe='/~')}"
    return Answer(Presigned(url=signatures.presigned(wanted.method, url, access, wanted.lasts_s, clock.wall_s())))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/namespaces/{namespace}/buckets",
        run=_list,
        summary="Buckets by name",
        permission=in_namespace("read"),
        tag="objects",
        query=PageQuery,
        successes=(Success(body=Page[Bucket]),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="GET",
        path=_BUCKET,
        run=_get,
        summary="One bucket, with its rules and what it holds",
        permission=in_namespace("read"),
        tag="objects",
        successes=(Success(body=Bucket),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="PUT",
        path=_BUCKET,
        run=_create,
        summary="Make a bucket; its name is unique on the platform",
        permission=in_namespace("deploy"),
        tag="objects",
        successes=(Success(status=201, body=Bucket, description="made"),),
        errors=(NotFound, Conflict, QuotaExceeded, StorageFull),
    ),
    Endpoint(
        method="DELETE",
        path=_BUCKET,
        run=_delete,
        summary="Delete an empty bucket",
        permission=in_namespace("delete"),
        tag="objects",
        successes=(Success(status=204, description="deleted"),),
        errors=(NotFound, Conflict, StorageFull),
    ),
    Endpoint(
        method="GET",
        path=f"{_BUCKET}/objects",
        run=_list_objects,
        summary="Objects by key",
        permission=in_namespace("read objects"),
        tag="objects",
        query=ObjectsQuery,
        successes=(Success(body=Page[ObjectEntry]),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="DELETE",
        path=f"{_BUCKET}/objects",
        run=_delete_object,
        summary="Delete an object, or one version of it; deleting what is gone is no error",
        permission=in_namespace("write objects"),
        tag="objects",
        query=ObjectQuery,
        successes=(Success(status=204, description="deleted"),),
        errors=(NotFound, StorageFull),
    ),
    Endpoint(
        method="POST",
        path=f"{_BUCKET}/presign",
        run=_presign,
        summary="An address of S3 that is good for one operation on one object",
        permission=in_namespace("read objects"),
        tag="objects",
        request=Presign,
        successes=(Success(body=Presigned),),
        errors=(NotFound,),
    ),
)
