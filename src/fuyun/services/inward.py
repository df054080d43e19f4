"""What one instance may ask of the platform at its own address: functions, as far as its permissions name them.

/fn/NAMESPACE/FUNCTION[:QUALIFIER]/...     an HTTP request to a function, as at the gateway
POST /invoke/NAMESPACE/FUNCTION[:QUALIFIER]    a function with a JSON payload as its event
POST /credential                               the same credential with a new expiry, while its invocation runs
POST /WORD/NAMESPACE/NAME/VERB                 what other services offer (`services.offers`)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import unquote

import msgspec

from fuyun.base import clock, ids
from fuyun.domain.deliveries import ATTEMPT_FIELD, DELIVERY_FIELD, HOPS_FIELD, TRAIL_FIELD
from fuyun.domain.errors import Forbidden, LoopDetected, NotFound, Unauthenticated
from fuyun.domain.events import trail_of
from fuyun.domain.functions import Version
from fuyun.domain.inward import DEPTH_FIELD, MOST_DEPTH
from fuyun.domain.names import LATEST
from fuyun.domain.tenants import Principal
from fuyun.services.credentials import Claims, Credentials
from fuyun.services.invoking import Flight, Invoker, Responder
from fuyun.services.offers import Offers, check, limit_of
from fuyun.services.requests import Request
from fuyun.services.routes import Route

_CREDENTIAL = "/credential"
_OURS = (
    *("authorization", "fuyun-key", "fuyun-credential"),
    *(DEPTH_FIELD, HOPS_FIELD, TRAIL_FIELD, DELIVERY_FIELD, ATTEMPT_FIELD),
)
_POST = frozenset({"POST"})
#: Of a request for another credential; nothing in it is looked at.
_RENEWAL_BYTES = 1024


class InwardInvoker:
    """One instance's. Implements `invoking.Invoker`: nothing gets past it that is not allowed."""

    def __init__(
        self,
        inner: Invoker,
        credentials: Credentials,
        version: Version,
        instance: str,
        runs: Callable[[str], bool],
        offers: Offers | None = None,
    ) -> None:
        """`runs(id)`: whether the invocation of that id is inside the instance."""
        self._offers = offers
        self._inner = inner
        self._runs = runs
        self._credentials = credentials
        self._version = version
        self._instance = instance

    def credential(self, invocation: str, depth: int, hops: int, trail: str) -> tuple[str, int]:
        """One of this instance's, and when it expires (seconds since the epoch)."""
        version = self._version
        exp = int(clock.wall_s() + self._credentials.life_s)
        claims = Claims(
            instance=self._instance, namespace=version.namespace, function=version.function,
            version=version.qualifier, invocation=invocation, depth=min(depth, MOST_DEPTH), exp=exp,
            hops=hops, trail=trail,
        )  # fmt: skip
        return self._credentials.issue(claims), exp

    def authenticate(self, token: str) -> Principal:
        """Who holds `token`: this instance, or Unauthenticated."""
        claims = self._check(token)
        return Principal(key_id=claims.instance, namespace=claims.namespace, role="invoker")

    def _check(self, token: str, *, expired: bool = False) -> Claims:
        claims = self._credentials.check(token, self._instance, expired=expired)
        try:
            self._inner.resolve(claims.namespace, claims.function, claims.version)
        except NotFound as error:
            raise Unauthenticated(
                f"the function {claims.function!r} that holds this credential was deleted, or this version of it",
                hint="deploy it again",
            ) from error
        return claims

    # --- invoking.Invoker

    def match(self, path: str) -> Route:
        """The route of a path. Forbidden for what the function's permissions do not name; NotFound."""
        version = self._version
        if path == _CREDENTIAL:
            return Route(version.namespace, "", LATEST, path, "public", _POST, None, "", _RENEWAL_BYTES)
        raw = path.split("/")
        parts = [unquote(part) for part in raw]
        offer = self._offers.find(parts[1]) if self._offers is not None and len(parts) == 5 else None
        if offer is not None:
            check(parts[1], offer, version, parts[2], parts[3], parts[4])
            return Route(version.namespace, "", LATEST, path, "key", _POST, None, "", limit_of(offer, parts[4]))
        if len(parts) < 4 or parts[1] not in ("fn", "invoke") or (parts[1] == "invoke" and len(parts) != 4):
            raise NotFound(
                f"nothing answers at {path[:200]!r}", kind="path", name=path[:200],
                hint="ask for /fn/NAMESPACE/FUNCTION/... or POST /invoke/NAMESPACE/FUNCTION",
            )  # fmt: skip
        base = "/".join(raw[:4])
        function, _, qualifier = parts[3].partition(":")
        self._permit(parts[2], function)
        found = self.resolve(parts[2], function, qualifier)
        methods = _POST if parts[1] == "invoke" else frozenset[str]()
        return Route(
            found.namespace, found.function, found.qualifier, base, "key", methods, None, "", found.payload_bytes
        )

    def _permit(self, namespace: str, function: str) -> None:
        version = self._version
        if namespace != version.namespace:
            raise Forbidden(
                f"{version.function!r} may invoke functions of its own namespace {version.namespace!r} only, "
                f"not of {namespace[:64]!r}",
                hint=f"ask for /fn/{version.namespace}/FUNCTION",
            )
        allowed = version.spec.permissions.invoke
        if function not in allowed and "*" not in allowed:
            raise Forbidden(
                f"{version.function!r} may not invoke {function[:64]!r}: its permissions name {', '.join(allowed)}",
                hint=f"add {function[:64]!r} to permissions.invoke in fuyun.yaml and deploy",
            )

    def resolve(self, namespace: str, function: str, qualifier: str) -> Route:
        """The route of a name. NotFound."""
        return self._inner.resolve(namespace, function, qualifier or LATEST)

    def begin(self, route: Route, request: Request, body: bytes, end: bool, responder: Responder) -> Flight:
        """Start an invocation one level deeper than the one whose credential the request carries."""
        if route.base == _CREDENTIAL:
            return self._renew(_token(request), responder)
        claims = self._check(_token(request))
        if not route.function:
            assert self._offers is not None
            told = (self._version, claims.hops, claims.trail or trail_of(claims.invocation))
            return self._offers.begin(route, request, body, end, responder, told)
        if claims.depth >= MOST_DEPTH:
            raise LoopDetected(
                f"{claims.function!r} calls {route.function!r} at depth {claims.depth + 1}, {MOST_DEPTH} is the most",
                hint="functions seem to call each other in a circle: find what ends it, or use a queue",
                depth=claims.depth + 1,
            )
        kept = [field for field in request.headers if field[0] not in _OURS]
        kept.append((DEPTH_FIELD, str(claims.depth + 1)))
        if claims.trail:
            kept += [(HOPS_FIELD, str(claims.hops)), (TRAIL_FIELD, claims.trail)]
        if route.methods:  # /invoke
            asked = Request("event", "POST", "/", "", kept, request.source, "http")
        else:
            asked = Request("http", request.method, request.path, request.query, kept, request.source, "http")
        if route.methods:
            found = self._inner.resolve(route.namespace, route.function, route.qualifier)
        else:
            found = self._inner.match(route.base)  # knows what the function is to take for its prefix
        self._permit(found.namespace, found.function)
        return self._inner.begin(found, asked, body, end, responder)

    def _renew(self, token: str, responder: Responder) -> Flight:
        claims = self._check(token, expired=True)
        if not self._runs(claims.invocation):
            raise Unauthenticated(
                f"the invocation {claims.invocation} that the credential was given to is over",
                hint="ask while it runs; the next invocation brings another credential",
            )
        made = self.credential(claims.invocation, claims.depth, claims.hops, claims.trail)
        return _Renewal(made, responder)


def _token(request: Request) -> str:
    for name, value in request.headers:
        if name == "authorization":
            return value[7:].strip(" ")
    return ""


class _Renewal:
    """A new credential, as the answer of no function. Implements `invoking.Flight`."""

    timing, start_kind, version = "queue;dur=0", "none", "-"

    def __init__(self, made: tuple[str, int], responder: Responder) -> None:
        self.id = ids.new_id()
        self._responder: Responder | None = responder
        token, exp = made
        self._body = msgspec.json.encode({"credential": token, "expires_s": exp})
        asyncio.get_running_loop().call_soon(self._answer)

    def _answer(self) -> None:
        if self._responder is not None:
            headers = [("content-type", "application/json"), ("cache-control", "no-store")]
            self._responder.on_result(200, headers, self._body)

    def send_body(self, chunk: bytes, end: bool) -> None:
        """Nothing is expected."""

    def consumed(self, size_bytes: int) -> None:
        """Nothing waits for it."""

    def cancel(self) -> None:
        """The client is gone."""
        self._responder = None

    def sent(self, http_status: int, response_bytes: int) -> None:
        """It leaves no record."""
