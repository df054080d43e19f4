"""Asynchronous invocation as callers meet it: instead of the function's answer they get an id, once it is on the disk.

Fuyun-Invocation-Type: async     asks for it; `sync` is what is done without
Fuyun-Idempotency-Key: TEXT      the same key within a day is the same invocation
Fuyun-Delay: 90s                 not before so long
Fuyun-Schedule-At: TIME          not before then, as RFC 3339 or seconds since the epoch
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import msgspec
import structlog

from fuyun.base import clock, ids
from fuyun.base.tasks import Scope
from fuyun.base.units import parse_duration
from fuyun.domain.deliveries import (
    ATTEMPT_FIELD,
    DELIVERY_FIELD,
    HOPS_FIELD,
    MOST_DELAY_S,
    MOST_KEY,
    TRAIL_FIELD,
    Call,
    Order,
    Parcel,
)
from fuyun.domain.errors import BadRequest, FuyunError, Internal, LoopDetected, PayloadTooLarge
from fuyun.domain.events import Target, trail_of
from fuyun.domain.inward import DEPTH_FIELD
from fuyun.domain.names import LATEST
from fuyun.services.accepting import Acceptor
from fuyun.services.invoking import Flight, Invoker, Responder
from fuyun.services.orders import refusal
from fuyun.services.requests import Request
from fuyun.services.routes import Route

_log = structlog.get_logger("fuyun.deliveries")

TYPE_FIELD: Final = "fuyun-invocation-type"
KEY_FIELD: Final = "fuyun-idempotency-key"
DELAY_FIELD: Final = "fuyun-delay"
AT_FIELD: Final = "fuyun-schedule-at"
#: Fields that are done with when an invocation was accepted.
_SPENT: Final = frozenset(
    {TYPE_FIELD, KEY_FIELD, DELAY_FIELD, AT_FIELD, DELIVERY_FIELD, ATTEMPT_FIELD, HOPS_FIELD, TRAIL_FIELD, DEPTH_FIELD}
)


def is_asynchronous(fields: Mapping[str, str]) -> bool:
    """Whether the header fields ask for it. BadRequest for another type than async and sync."""
    kind = fields.get(TYPE_FIELD, "sync").strip().lower()
    if kind not in ("async", "sync"):
        raise BadRequest(
            f"{kind[:64]!r} is no invocation type", hint="send Fuyun-Invocation-Type: async, or leave it out",
            path=TYPE_FIELD,
        )  # fmt: skip
    return kind == "async"


def due_s(fields: Mapping[str, str], now_s: float) -> float:
    """When what the header fields ask for is due, 0 for now. BadRequest."""
    delay, at = fields.get(DELAY_FIELD), fields.get(AT_FIELD)
    if delay is not None and at is not None:
        raise BadRequest("there is a delay and a time as well", hint="send one of them", path=AT_FIELD)
    if delay is None and at is None:
        return 0.0
    try:
        found_s = now_s + parse_duration(delay) if delay is not None else _moment_s(str(at))
    except ValueError as exc:
        name, hint = (DELAY_FIELD, "write 90s, 15m or 2h") if at is None else (AT_FIELD, "write 2026-12-24T18:00:00Z")
        raise BadRequest(f"{name}: {(delay or at or '')[:64]!r} cannot be read", hint=hint, path=name) from exc
    if found_s > now_s + MOST_DELAY_S:
        raise BadRequest(
            f"that is {(found_s - now_s) / 86400:.0f} days away", hint=f"use up to {MOST_DELAY_S / 86400:.0f} days",
            path=AT_FIELD if delay is None else DELAY_FIELD,
        )  # fmt: skip
    return found_s


def _moment_s(text: str) -> float:
    try:
        found_s = float(text)
    except ValueError:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            raise ValueError("it has no zone") from None
        found_s = moment.timestamp()
    if not 0 <= found_s < 32503680000:  # the year 3000; not a number fails, too
        raise ValueError("out of range")
    return found_s


def order_for(route: Route, request: Request, body: bytes, origin: str) -> Order:
    """The order that a request asks for, under the policy of the version it would meet. BadRequest."""
    fields = dict(request.headers)
    key = fields.get(KEY_FIELD, "")
    if len(key) > MOST_KEY or (KEY_FIELD in fields and not key):
        raise BadRequest(f"the idempotency key has {len(key)} characters", hint=f"use 1 to {MOST_KEY}", path=KEY_FIELD)
    at_s = due_s(fields, clock.wall_s())
    policy = route.choices[0][1].spec.asynchronous
    trail, told = fields.get(TRAIL_FIELD, ""), fields.get(HOPS_FIELD, "0")
    hops = int(told) + 1 if trail and told.isdigit() and len(told) <= 3 else 0
    call = Call(
        kind="event" if request.kind == "event" else "http", method=request.method, path=request.path,
        base=route.base, query=request.query, source=request.source,
        headers=tuple(field for field in request.headers if field[0] not in _SPENT),
    )  # fmt: skip
    return Order(
        id=ids.new_id(), namespace=route.namespace,
        target=Target(
            kind="function", name=route.function, qualifier="" if route.qualifier == LATEST else route.qualifier
        ),
        parcel=Parcel(call=call, body=body), at_s=at_s, max_attempts=policy.max_attempts, max_age_s=policy.max_age_s,
        on_success=policy.on_success, on_failure=policy.on_failure, key=key, hops=hops,
        trail=trail_of(trail) if trail else "", origin=origin,
        **refusal(hops),
    )  # fmt: skip


_Accept = Callable[["Acceptance", bytes], None]


class Deferring:
    """Implements `services.invoking.Invoker`: what is begun here is accepted, and answered with 202 and its id."""

    def __init__(self, inner: Invoker, acceptor: Acceptor, scope: Scope, origin: str) -> None:
        """`origin`: as deliveries say where they come from."""
        self._inner = inner
        self._acceptor = acceptor
        self._origin = origin
        self._scope = scope

    def of(self, origin: str) -> Deferring:
        """The same for what comes from elsewhere."""
        return Deferring(self._inner, self._acceptor, self._scope, origin)

    def match(self, path: str) -> Route:
        """See `services.invoking.Invoker`."""
        return self._inner.match(path)

    def resolve(self, namespace: str, function: str, qualifier: str) -> Route:
        """See `services.invoking.Invoker`."""
        return self._inner.resolve(namespace, function, qualifier)

    def begin(self, route: Route, request: Request, body: bytes, end: bool, responder: Responder) -> Flight:
        """Accept it. FuyunError for what can be said at once."""
        return Acceptance(self._accept, route, request, body, end, responder)

    async def accept(self, route: Route, request: Request, body: bytes) -> tuple[str, bool]:
        """(its id, whether it was there already) once it is on the disk. BadRequest, QuotaExceeded, StorageFull;
        LoopDetected for one that is a dead letter now."""
        order = order_for(route, request, body, self._origin)
        found = await self._acceptor.accept(order)
        if order.refused:
            raise LoopDetected(order.detail, hint=f"see `fuyun event trail {order.trail}`", delivery=order.id)
        return found, found != order.id

    def _accept(self, acceptance: Acceptance, body: bytes) -> None:
        self._scope.start(self._order(acceptance, body), "accept")

    async def _order(self, acceptance: Acceptance, body: bytes) -> None:
        try:
            found, duplicate = await self.accept(acceptance.route, acceptance.request, body)
        except FuyunError as error:
            acceptance.fail(error)
        except Exception as error:
            _log.error("accepting an invocation failed", exc_info=error)
            acceptance.fail(Internal("the platform failed to accept this invocation", hint="look into its log"))
        else:
            acceptance.answer(found, duplicate)


class Acceptance:
    """One that is being accepted. Implements `services.invoking.Flight`: its body is collected, up to what the function
    takes. It leaves no record: its attempts do."""

    timing, start_kind, version = "queue;dur=0", "none", "-"

    def __init__(
        self, accept: _Accept, route: Route, request: Request, body: bytes, end: bool, responder: Responder
    ) -> None:
        self.id = ids.new_id()
        self.route = route
        self.request = request
        self._accept = accept
        self._responder: Responder | None = responder
        self._body = [body]
        self._size = len(body)
        if end:
            accept(self, body)

    def send_body(self, chunk: bytes, end: bool) -> None:
        """More of it."""
        if self._responder is None:
            return
        self._body.append(chunk)
        self._size += len(chunk)
        if self._size > self.route.payload_bytes:
            self.fail(
                PayloadTooLarge(
                    f"the request body is over {self.route.payload_bytes} bytes",
                    hint="send less, or raise the function's payload limit", limit_bytes=self.route.payload_bytes,
                )
            )  # fmt: skip
        elif end:
            self._accept(self, b"".join(self._body))
        elif chunk:
            asyncio.get_running_loop().call_soon(self._credit, len(chunk))

    def _credit(self, size_bytes: int) -> None:
        if self._responder is not None:
            self._responder.on_credit(size_bytes)

    def answer(self, id_: str, duplicate: bool) -> None:
        """It is on the disk; `duplicate`: it was there already, under the same key."""
        self.id = id_
        self.give(202, [("content-type", "application/json")], msgspec.json.encode({"id": id_, "duplicate": duplicate}))

    def give(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """The answer."""
        if self._responder is not None:
            self._responder.on_result(status, headers, body)

    def fail(self, error: FuyunError) -> None:
        """It was not accepted."""
        responder, self._responder = self._responder, None
        if responder is not None:
            responder.on_fail(error)

    def consumed(self, size_bytes: int) -> None:
        """Nothing waits for it."""

    def cancel(self) -> None:
        """The client is gone; what is being written is written."""
        self._responder = None

    def sent(self, http_status: int, response_bytes: int) -> None:
        """Its attempts leave records."""
