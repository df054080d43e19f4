"""One awaited invocation and its outcome: how pollers and the deliverer call functions."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fuyun.domain.deliveries import ATTEMPT_FIELD, DELIVERY_FIELD, HOPS_FIELD, TRAIL_FIELD, Call
from fuyun.domain.errors import BadResponse, CallerError, FunctionError, FuyunError, Throttled
from fuyun.domain.inward import DEPTH_FIELD
from fuyun.domain.names import LATEST
from fuyun.services.requests import Request

if TYPE_CHECKING:
    from fuyun.services.invoking import Flight, Invoker

#: Bytes of a streamed answer that are kept; the rest is read and forgotten.
KEPT_BYTES = 1024 * 1024
#: What callers cannot say themselves.
_OURS = frozenset({DELIVERY_FIELD, ATTEMPT_FIELD, HOPS_FIELD, TRAIL_FIELD, DEPTH_FIELD})
_EVENT = Call()


@dataclass(frozen=True, slots=True, kw_only=True)
class Calling:
    """What is to be called, and how. `attempt` counts from 1; `hops` and `trail` are those of what is delivered, and
    what the function emits or sends follows from it; `delivery` names it ("" where it has no name)."""

    namespace: str
    function: str
    qualifier: str = ""
    body: bytes = b"{}"
    call: Call = _EVENT
    attempt: int = 1
    hops: int = 0
    trail: str = ""
    delivery: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How it ended. `invocation` is its id ("" when it never began), `status` what an application answered with, `body`
    what the function returned (of a streamed answer the first `KEPT_BYTES`)."""

    invocation: str = ""
    error: FuyunError | None = None
    status: int = 200
    content_type: str = "application/json"
    body: bytes = b""
    version: str = ""

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.error is None


async def call(invoker: Invoker, calling: Calling) -> Outcome:
    """Call a function and wait for the end. Errors are in the outcome, never raised; cancelled, it cancels the call."""
    try:
        route = invoker.resolve(calling.namespace, calling.function, calling.qualifier or LATEST)
    except FuyunError as error:
        return Outcome(error=error)
    asked = calling.call
    if asked.base and asked.base != route.base:
        route = dataclasses.replace(route, base=asked.base)
    headers = [field for field in asked.headers if field[0] not in _OURS]
    headers += [
        (name, str(value))
        for name, value in (
            (DELIVERY_FIELD, calling.delivery), (ATTEMPT_FIELD, calling.attempt), (HOPS_FIELD, calling.hops),
            (TRAIL_FIELD, calling.trail),
        )
        if value
    ]  # fmt: skip
    request = Request(asked.kind, asked.method, asked.path, asked.query, headers, asked.source, "http")
    request.attempt = calling.attempt
    waiter = _Waiter()
    waiter.flight = invoker.begin(route, request, calling.body, True, waiter)
    try:
        await waiter.done
    except asyncio.CancelledError:
        waiter.cancel()
        raise
    return waiter.outcome()


class _Waiter:
    """Implements `services.invoking.Responder`: collects the answer."""

    def __init__(self) -> None:
        self.flight: Flight | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._status = 200
        self._media = "application/json"
        self._error: FuyunError | None = None
        self._body = bytearray()
        self._size = 0
        self._over = False

    def outcome(self) -> Outcome:
        """What it came to. A status of 400 or above is the application's failure."""
        flight = self.flight
        assert flight is not None
        return Outcome(
            invocation=flight.id, error=self._error or _error_of(self._status), status=self._status,
            content_type=self._media, body=bytes(self._body), version=flight.version,
        )  # fmt: skip

    def cancel(self) -> None:
        """Nobody waits any more."""
        if self.flight is not None and not self._over:
            self._over = True
            self.flight.cancel()

    def on_result(self, status: int, headers: list[tuple[str, str]] | None, body: bytes) -> None:
        """The whole answer."""
        self._head(status, headers)
        self._body += body
        self._size = len(body)
        self._end()

    def on_head(self, status: int, headers: list[tuple[str, str]]) -> None:
        """A streamed answer begins."""
        self._head(status, headers)
        if status == 101 and not self._over:  # a WebSocket, which would not end
            self.cancel()
            self._error = BadResponse("it opened a WebSocket that nobody asked for")
            self.done.set_result(None)

    def on_body(self, chunk: bytes) -> None:
        """A piece of it."""
        self._size += len(chunk)
        self._body += chunk[: max(0, KEPT_BYTES - len(self._body))]
        if self.flight is not None:
            self.flight.consumed(len(chunk))

    def on_end(self) -> None:
        """It is complete."""
        self._end()

    def on_fail(self, error: FuyunError) -> None:
        """An error instead of it, or in the middle."""
        self._error = error
        self._end()

    def on_credit(self, size_bytes: int) -> None:
        """The whole body went with the beginning."""

    def _head(self, status: int, headers: list[tuple[str, str]] | None) -> None:
        if headers is not None:
            self._media = next((value for name, value in headers if name.lower() == "content-type"), "")
        self._status = status

    def _end(self) -> None:
        # `begin` may answer before it returns: the record is completed when the flight is known.
        asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        if not self._over and self.flight is not None:
            self._over = True
            self.flight.sent(self._status if self._error is None else 500, self._size)
            self.done.set_result(None)


def _error_of(status: int) -> FuyunError | None:
    """What an application's status means to who called it for an event: what was the request's fault would be again."""
    if status < 400:
        return None
    text = f"the application answered with status {status}"
    if status in (429, 503):
        return Throttled(text, status=status)
    return CallerError(text, status=status) if status < 500 else FunctionError(text, status=status)
