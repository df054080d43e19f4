"""What services of the platform answer at the address inside instances, each below a word of its own.

    POST /WORD/NAMESPACE/NAME/VERB     a JSON body, a JSON answer

A service implements `Offer` and is given to `transports.gateway.inward.Inward` under its word. A verb among its
`streaming` takes bytes of any length as its body instead, and what is asked of them as JSON in the field `Fuyun-Ask`.
An answer that is a `Streamed` goes out as bytes, with what is to be said of them in the field `Fuyun-Told`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote

import msgspec
import structlog

from fuyun.base.tasks import Scope
from fuyun.domain.errors import BadRequest, Forbidden, FuyunError, Internal, LoopDetected, NotFound
from fuyun.domain.events import MOST_HOPS
from fuyun.domain.functions import Version
from fuyun.services.answering import Answering, Receiving
from fuyun.services.invoking import Responder
from fuyun.services.requests import Request
from fuyun.services.routes import Route

_log = structlog.get_logger("fuyun.inward")
T = TypeVar("T")

#: What is asked of a body that is streamed: JSON in ASCII.
ASK_FIELD = "fuyun-ask"


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer of `size_bytes` bytes in pieces, and what JSON can carry of them."""

    told: Any
    size_bytes: int
    pieces: AsyncGenerator[bytes, None]


@dataclass(frozen=True, slots=True)
class Asking:
    """What a function asks for. `hops` and `trail` are those of its invocation: what it sends follows from that.
    `left` is done when it waits for the answer no more. Of a streaming verb, `body` is the field `Fuyun-Ask`, and
    `pieces` the bytes."""

    version: Version
    name: str
    verb: str
    body: bytes
    hops: int
    trail: str
    left: asyncio.Future[None]
    pieces: AsyncIterator[bytes] | None = None

    def check_hops(self) -> None:
        """LoopDetected when what follows from the invocation would be one edge too many."""
        if self.hops + 1 > MOST_HOPS:
            raise LoopDetected(
                f"this would be edge {self.hops + 1} of a chain, {MOST_HOPS} is the most",
                hint=f"functions seem to set each other going in a circle: fuyun event trail {self.trail}",
            )

    def read(self, kind: type[T]) -> T:
        """The body. BadRequest."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise BadRequest(f"the body: {exc}", hint="see docs/guide for what it may hold", path="body") from exc


class Offer(Protocol):
    """A service as functions meet it."""

    verbs: frozenset[str]
    #: Those of them whose body is streamed.
    streaming: frozenset[str]
    #: The largest body it takes, and the largest that is streamed.
    limit_bytes: int
    streamed_bytes: int

    def allowed(self, version: Version) -> tuple[str, ...]:
        """Names that the function's permissions name; `*` for all."""
        ...

    async def answer(self, asking: Asking) -> Any:
        """What JSON can carry, or a `Streamed`. FuyunError."""
        ...


def limit_of(offer: Offer, verb: str) -> int:
    """The largest body of a request."""
    return offer.streamed_bytes if verb in offer.streaming else offer.limit_bytes


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
        name = unquote(name)
        offer = self._offers[word]

        def serve(flight: Answering, whole: bytes) -> None:
            asking = Asking(version, name, verb, whole, hops, trail, flight.left)
            self._scope.start(self._answer(flight, offer, asking), f"{word} {verb}")

        def take(flight: Receiving) -> None:
            ask = next((value for field, value in request.headers if field == ASK_FIELD), "{}")
            asking = Asking(version, name, verb, ask.encode(), hops, trail, flight.left, flight.pieces())
            self._scope.start(self._answer(flight, offer, asking), f"{word} {verb}")

        if verb in offer.streaming:
            return Receiving(take, route, request, body, end, responder)
        return Answering(serve, route, request, body, end, responder)

    async def _answer(self, flight: Answering, offer: Offer, asking: Asking) -> None:
        try:
            answer = await offer.answer(asking)
            if isinstance(answer, Streamed):
                await flight.stream(answer.told, answer.size_bytes, answer.pieces)
            else:
                flight.tell(answer)
        except FuyunError as error:
            flight.fail(error)
        except Exception as error:
            _log.error("a service failed on a function's request", verb=asking.verb, exc_info=error)
            flight.fail(Internal("the platform failed on this request", hint="look into its log"))
