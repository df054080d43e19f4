"""What services of the platform answer at the address inside instances, each below a word of its own.

    POST /WORD/NAMESPACE/NAME/VERB     a JSON body, a JSON answer

A service implements `Offer` and is given to `transports.gateway.inward.Inward` under its word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec
import structlog

from fuyun.base.tasks import Scope
from fuyun.domain.errors import BadRequest, Forbidden, FuyunError, Internal, NotFound
from fuyun.domain.functions import Version
from fuyun.services.deferring import Acceptance
from fuyun.services.invoking import Responder
from fuyun.services.requests import Request
from fuyun.services.routes import Route

_log = structlog.get_logger("fuyun.inward")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asking:
    """What a function asks for. `hops` and `trail` are those of its invocation: what it sends follows from that.
    `left` is done when it waits for the answer no more."""

    version: Version
    name: str
    verb: str
    body: bytes
    hops: int
    trail: str
    left: asyncio.Future[None]

    def read(self, kind: type[T]) -> T:
        """The body. BadRequest."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise BadRequest(f"the body: {exc}", hint="see docs/guide for what it may hold", path="body") from exc


class Offer(Protocol):
    """A service as functions meet it."""

    verbs: frozenset[str]
    #: The largest body it takes.
    limit_bytes: int

    def allowed(self, version: Version) -> tuple[str, ...]:
        """Names that the function's permissions name; `*` for all."""
        ...

    async def answer(self, asking: Asking) -> Any:
        """What JSON can carry. FuyunError."""
        ...


def check(word: str, offer: Offer, version: Version, namespace: str, name: str, verb: str) -> None:
    """Forbidden for what is not the function's to ask for, NotFound for what nobody answers."""
    if namespace != version.namespace:
        raise Forbidden(
            f"{version.function!r} may use {word} of its own namespace {version.namespace!r} only, "
            f"not of {namespace[:64]!r}",
            hint=f"ask for /{word}/{version.namespace}/NAME/VERB",
        )
    named = offer.allowed(version)
    if name not in named and "*" not in named:
        raise Forbidden(
            f"{version.function!r} may not use {name[:64]!r} of {word}: its permissions name "
            f"{', '.join(named) or 'none of them'}",
            hint=f"add {name[:64]!r} to permissions.{word} in fuyun.yaml and deploy",
        )
    if verb not in offer.verbs:
        raise NotFound(
            f"{word} have no {verb[:64]!r}", kind="verb", name=verb[:64], hint=f"use {', '.join(sorted(offer.verbs))}"
        )


class Answering(Acceptance):
    """One request to an offer. Implements `services.invoking.Flight`: its body is collected; it leaves no record."""

    def __init__(
        self, serve: Callable[[Answering, bytes], None], route: Route, request: Request, body: bytes, end: bool,
        responder: Responder,
    ) -> None:  # fmt: skip
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        super().__init__(lambda _, whole: serve(self, whole), route, request, body, end, responder)

    def cancel(self) -> None:
        """The client is gone."""
        super().cancel()
        if not self.left.done():
            self.left.set_result(None)

    def tell(self, answer: Any) -> None:
        """It is answered."""
        if self._responder is not None:
            headers = [("content-type", "application/json"), ("cache-control", "no-store")]
            self._responder.on_result(200, headers, msgspec.json.encode(answer))


class Offers:
    """All there are, by word; their answers are worked out in `scope`."""

    def __init__(self, offers: Mapping[str, Offer], scope: Scope) -> None:
        self._offers = offers
        self._scope = scope

    def find(self, word: str) -> Offer | None:
        """The offer below a word."""
        return self._offers.get(word)

    def begin(
        self,
        route: Route,
        request: Request,
        body: bytes,
        end: bool,
        responder: Responder,
        told: tuple[Version, int, str],
    ) -> Answering:
        """Answer a request whose route was checked; `told`: the function that asks, its hops and trail."""
        version, hops, trail = told
        _, word, _, name, verb = route.base.split("/")
        offer = self._offers[word]

        def serve(flight: Answering, whole: bytes) -> None:
            asking = Asking(version, name, verb, whole, hops, trail, flight.left)
            self._scope.start(self._answer(flight, offer, asking), f"{word} {verb}")

        return Answering(serve, route, request, body, end, responder)

    async def _answer(self, flight: Answering, offer: Offer, asking: Asking) -> None:
        try:
            flight.tell(await offer.answer(asking))
        except FuyunError as error:
            flight.fail(error)
        except Exception as error:
            _log.error("a service failed on a function's request", verb=asking.verb, exc_info=error)
            flight.fail(Internal("the platform failed on this request", hint="look into its log"))
