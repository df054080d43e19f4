"""S3 as one ASGI application: whose bucket, who asks, which operation, and errors as S3's XML."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from fuyun.base import clock, ids
from fuyun.domain.errors import FuyunError, Internal, OperatorError
from fuyun.domain.objects import Bucket
from fuyun.services.objects import Stretch
from fuyun.transports.s3 import cors, website
from fuyun.transports.s3.asking import check_supported
from fuyun.transports.s3.calls import Answer, Call, Services, named_by_host, place_of
from fuyun.transports.s3.errors import code_of, error_document
from fuyun.transports.s3.presigned2 import is_presigned2, verify2
from fuyun.transports.s3.signing import Head, Signed, pairs_of, verify, with_hoisted
from fuyun.transports.s3.table import operation_of
from fuyun.transports.web.serving import HttpServer
from fuyun.transports.web.zerocopy import EXTENSION

_log = structlog.get_logger("fuyun.s3")


class S3App:
    """The application over `services`. Serve it with `S3Server`."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        head = Head(
            method=scope["method"], path=scope["raw_path"].decode("latin-1"),
            query=scope["query_string"].decode("latin-1"),
            headers=[(name.decode("latin-1"), _text(value)) for name, value in scope["headers"]],
        )  # fmt: skip
        id_ = ids.new_id()
        sender = _Sender(send, id_, head.method == "HEAD")
        extra: Mapping[str, str] = {}
        try:
            site = named_by_host(head.header("host"), f".s3-website.{self._services.domain}")
            if site:
                answer = await website.serve(self._services, site, head)
            else:
                bucket, key = place_of(head.header("host"), head.path, self._services.domain)
                known = self._known(bucket)
                extra = cors.answered(known, head)
                answer = await self._answer(scope, receive, head, known, (bucket, key), id_)
            await sender.send(answer, extra)
        except ClientDisconnect:
            return
        except Exception as exc:
            if sender.started:
                if not isinstance(exc, FuyunError):
                    raise
                _log.error("an answer was cut off", request_id=id_, error=exc.detail)
                return  # uvicorn closes the connection, so that the client sees that the answer is incomplete
            await sender.send(self._failure(exc, head, id_), extra)

    def _known(self, bucket: str) -> Bucket | None:
        try:
            return self._services.buckets.access(None, "", bucket)
        except FuyunError:
            return None

    async def _answer(
        self, scope: Scope, receive: Receive, head: Head, known: Bucket | None, place: tuple[str, str], id_: str
    ) -> Answer:
        if head.method == "OPTIONS":
            return cors.preflight(known, head)
        tenants = self._services.tenants
        signed, head = self._verified(head)
        call = Call(
            services=self._services, head=head, params=dict(pairs_of(head.query)), bucket=place[0], key=place[1],
            principal=tenants.access(signed.access_key), signed=signed,
            source=scope["client"][0] if scope.get("client") else "", id=id_, receive=receive,
            zerocopy=EXTENSION in scope.get("extensions", ()),
        )  # fmt: skip
        operation = operation_of(call)
        check_supported(call)
        traffic = self._services.objects.traffic
        traffic.operations[operation.__name__] = traffic.operations.get(operation.__name__, 0) + 1
        return await operation(call)

    def _verified(self, head: Head) -> tuple[Signed, Head]:
        """Who asks, and the request with the headers that a presigned address holds. Unauthenticated, Forbidden,
        BadRequest."""
        secret_of, now_s = self._services.tenants.access_secret, clock.wall_s()
        pairs = pairs_of(head.query)
        if not head.header("authorization") and is_presigned2({name for name, _ in pairs}):
            by_host = named_by_host(head.header("host"), f".s3.{self._services.domain}")
            whole = with_hoisted(head, pairs)
            return verify2(whole, pairs, secret_of, now_s, by_host), whole
        signed = verify(head, secret_of, now_s)
        return signed, with_hoisted(head, pairs) if signed.presigned else head

    def _failure(self, exc: Exception, head: Head, id_: str) -> Answer:
        what = f"{head.method} {head.path}"
        if isinstance(exc, FuyunError) and not isinstance(exc, Internal):
            error = exc
            if isinstance(exc, OperatorError):
                _log.error("the host is at fault", request_id=id_, request=what, code=exc.code, detail=exc.detail)
        else:
            _log.error("a request failed", request_id=id_, request=what, exc_info=exc)
            error = Internal("the platform failed on this request", hint=f"look for {id_} in the platform's log")
        code, status = code_of(error)
        body = error_document(error, code, head.path, id_)
        headers = {"content-type": "application/xml"}
        if marker := error.fields.get("marker"):
            headers |= {"x-amz-delete-marker": "true", "x-amz-version-id": str(marker)}
        if status == 416 and "size_bytes" in error.fields:
            headers["content-range"] = f"bytes */{error.fields['size_bytes']}"
        if status in (405, 503):
            headers |= {"allow": "DELETE" if marker else "GET, HEAD"} if status == 405 else {"retry-after": "1"}
        return Answer(status, headers, body)


class _Sender:
    """Sends one answer."""

    def __init__(self, send: Send, id_: str, bodiless: bool) -> None:
        self.started = False
        self._send = send
        self._id = id_
        self._bodiless = bodiless

    async def send(self, answer: Answer, extra: Mapping[str, str]) -> None:
        headers = {"x-amz-request-id": self._id, "x-amz-id-2": "fuyun", **answer.headers, **extra}
        body = answer.body
        if isinstance(body, bytes) and answer.status not in (204, 304):
            headers.setdefault("content-length", str(len(body)))
        encoded = [(name.encode("latin-1"), _bytes(value)) for name, value in headers.items()]
        if not isinstance(body, bytes) and not self._bodiless:
            await self._stream(answer.status, encoded, body)
            return
        self.started = True
        await self._send({"type": "http.response.start", "status": answer.status, "headers": encoded})
        plain = body if isinstance(body, bytes) and not self._bodiless else b""
        await self._send({"type": "http.response.body", "body": plain})

    async def _stream(self, status: int, headers: list[tuple[bytes, bytes]], body: object) -> None:
        from collections.abc import AsyncIterator

        assert isinstance(body, AsyncIterator)
        first = await anext(body, b"")
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._piece(first)
        async for piece in body:
            await self._piece(piece)
        await self._send({"type": "http.response.body", "body": b""})

    async def _piece(self, piece: bytes | Stretch) -> None:
        if isinstance(piece, Stretch):
            told = {"file": piece.file, "offset": piece.start, "count": piece.size_bytes}
            await self._send({"type": EXTENSION, **told, "more_body": True})
        else:
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})


def _text(value: bytes) -> str:
    """A header's value: S3's clients send UTF-8 or, as HTTP has it, Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _bytes(value: str) -> bytes:
    return "".join(char if char >= " " else " " for char in value).encode("utf-8", "surrogateescape")


class S3Server(HttpServer):
    """S3 on one address."""

    name, option = "S3", "--s3-port"
