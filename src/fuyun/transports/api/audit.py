"""The audit log: every change, who made it, when and from where."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fuyun.domain.errors import Forbidden
from fuyun.domain.functions import Wire
from fuyun.domain.tenants import AuditEntry
from fuyun.transports.api.calls import Answer, Call, Page
from fuyun.transports.api.table import ANY_KEY, PATH_PARAMS, Endpoint, Success


class AuditQuery(Wire, frozen=True, kw_only=True):
    """Which entries: of one namespace or `*` for all; those after an id."""

    namespace: Annotated[str, msgspec.Meta(description="a namespace, or * for all; default: the key's own")] = ""
    after: Annotated[str, msgspec.Meta(description="id of the last entry seen")] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000, description="items at most")] = 100


async def _list(call: Call) -> Answer:
    query = call.query_as(AuditQuery)
    namespace = query.namespace or call.principal.namespace
    call.principal.require("read", namespace)
    PATH_PARAMS["scope"].check("namespace", namespace)
    found = await call.services.tenants.list_audit(namespace, query.after, query.limit + 1)
    items = found[: query.limit]
    return Answer(Page(items=items, next=items[-1].id if len(found) > len(items) else None))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/audit",
        run=_list,
        summary="Changes, oldest first",
        permission=ANY_KEY,
        tag="audit",
        query=AuditQuery,
        successes=(Success(body=Page[AuditEntry]),),
        errors=(Forbidden,),
    ),
)
