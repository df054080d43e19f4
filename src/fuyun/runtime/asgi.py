"""ASGI 3 applications (https://asgi.readthedocs.io/en/latest/specs/): lifespan and HTTP scopes."""

from __future__ import annotations

import asyncio
from urllib.parse import unquote

from fuyun.runtime.answers import BadAnswer, clean_headers, fixed_length
from fuyun.runtime.context import Context
from fuyun.runtime.problems import LoadProblem, describe, problem, trim, type_name
from fuyun.runtime.streams import spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from fuyun.runtime.calls import Call
    from fuyun.runtime.looped import Hall

_ASGI = {"version": "3.0", "spec_version": "2.3"}


class Application:
    """One application and its lifespan. `alive`: it took part in the lifespan protocol."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        self._app = hall.app.call
        self._state: dict[str, Any] = {}
        self._in: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._out: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: Optional[asyncio.Task[None]] = None
        self.alive = False

    # lifespan ----------------------------------------------------------------------------------------------------

    async def start(self, limit_s: float) -> None:
        """Run lifespan start-up. An application that raises or returns instead does not support it, which is fine;
        LoadProblem when it says that start-up failed or does not end it within `limit_s`."""
        self._task = asyncio.get_running_loop().create_task(self._lifespan())
        self._in.put_nowait({"type": "lifespan.startup"})
        try:
            answer = await asyncio.wait_for(self._out.get(), limit_s)
        except asyncio.TimeoutError:
            self._task.cancel()
            raise LoadProblem("function_init_failed", f"lifespan start-up did not end within {limit_s:g} s") from None
        if answer["type"] == "lifespan.startup.failed":
            exc = answer.get("raised")
            message = answer.get("message") or (describe(exc) if exc is not None else "no reason given")
            lines = trim(exc, self._hall.app.code_dir) if exc is not None else str(message).splitlines()
            spool.record("error", "\n".join(lines))
            kind = type_name(exc) if exc is not None else ""
            raise LoadProblem("function_init_failed", f"lifespan start-up failed: {_last_line(message)}", kind, lines)
        self.alive = answer["type"] == "lifespan.startup.complete"

    async def shutdown(self, limit_s: float) -> Optional[dict[str, Any]]:
        """Run lifespan shutdown; its Problem, or None when it is fine."""
        if not self.alive:
            return None
        self.alive = False
        self._in.put_nowait({"type": "lifespan.shutdown"})
        try:
            answer = await asyncio.wait_for(self._out.get(), limit_s)
        except asyncio.TimeoutError:
            return problem("function_timed_out", f"lifespan shutdown did not end within {limit_s:g} s")
        if answer["type"] == "lifespan.shutdown.complete":
            return None
        return problem("function_raised", f"lifespan shutdown failed: {_last_line(answer.get('message', ''))}")

    async def _lifespan(self) -> None:
        scope = {"type": "lifespan", "asgi": _ASGI, "state": self._state}

        async def send(message: dict[str, Any]) -> None:
            self._out.put_nowait(dict(message))

        try:
            await self._app(scope, self._in.get, send)
            self._out.put_nowait({"type": "returned"})
        except asyncio.CancelledError:
            raise
        except BaseException as exc:
            self._out.put_nowait({"type": "raised", "message": describe(exc)})

    # HTTP --------------------------------------------------------------------------------------------------------

    async def respond(self, call: Call) -> None:
        """Answer one call."""
        call.context = Context(call.head, self._hall.app.task)
        exchange = Exchange(self._hall, call)
        try:
            await self._app(self._scope(call), exchange.receive, exchange.send)
        except Exception as exc:
            if not exchange.complete:
                raise
            # The answer has left (an error page, or the work was in the background): only the log can tell.
            lines = trim(exc, self._hall.app.code_dir)
            spool.record("error", "\n".join(lines))
            spool.finish(call)
            return
        if exchange.complete:
            spool.finish(call)
        elif call.cancelled:
            await exchange.abandon()
        else:
            state = "without completing its response" if exchange.started else "without starting a response"
            raise BadAnswer(f"the ASGI application returned {state}")

    def _scope(self, call: Call) -> dict[str, Any]:
        head = call.head
        base = head.get("base", "")
        raw = base + head["path"]
        headers = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in head["headers"]]
        host, port = _host(head)
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": "1.1",
            "method": head["method"],
            "scheme": head.get("scheme", "http"),
            "path": unquote(raw),
            "raw_path": raw.encode("ascii", "replace"),
            "query_string": head.get("query", "").encode("latin-1", "replace"),
            "root_path": unquote(base),
            "headers": headers,
            "client": (head["source"], 0) if head.get("source") else None,
            "server": (host, port),
            "state": self._state.copy(),
            "extensions": {"fuyun": {"context": call.context}},
        }


class Exchange:
    """`receive` and `send` of one request."""

    def __init__(self, hall: Hall, call: Call) -> None:
        self._hall = hall
        self._call = call
        self._request_over = False
        self._status = 0
        self._headers: list[tuple[str, str]] = []
        self._head_sent = False
        self.started = False
        self.complete = False

    async def receive(self) -> dict[str, Any]:
        """http.request until the body is over, then http.disconnect once the exchange is."""
        call = self._call
        if not self._request_over:
            body = await self._hall.read(call)
            if not call.cancelled:
                more = bool(call.parts) or not call.ended
                self._request_over = not more
                return {"type": "http.request", "body": body, "more_body": more}
        while not (call.cancelled or self.complete):
            await self._hall.wait(call)
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        """http.response.start and http.response.body; after a disconnect they go nowhere, as the specification asks."""
        kind = message["type"]
        if self._call.cancelled and not self.complete:
            # An application that produces without waiting for anything must let the loop tell it of the disconnect.
            await asyncio.sleep(0)
            if kind == "http.response.body" and not message.get("more_body"):
                await self.abandon()
        elif kind == "http.response.start" and not self.started:
            self._status = int(message["status"])
            self._headers = clean_headers(message.get("headers") or (), "the response's headers")
            self.started = True
        elif kind == "http.response.body" and self.started and not self.complete:
            await self._body(bytes(message.get("body", b"")), bool(message.get("more_body", False)))
        else:
            raise RuntimeError(
                f"unexpected ASGI message {kind!r} {'after' if self.complete else 'before'} the response"
            )

    async def _body(self, data: bytes, more: bool) -> None:
        hall, call = self._hall, self._call
        if not self._head_sent and not more:
            headers = self._headers if call.head["method"] == "HEAD" else fixed_length(self._headers, len(data))
            self._complete()
            await hall.result(call, (self._status, headers, data))
            return
        if not self._head_sent:
            self._head_sent = True
            hall.head(call, self._status, self._headers)
        await hall.write(call, data)
        if not more:
            self._complete()
            hall.finish(call)

    async def abandon(self) -> None:
        """End the exchange after a disconnect; what is sent goes nowhere. 499 is nginx's status for it."""
        self._complete()
        if self._head_sent:
            self._hall.finish(self._call)
        else:
            await self._hall.result(self._call, (499, [], b""))

    def _complete(self) -> None:
        self.complete = True
        waiter = self._call.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def _host(head: dict[str, Any]) -> tuple[str, int]:
    default = 443 if head.get("scheme") == "https" else 80
    host = next((value for name, value in head["headers"] if name == "host"), "")
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit() and not host.endswith("]"):
        return name, int(port)
    return host or "localhost", default


def _last_line(message: object) -> str:
    lines = str(message).strip().splitlines()
    return lines[-1] if lines else "no reason given"
