"""Run a function on a JSON payload and give its answer back."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Annotated

import msgspec
import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fuyun.domain.errors import (
    BadRequest,
    BuildFailed,
    FunctionError,
    FuyunError,
    HostUnable,
    InstanceLost,
    LoopDetected,
    NotFound,
    QuotaExceeded,
    StorageFull,
    Throttled,
    Unavailable,
)
from fuyun.domain.functions import Wire
from fuyun.domain.names import LATEST, check_qualifier
from fuyun.services.deferring import is_asynchronous
from fuyun.services.invoking import Flight
from fuyun.services.requests import Request
from fuyun.services.routes import Route
from fuyun.transports.api.calls import Answer, Call, Life
from fuyun.transports.api.table import Endpoint, Success, in_namespace
from fuyun.transports.web.problems import PROBLEM, problem_answer

log = structlog.get_logger("fuyun.api")

#: Request headers a function does not get: they hold the caller's key, or end at this hop.
_KEPT_BACK = frozenset({"authorization", "fuyun-key", "connection", "transfer-encoding", "expect", "te", "upgrade"})
_NOTHING = b"{}"


def _function_errors(cls: type[FuyunError] = FunctionError) -> tuple[type[FuyunError], ...]:
    below = [error for child in cls.__subclasses__() for error in _function_errors(child)]
    return (cls, *(error for error in below if error is not BuildFailed))


class InvokeQuery(Wire, frozen=True, kw_only=True):
    """Which version runs."""

    qualifier: Annotated[str, msgspec.Meta(description="$LATEST, a version number or an alias", max_length=64)] = LATEST


class Accepted(Wire, frozen=True, kw_only=True):
    """An asynchronous invocation that is on the disk. `duplicate`: it was there already, under the same key."""

    id: str
    duplicate: bool


class Answering(Response):
    """The answer of one invocation; begins it when it is sent. A `Responder` of `services/invoking.py`."""

    def __init__(self, call: Call, route: Route, body: bytes) -> None:
        super().__init__()
        self._call = call
        self._life: Life = call.life
        self._route = route
        self._payload = body
        self._head: tuple[int, str] | None = None
        self._whole = False
        self._chunks: deque[bytes] = deque()
        self._error: FuyunError | None = None
        self._done = False
        self._gone = False
        self._more = asyncio.Event()

    # --- Responder -----------------------------------------------------------------------------------------------

    def on_result(self, status: int, headers: list[tuple[str, str]] | None, body: bytes) -> None:
        """All of it at once."""
        self._whole = True
        self._chunks.append(body)
        self.on_head(status, headers or [("content-type", "application/json")])
        self.on_end()

    def on_head(self, status: int, headers: list[tuple[str, str]]) -> None:
        """It begins. Of a function's headers only the content type is meant for callers of the API, and an
        application's status is told in a header: the API itself has done what was asked."""
        media = next((value for name, value in headers if name.lower() == "content-type"), "application/octet-stream")
        self._head = (status, media if media.isprintable() and media.isascii() else "application/octet-stream")
        self._more.set()

    def on_body(self, chunk: bytes) -> None:
        """It goes on."""
        self._chunks.append(chunk)
        self._more.set()

    def on_end(self) -> None:
        """It is complete."""
        self._done = True
        self._more.set()

    def on_fail(self, error: FuyunError) -> None:
        """It failed."""
        self._error = error
        self._done = True
        self._more.set()

    def on_credit(self, size_bytes: int) -> None:
        """The whole payload went with the beginning: there is nothing to send on."""

    # --- Response ------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the function and send what it answers."""
        flight = self._begin()
        scope["fuyun.id"] = flight.id
        listener = self._life.scope.start(self._listen(receive), "invoke listener")
        sent: tuple[int, int] | None = None
        try:
            while not (self._gone or self._done or self._head):
                await self._wait()
            if self._error is not None and self._head is None:
                sent = await self._fail(flight, self._error, send)
            elif self._head is not None:
                sent = await self._stream(flight, *self._head, send)
        finally:
            listener.cancel()
            if sent is None:
                flight.cancel()
            else:
                flight.sent(*sent)

    def _begin(self) -> Flight:
        call = self._call
        return call.services.invoker.begin(self._route, _request(call), self._payload, True, self)

    async def _fail(self, flight: Flight, error: FuyunError, send: Send) -> tuple[int, int]:
        status, headers, body = problem_answer(error, flight.id)
        start = {**_told(flight), **headers, "content-type": PROBLEM, "content-length": str(len(body))}
        await send({"type": "http.response.start", "status": status, "headers": _raw(start)})
        await send({"type": "http.response.body", "body": body})
        return status, len(body)

    async def _stream(self, flight: Flight, own_status: int, media: str, send: Send) -> tuple[int, int] | None:
        """Send the answer as it comes; (status, body bytes), or None when the client left before its end."""
        status = 200
        start = {**_told(flight), "content-type": media}
        if own_status != status:
            start["fuyun-status"] = str(own_status)
        if self._whole:
            start["content-length"] = str(len(self._chunks[0]))
        await send({"type": "http.response.start", "status": status, "headers": _raw(start)})
        size_bytes = 0
        while not self._gone:
            if self._chunks:
                chunk = self._chunks.popleft()
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                size_bytes += len(chunk)
                if not self._whole:
                    flight.consumed(len(chunk))
            elif self._error is not None:
                log.info("a streamed answer broke off", request_id=flight.id, code=self._error.code)
                return status, size_bytes
            elif self._done:
                await send({"type": "http.response.body", "body": b""})
                return status, size_bytes
            else:
                await self._wait()
        return None

    async def _wait(self) -> None:
        self._more.clear()
        if not (self._gone or self._done or self._chunks):
            await self._more.wait()

    async def _listen(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._more.set()


def _told(flight: Flight) -> dict[str, str]:
    """Headers that tell about the invocation."""
    return {
        "fuyun-request-id": flight.id,
        "fuyun-version": flight.version,
        "fuyun-start": flight.start_kind,
        "server-timing": flight.timing,
    }


def _raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items() if value]


