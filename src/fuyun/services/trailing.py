"""Which trail an invocation is on, for as long as somebody may ask: what a function logs follows from why it ran."""

from __future__ import annotations

from typing import Final

from fuyun.domain.deliveries import HOPS_FIELD, TRAIL_FIELD
from fuyun.services.invoking import Flight, Invoker, Responder
from fuyun.services.requests import Request
from fuyun.services.routes import Route

#: Invocations that are remembered, the newest; some hundred bytes each.
_MOST: Final = 20_000


class Trailing:
    """Implements `services.invoking.Invoker`: the event path calls functions through it. It remembers nothing until
    somebody wants to know (`active`)."""

    def __init__(self, inner: Invoker) -> None:
        self._inner = inner
        self._known: dict[str, tuple[int, str]] = {}
        self.active = False

    def match(self, path: str) -> Route:
        """See `services.invoking.Invoker`."""
        return self._inner.match(path)

    def resolve(self, namespace: str, function: str, qualifier: str) -> Route:
        """See `services.invoking.Invoker`."""
        return self._inner.resolve(namespace, function, qualifier)

    def begin(self, route: Route, request: Request, body: bytes, end: bool, responder: Responder) -> Flight:
        """See `services.invoking.Invoker`."""
        flight = self._inner.begin(route, request, body, end, responder)
        if self.active:
            told = dict(request.headers)
            hops = told.get(HOPS_FIELD, "")
            if hops.isdecimal() and len(hops) < 4:
                self._known[flight.id] = (int(hops), told.get(TRAIL_FIELD, ""))
                if len(self._known) > _MOST:
                    del self._known[next(iter(self._known))]
        return flight

    def of(self, invocation: str) -> tuple[int, str]:
        """Hops and trail of an invocation; (0, "") where none is known."""
        return self._known.get(invocation, (0, ""))
