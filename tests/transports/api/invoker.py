"""An invoker in memory: what a function does is a Python callable on the responder's side of the port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fuyun.base import ids
from fuyun.domain.errors import FuyunError, NotFound
from fuyun.services.invoking import Responder
from fuyun.services.routes import Route


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


class MemoryInvoker:
    """`services.invoking.Invoker` over behaviours by (namespace, function)."""

    def __init__(self) -> None:
        self.behaviours: dict[tuple[str, str], Behaviour] = {}
        self.flights: list[MemoryFlight] = []
        self.payload_bytes = 1024

    def match(self, path: str) -> Route:
        raise NotFound(f"no route for {path}")

    def resolve(self, namespace: str, function: str, qualifier: str) -> Route:
        if (namespace, function) not in self.behaviours or qualifier not in ("$LATEST", "3", "live"):
            raise NotFound(f"no {namespace}/{function}:{qualifier}", kind="function", name=function)
        return Route(
            namespace=namespace, function=function, qualifier=qualifier, base="", auth="key", methods=frozenset(),
            cors=None, sticky_header="", payload_bytes=self.payload_bytes,
        )  # fmt: skip

    def begin(
        self, route: Route, *, kind: str, method: str, path: str, query: str, headers: list[tuple[str, str]],
        source: str, scheme: str, body: bytes, end: bool, responder: Responder,
    ) -> MemoryFlight:  # fmt: skip
        assert kind == "event"
        assert end
        flight = MemoryFlight(body, headers, responder)
        self.flights.append(flight)
        behaviour = self.behaviours[route.namespace, route.function]
        asyncio.get_running_loop().call_soon(behaviour, flight)
        return flight


def echo(flight: MemoryFlight) -> None:
    """Answer with the payload."""
    flight.responder.on_result(200, None, flight.body)


def fails(error: FuyunError) -> Behaviour:
    """Answer with `error`."""
    return lambda flight: flight.responder.on_fail(error)


def never(flight: MemoryFlight) -> None:
    """Do not answer."""
