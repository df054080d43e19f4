"""Tables: JSON documents by key, changed in transactions, found by their keys and by indexes."""

from __future__ import annotations

from fuyun.domain.errors import Conflict, NotFound, PreconditionFailed, QuotaExceeded, StorageFull
from fuyun.domain.flows import QueryItems, ReadItems, Write
from fuyun.domain.tables import Changed, Item, Table, TableSpec
from fuyun.transports.api.calls import Answer, Call, Page, PageQuery
from fuyun.transports.api.preconditions import etag, expected_revision, not_modified
from fuyun.transports.api.table import Endpoint, Success, in_namespace

_TABLE = "/v1/namespaces/{namespace}/tables/{table}"


async def _list(call: Call) -> Answer:
    query = call.query_as(PageQuery)
    found = await call.services.flows.tables.list_tables(call.namespace, query.after, query.limit + 1)
    items = found[: query.limit]
    return Answer(Page(items=items, next=items[-1].name if len(found) > len(items) else None))


async def _get(call: Call) -> Answer:
    table = await call.services.flows.tables.get(call.namespace, call.params["table"])
    headers = {"etag": etag(table.revision)}
    if not_modified(call.request, table.revision):
        return Answer(status=304, headers=headers)
    return Answer(table, 200, headers)


async def _put(call: Call) -> Answer:
    tables, name = call.services.flows.tables, call.params["table"]
    try:
        current: int | None = (await tables.get(call.namespace, name)).revision
    except NotFound:
        current = None
    expected = expected_revision(call.request, current, "table")
    made = await tables.put(call.principal, call.namespace, name, call.body_as(TableSpec), expected, call.source)
    return Answer(made, 200, {"etag": etag(made.revision)})


async def _delete(call: Call) -> Answer:
    await call.services.flows.tables.delete(call.principal, call.namespace, call.params["table"], call.source)
    return Answer(status=204)


async def _write(call: Call) -> Answer:
    changes = call.body_as(Write).changes
    return Answer(await call.services.flows.tables.write(call.namespace, call.params["table"], changes))


async def _read(call: Call) -> Answer:
    keys = call.body_as(ReadItems).keys
    return Answer(await call.services.flows.tables.find_items(call.namespace, call.params["table"], keys))


async def _query(call: Call) -> Answer:
    wanted = call.body_as(QueryItems)
    items, following = await call.services.flows.tables.query(
        call.namespace, call.params["table"], wanted.query, wanted.after, wanted.match
    )
    return Answer(Page(items=items, next=following or None))


ENDPOINTS = (
    Endpoint(
        method="GET", path="/v1/namespaces/{namespace}/tables", run=_list, tag="tables", summary="Tables by name",
        permission=in_namespace("read"), query=PageQuery, successes=(Success(body=Page[Table]),), errors=(NotFound,),
    ),
    Endpoint(
        method="GET", path=_TABLE, run=_get, tag="tables", summary="A table",
        permission=in_namespace("read"), request_headers=("If-None-Match",),
        successes=(
            Success(body=Table, headers=("ETag",)),
            Success(status=304, headers=("ETag",), description="unchanged"),
        ),
        errors=(NotFound,),
    ),
    Endpoint(
        method="PUT", path=_TABLE, run=_put, tag="tables", summary="Create a table with its change feed, or change it",
        permission=in_namespace("deploy"), request=TableSpec, request_headers=("If-Match", "If-None-Match"),
        successes=(Success(body=Table, headers=("ETag",)),),
        errors=(NotFound, Conflict, PreconditionFailed, QuotaExceeded, StorageFull),
    ),
    Endpoint(
        method="DELETE", path=_TABLE, run=_delete, tag="tables", summary="Delete a table with its items and its feed",
        permission=in_namespace("delete"), successes=(Success(status=204, description="deleted"),),
        errors=(NotFound, StorageFull),
    ),
    Endpoint(
        method="POST", path=_TABLE + "/write", run=_write, tag="tables",
        summary="Change items in one transaction; what it did is durable when it answers",
        permission=in_namespace("send"), request=Write,
        successes=(Success(body=list[Changed], description="what came of each change"),),
        errors=(NotFound, Conflict, QuotaExceeded, StorageFull),
    ),
    Endpoint(
        method="POST", path=_TABLE + "/read", run=_read, tag="tables", summary="Items by their keys, of one moment",
        permission=in_namespace("receive"), request=ReadItems,
        successes=(Success(body=list[Item | None], description="the item of each key; null where there is none"),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="POST", path=_TABLE + "/query", run=_query, tag="tables",
        summary="Items in the order of their keys or of an index",
        permission=in_namespace("receive"), request=QueryItems, successes=(Success(body=Page[Item]),),
        errors=(NotFound,),
    ),
)  # fmt: skip
