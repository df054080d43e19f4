"""An invoker in memory: routes are real, what a function does is a Python callable on the responder's side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fuyun.base import ids
from fuyun.domain.errors import FuyunError
from fuyun.services.invoking import Responder
from fuyun.services.requests import Request
from fuyun.services.routes import Route, RouteTable


class MemoryFlight:
    """A flight whose end can be asserted on: `log` holds what the transport did to it, in order."""

    def __init__(self, body: bytes, headers: list[tuple[str, str]], responder: Responder) -> None:
        self.id = ids.new_id()
        self.body = body
        self.headers = headers
        self.responder = responder
        self.timing = "queue;dur=0.01, run;dur=0.05"
        self.start_kind = "warm"
        self.version = "3"
        self.log: list[tuple[object, ...]] = []
        self.over = asyncio.Event()
        self.taken = asyncio.Event()

    def send_body(self, chunk: bytes, end: bool) -> None:
        raise AssertionError("the whole payload came with begin")

    def consumed(self, size_bytes: int) -> None:
        self.log.append(("consumed", size_bytes))
        self.taken.set()

    def cancel(self) -> None:
        self.log.append(("cancel",))
        self.over.set()

    def sent(self, http_status: int, response_bytes: int) -> None:
        self.log.append(("sent", http_status, response_bytes))
        self.over.set()


Behaviour = Callable[[MemoryFlight], None]


def echo(flight: MemoryFlight) -> None:
    """Answer with the payload."""
    flight.responder.on_result(200, None, flight.body)


def fails(error: FuyunError) -> Behaviour:
    """Answer with `error`."""
    return lambda flight: flight.responder.on_fail(error)


def never(flight: MemoryFlight) -> None:
    """Do not answer."""


class MemoryInvoker:
    """`services.invoking.Invoker` over behaviours by function name; a function without one echoes."""

    def __init__(self, table: RouteTable) -> None:
        self.behaviours: dict[str, Behaviour] = {}
        self.flights: list[MemoryFlight] = []
        self.match = table.match
        self.resolve = table.resolve

    def begin(self, route: Route, request: Request, body: bytes, end: bool, responder: Responder) -> MemoryFlight:
        assert request.kind == "event"
        assert end
        flight = MemoryFlight(body, request.headers, responder)
        self.flights.append(flight)
        asyncio.get_running_loop().call_soon(self.behaviours.get(route.function, echo), flight)
        return flight
