"""Is it alive, is it ready: for supervisors and load balancers. No key needed."""

from __future__ import annotations

from fuyun.domain.errors import Unavailable
from fuyun.domain.functions import Wire
from fuyun.transports.api.calls import Answer, Call
from fuyun.transports.api.table import OPEN, Endpoint, Success


class Health(Wire, frozen=True, kw_only=True):
    """A short word on how things are."""

    status: str


async def _alive(call: Call) -> Answer:
    return Answer(Health(status="alive"))


async def _ready(call: Call) -> Answer:
    reason = "the platform is stopping" if call.life.closing else call.services.unready()
    if reason:
        raise Unavailable(f"not ready: {reason}", hint="send requests elsewhere until it is", retry_after_s=1)
    return Answer(Health(status="ready"))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/healthz",
        run=_alive,
        summary="Is the process alive",
        permission=OPEN,
        tag="health",
        successes=(Success(body=Health, description="alive"),),
    ),
    Endpoint(
        method="GET",
        path="/readyz",
        run=_ready,
        summary="May requests be sent here",
        permission=OPEN,
        tag="health",
        successes=(Success(body=Health, description="ready"),),
        errors=(Unavailable,),
    ),
)