async def _invoke(call: Call) -> Answer | Response:
    qualifier = check_qualifier(call.query_as(InvokeQuery).qualifier or LATEST)
    route = call.services.invoker.resolve(call.namespace, call.function, qualifier)
    body = await call.read(route.payload_bytes)
    if body:
        _check_json(body)
    fields = dict(call.request.headers)
    if is_asynchronous(fields):
        return Answer(await _accept(call, route, body or _NOTHING), 202)
    return Answering(call, route, body or _NOTHING)


async def _accept(call: Call, route: Route, body: bytes) -> Accepted:
    id_, duplicate = await call.services.deferring.accept(route, _request(call), body)
    return Accepted(id=id_, duplicate=duplicate)


def _request(call: Call) -> Request:
    asked = call.request
    headers = [(name, value) for name, value in asked.headers.items() if name not in _KEPT_BACK]
    return Request("event", "POST", "/", "", headers, call.source, asked.url.scheme)


def _check_json(payload: bytes) -> None:
    """BadRequest unless it is JSON. Builds no objects: about 4 ms for 7 MB, where decoding takes 46."""
    try:
        msgspec.json.decode(payload, type=msgspec.Raw)
        if not payload.isascii():
            payload.decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BadRequest(f"the payload is not JSON: {exc}", hint="send UTF-8 encoded JSON") from exc


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/namespaces/{namespace}/functions/{function}/invoke",
        run=_invoke,
        summary="Run the function on a JSON payload ({} when there is none); the body of the answer is its result. "
        "With `Fuyun-Invocation-Type: async` it is accepted, and the answer is its id",
        permission=in_namespace("invoke"),
        tag="invocations",
        query=InvokeQuery,
        raw_request=True,
        request_headers=("Fuyun-Invocation-Type", "Fuyun-Idempotency-Key", "Fuyun-Delay", "Fuyun-Schedule-At"),
        successes=(
            Success(
                media=("*/*",),
                headers=("Fuyun-Version", "Fuyun-Start", "Fuyun-Status", "Server-Timing"),
                description="what the function returned; JSON unless it chose another type",
            ),
            Success(status=202, body=Accepted, description="accepted: it will be run"),
        ),
        errors=(
            NotFound,
            *_function_errors(),
            Throttled,
            QuotaExceeded,
            Unavailable,
            InstanceLost,
            HostUnable,
            StorageFull,
            LoopDetected,
        ),
    ),
)
