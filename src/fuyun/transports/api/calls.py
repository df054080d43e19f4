"""One request as an endpoint sees it, and the answers it may give."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import msgspec
from prometheus_client import CollectorRegistry
from starlette.requests import Request

from fuyun.base.tasks import Scope
from fuyun.domain.errors import BadRequest, Internal, NotAcceptable, PayloadTooLarge, RequestTimedOut
from fuyun.domain.functions import Wire
from fuyun.domain.names import nearest
from fuyun.domain.tenants import Principal

if TYPE_CHECKING:
    from fuyun.services.deploying import Deployer
    from fuyun.services.functions import Functions
    from fuyun.services.invoking import Invoker
    from fuyun.services.measures import Gauges, Measures
    from fuyun.services.records import Records
    from fuyun.services.tenants import Tenants

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
    records: Records
    invoker: Invoker
    measures: Measures
    gauges: Callable[[], Gauges]
    inventory: Callable[[], dict[str, Any]]
    unready: Callable[[], str]
    node: str = "local"
    gateway_url: Callable[[], str] = lambda: ""
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
    """The application's own life: tasks that outlive a request, streams that end when it closes, and its metrics."""

    def __init__(self, scope: Scope, registry: CollectorRegistry) -> None:
        self.scope = scope
        self.registry = registry
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
        """The request body; PayloadTooLarge as soon as it is known to pass the limit, before more of it is read."""
        declared = self.request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit_bytes:
            raise too_large(limit_bytes)
        taken = bytearray()
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
                return bytes(taken)
            taken += chunk
            if len(taken) > limit_bytes:
                raise too_large(limit_bytes)


def too_large(limit_bytes: int) -> PayloadTooLarge:
    """The error for a request body over `limit_bytes`."""
    return PayloadTooLarge(
        f"the request body is over {limit_bytes} bytes",
        hint=f"send at most {limit_bytes} bytes",
        limit_bytes=limit_bytes,
    )


def check_media(request: Request, wanted: str) -> None:
    """NotAcceptable (415) unless the request's body says it is `wanted`; a request that says nothing passes."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given and given != wanted:
        raise NotAcceptable(f"the body is {given!r}, this route takes {wanted}", hint=f"send content-type: {wanted}")


def decode_json(data: bytes, kind: Any) -> Any:
    """`data` as `kind`, else BadRequest that names the place and, for an unknown field, the nearest known one."""
    if not data:
        raise BadRequest("the request has no body", hint="send a JSON object")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as exc:
        raise _invalid(str(exc), "body", kind) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BadRequest(f"the body is not JSON: {exc}", hint="send UTF-8 encoded JSON") from exc


def decode_query(request: Request, kind: Any) -> Any:
    """The query string as `kind`, else BadRequest. Each parameter may stand once."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in found:
            raise BadRequest(f"query parameter {name!r} stands twice", hint="give it once", path=name)
        found[name] = value
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as exc:
        raise _invalid(str(exc), "query", kind) from exc


def _invalid(text: str, where: str, kind: Any) -> BadRequest:
    message, _, place = text.partition(" - at `$")
    path = place.rstrip("`").lstrip(".")
    hint = f"see /v1/openapi.json for what the {where} may hold"
    if "unknown field `" in message:
        field_name = message.split("`")[1]
        known = [f.encode_name for f in msgspec.structs.fields(kind)] if _is_struct(kind) and not path else []
        close = nearest(field_name, known)
        path = f"{path}.{field_name}" if path else field_name
        message = f"unknown field {field_name!r}"
        if close:
            hint = f"did you mean {close!r}?"
        elif known:
            hint = f"known fields: {', '.join(known)}"
    return BadRequest(f"{where}: {message}" + (f" at {path}" if path else ""), hint=hint, path=path)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def paged(items: list[T], name: Callable[[T], str], query: PageQuery) -> Page[T]:
    """The page of an in-memory list that `query` asks for; `name` is what the list is ordered by."""
    rest = [item for item in sorted(items, key=name) if name(item) > query.after]
    page = rest[: query.limit]
    return Page(items=page, next=name(page[-1]) if len(rest) > len(page) else None)
