"""From rows of the table to ASGI: methods, keys, permissions, decoding, errors as problems, request ids."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fuyun.base import ids
from fuyun.domain.errors import FuyunError, Internal, MethodNotAllowed, NotFound, OperatorError, Unauthenticated
from fuyun.domain.tenants import Principal
from fuyun.transports.api.calls import Answer, Call, Life, Services
from fuyun.transports.api.decoding import check_media, decode_json, decode_query
from fuyun.transports.api.table import JSON, PATH_PARAMS, Endpoint
from fuyun.transports.web.problems import PROBLEM, problem_answer

log = structlog.get_logger("fuyun.api")

REQUEST_ID = "fuyun-request-id"
#: Headers of every answer that does not set them itself.
_ALWAYS = (("cache-control", "no-store"), ("x-content-type-options", "nosniff"))
#: Headers of every answer that does not set them itself.
_ALWAYS = (("cache-control", "no-store"), ("x-content-type-options", "nosniff"))
_encoder = msgspec.json.Encoder()


class PathApp:
    """All methods of one path."""

    def __init__(self, endpoints: Sequence[Endpoint], services: Services, life: Life) -> None:
        self._services = services
        self._life = life
        self._by_method = {endpoint.method: endpoint for endpoint in endpoints}
        allowed = {*self._by_method, "OPTIONS"} | ({"HEAD"} if "GET" in self._by_method else set())
        self._allow = ", ".join(sorted(allowed))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive)
        response = await self._respond(request)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        method = request.method
        if method == "OPTIONS":
            return Response(status_code=204, headers={"allow": self._allow})
        endpoint = self._by_method.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            raise MethodNotAllowed(
                f"{request.url.path} has no method {method}", hint=f"use {self._allow}", allowed=self._allow.split(", ")
            )
        answer = await endpoint.run(await self._admit(endpoint, request))
        return answer if isinstance(answer, Response) else encode(answer)

    async def _admit(self, endpoint: Endpoint, request: Request) -> Call:
        """Everything the row promises, checked in the order key, permission, path, query, body."""
        permission = endpoint.permission
        asking: Principal | None = None
        params = request.path_params
        keyless = permission.where == "offered" and not {"authorization", "fuyun-key"} & set(request.headers)
        if permission.where != "open" and not keyless:
            asking = self._services.tenants.authenticate(token_of(request))
        if asking is not None and permission.where == "platform":
            asking.require(permission.action, "*")
        elif asking is not None and permission.where == "namespace":
            asking.require(permission.action, params.get("namespace") or params["scope"])
        for name, value in params.items():
            PATH_PARAMS[name].check(name, value)
        call = Call(
            services=self._services,
            life=self._life,
            request=request,
            id=request.scope["fuyun.id"],
            params=params,
            asking=asking,
        )
        if endpoint.query is not None:
            call.query = decode_query(request, endpoint.query)
        if endpoint.has_body:
            check_media(request, endpoint.request_media)
        if endpoint.request is not None:
            call.body = decode_json(await call.read(self._services.limits.json_bytes), endpoint.request)
        return call


def token_of(request: Request) -> str:
    """The key of `Authorization: Bearer fk_...` or `Fuyun-Key: fk_...`; Unauthenticated when there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if key := request.headers.get("fuyun-key", "").strip():
        return key
    raise Unauthenticated("the request carries no key", hint="send Authorization: Bearer fk_... (fuyun key create)")


def encode(answer: Answer) -> Response:
    """An Answer as a Starlette response."""
    if answer.status in (204, 304):
        return Response(status_code=answer.status, headers=dict(answer.headers))
    return Response(_encoder.encode(answer.body), answer.status, dict(answer.headers), JSON)


class Envelope:
    """Around the whole application: an id for every request, errors as problems, headers that every answer carries."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; anything but HTTP goes straight on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id_ = scope["fuyun.id"] = ids.new_id()
        started = False

        async def send_on(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = list(message.get("headers", []))
                names = {name.lower() for name, _ in headers}
                for name, value in ((REQUEST_ID, scope["fuyun.id"]), *_ALWAYS):
                    if name.encode() not in names:
                        headers.append((name.encode(), value.encode()))
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except ClientDisconnect:
            return
        except Exception as exc:
            error = as_error(exc, f"{scope['method']} {scope['path']}", id_)
            if started:
                return  # uvicorn closes the connection, so that the client sees that the answer is incomplete
            status, headers, body = problem_answer(error, id_)
            await Response(body, status, headers, PROBLEM)(scope, receive, send_on)


def as_error(exc: Exception, what: str, id_: str) -> FuyunError:
    """`exc` as an error a caller may see. A bug is logged with its traceback under the request's id and told without
    its words, which may hold paths or other tenants' names; what the operator must act on is logged too."""
    if isinstance(exc, FuyunError) and not isinstance(exc, Internal):
        if isinstance(exc, OperatorError):
            log.error("the host is at fault", request_id=id_, request=what, code=exc.code, detail=exc.detail)
        return exc
    log.error("a request failed", request_id=id_, request=what, exc_info=exc)
    return Internal("the platform failed on this request", hint=f"look for {id_} in the platform's log")


def no_route(path: str) -> NotFound:
    """The error of a path nothing is served at."""
    shown = re.sub(r"[^ -~]", "?", path[:200])
    return NotFound(f"nothing is served at {shown}", hint="see /v1/openapi.json for what is", kind="route", name=shown)
