"""One request as an endpoint sees it, and the answers it may give."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import msgspec
from starlette.requests import Request

from fuyun.base.tasks import Scope
from fuyun.domain.errors import Internal, PayloadTooLarge, RequestTimedOut
from fuyun.domain.functions import Wire
from fuyun.domain.tenants import Principal

if TYPE_CHECKING:
    from fuyun.domain.functions import Version
    from fuyun.ports.instances import StartPlan
    from fuyun.services.buckets import Buckets
    from fuyun.services.buses import Buses
    from fuyun.services.deferring import Deferring
    from fuyun.services.deploying import Deployer
    from fuyun.services.flows import Flows
    from fuyun.services.functions import Functions
    from fuyun.services.gauges import Gauges
    from fuyun.services.invoking import Invoker
    from fuyun.services.layers import Layers
    from fuyun.services.measures import Measures
    from fuyun.services.messaging import Messaging
    from fuyun.services.objects import Objects
    from fuyun.services.outside import Outside
    from fuyun.services.oversight import Oversight
    from fuyun.services.records import Records
    from fuyun.services.tenants import Tenants
    from fuyun.services.triggers.brokers import BrokerTriggers
from fuyun.services.triggers.governing import Governing

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of what a request may bring. Bytes and seconds."""

    json_bytes: int = 2 * 2**20
    upload_bytes: int = 512 * 2**20
    body_idle_s: float = 20.0  # a client may pause that long while sending


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the API calls. `status` describes the node (see `status.NodeStatus`), `unready` says why requests should not
    be sent here yet or any more ("" when they should), `gauges` is asked at scrape time."""

    tenants: Tenants
    functions: Functions
    deployer: Deployer
    layers: Layers
    buses: Buses
    buckets: Buckets
    objects: Objects
    records: Records
    flows: Flows
    brokers: BrokerTriggers
    invoker: Invoker
    deferring: Deferring
    oversight: Oversight
    triggers: Governing
    messaging: Messaging
    outside: Outside
    measures: Measures
    gauges: Callable[[], Gauges]
    plan_of: Callable[[Version], StartPlan]
    inventory: Callable[[], Awaitable[dict[str, Any]]]
    unready: Callable[[], str]
    node: str = "local"
    gateway_url: Callable[[], str] = lambda: ""
    s3_url: Callable[[], str] = lambda: ""
    limits: Limits = Limits()


class Page(Wire, Generic[T], frozen=True, kw_only=True):
    """Some items of a list. `next` is what to pass as `after` for the following page; null when this is the last."""

    items: list[T]
    next: str | None = None


class PageQuery(Wire, frozen=True, kw_only=True):
    """Which page of a list."""

    after: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000, description="items at most")] = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer: `body` is encoded as JSON (None with status 204 or 304: nothing)."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Life:
    """The application's own life: tasks that outlive a request, and streams that end when it closes."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.closing = False
        self.streams: set[Callable[[], None]] = set()  # each ends one open stream
        self.quotas = asyncio.Lock()  # makes comparing a namespace's revision and changing it one step

    def close_streams(self) -> None:
        """From now on `/readyz` says no, and answers that would go on for ever end."""
        self.closing = True
        for end in list(self.streams):
            end()


@dataclass(slots=True, kw_only=True)
class Call:
    """A request that passed the table's checks: key, permission, path, query and body are what the row asks for."""

    services: Services
    life: Life
    request: Request
    id: str
    params: Mapping[str, str]
    asking: Principal | None = None
    query: Any = None
    body: Any = None

    @property
    def principal(self) -> Principal:
        """Who asks; only for endpoints that need a key."""
        if self.asking is None:
            raise Internal(f"{self.request.url.path} asked for a principal without needing a key")
        return self.asking

    @property
    def namespace(self) -> str:
        """The namespace of the path."""
        return self.params["namespace"]

    @property
    def function(self) -> str:
        """The function of the path."""
        return self.params["function"]

    @property
    def source(self) -> str:
        """Address the request came from, for the audit log."""
        return self.request.client.host if self.request.client else ""

    def query_as(self, kind: type[T]) -> T:
        """The decoded query."""
        if not isinstance(self.query, kind):
            raise Internal(f"the table declares another query than {kind.__name__} for {self.request.url.path}")
        return self.query

    def body_as(self, kind: type[T]) -> T:
        """The decoded JSON body."""
        if not isinstance(self.body, kind):
            raise Internal(f"the table declares another body than {kind.__name__} for {self.request.url.path}")
        return self.body

    async def read(self, limit_bytes: int) -> bytes:
        """The whole request body, see `pieces`."""
        return b"".join([piece async for piece in self.pieces(limit_bytes)])

    async def pieces(self, limit_bytes: int) -> AsyncGenerator[bytes, None]:
        """The request body as it arrives; PayloadTooLarge as soon as it is known to pass the limit, before more of it
        is read."""
        declared = self.request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit_bytes:
            raise too_large(limit_bytes)
        taken = 0
        chunks = self.request.stream()
        while True:
            try:
                async with asyncio.timeout(self.services.limits.body_idle_s):
                    chunk = await anext(chunks, None)
            except TimeoutError:
                raise RequestTimedOut(
                    f"no byte of the body arrived for {self.services.limits.body_idle_s:g} s",
                    hint="send the body without pauses",
                ) from None
            if chunk is None:
                return
            taken += len(chunk)
            if taken > limit_bytes:
                raise too_large(limit_bytes)
            yield chunk


def too_large(limit_bytes: int) -> PayloadTooLarge:
    """The error for a request body over `limit_bytes`."""
    return PayloadTooLarge(
        f"the request body is over {limit_bytes} bytes",
        hint=f"send at most {limit_bytes} bytes",
        limit_bytes=limit_bytes,
    )


def paged(items: list[T], name: Callable[[T], str], query: PageQuery) -> Page[T]:
    """The page of an in-memory list that `query` asks for; `name` is what the list is ordered by."""
    rest = [item for item in sorted(items, key=name) if name(item) > query.after]
    page = rest[: query.limit]
    return Page(items=page, next=name(page[-1]) if len(rest) > len(page) else None)
