"""What all connections of one gateway share: the invoker, who may call, counters, the clock of the coarse tick."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Final, final

from fuyun.base import clock
from fuyun.domain.errors import BadRequest, FuyunError, NotFound, Unauthenticated, Unsupported
from fuyun.domain.tenants import ROLE_ACTIONS, Principal
from fuyun.services.deferring import is_asynchronous
from fuyun.services.invoking import Invoker
from fuyun.transports.gateway.limits import GatewayLimits

if TYPE_CHECKING:
    from fuyun.services.routes import Route
    from fuyun.transports.gateway.connection import Connection

#: Roles that may invoke: `Principal.may`, asked for every request.
_INVOKERS: Final = frozenset(role for role, actions in ROLE_ACTIONS.items() if "invoke" in actions)
_HINT: Final = "send 'Authorization: Bearer fk_...' or 'Fuyun-Key: fk_...'"


@final
class GatewayStats:
    """Counters since start, for metrics; `connections` is the number open now."""

    def __init__(self) -> None:
        self.connections = 0
        self.accepted = 0  # connections
        self.turned_away = 0  # connections over the limit
        self.requests = 0  # begun by the function or refused before it
        self.refused = 0  # answered with an error before a function was asked
        self.timed_out = 0  # connections closed because the client was too slow
        self.received_bytes = 0
        self.sent_bytes = 0  # bodies of answers


@final
class Shared:
    """One per gateway. `now_s` and `date` are renewed by `tick`; nothing on the request path asks for the time."""

    __slots__ = (
        "_authenticate",
        "_loop",
        "connections",
        "date",
        "deferred",
        "draining",
        "invoker",
        "limits",
        "now_s",
        "receiving",
        "short_heads",
        "stats",
    )

    def __init__(
        self,
        invoker: Invoker,
        authenticate: Callable[[str], Principal],
        limits: GatewayLimits,
        deferred: Invoker | None = None,
        receiving: Invoker | None = None,
    ) -> None:
        """`deferred`: takes what asks for asynchronous invocation, `receiving` what is posted to webhooks."""
        self.invoker = invoker
        self.receiving = receiving
        self.deferred = deferred
        self.limits = limits
        self.short_heads = min(limits.head_bytes, limits.target_bytes) < 4096  # a single slice may hold a head too long
        self.stats = GatewayStats()
        self.connections: set[Connection] = set()
        self.draining = False
        self._authenticate = authenticate
        self._loop = asyncio.get_running_loop()  # asked for once: it costs a system call
        self.now_s = 0.0
        self.date = ""
        self.tick()

    def tick(self) -> None:
        """Renew the coarse time and the Date line."""
        self.now_s = clock.mono_s()
        self.date = f"Date: {formatdate(clock.wall_s(), usegmt=True)}\r\n"

    def invoker_for(self, route: Route, fields: dict[str, str], upgrade: bool) -> Invoker:
        """Who takes a request with such header fields. BadRequest; Unsupported for webhooks that nobody takes."""
        if route.webhook:
            if self.receiving is None:
                raise Unsupported("this gateway has no webhooks", hint="post to one of the platform's gateways")
            return self.receiving
        if self.deferred is None or not is_asynchronous(fields):
            return self.invoker
        if upgrade:
            raise BadRequest("a WebSocket cannot be opened asynchronously", hint="leave out Fuyun-Invocation-Type")
        return self.deferred

    def seen_by(self, fields: dict[str, str], error: FuyunError) -> FuyunError:
        """What to tell a caller of a request that has no route: which names a namespace lacks is for keys of it, others
        are told what they would be told of a name that it has."""
        if isinstance(error, NotFound) and "namespace" in error.fields:
            try:
                self.authorise(error.fields["namespace"], error.fields["function"], fields)
            except FuyunError as refusal:
                return refusal
        return error

    def authorise(self, namespace: str, function: str, fields: dict[str, str]) -> None:
        """Pass when the request's key (Fuyun-Key, else Authorization) may invoke in the namespace.

        Raises Unauthenticated without a usable key, Forbidden for one of another namespace or role.
        """
        token = fields.get("fuyun-key")
        if token is None:
            value = fields.get("authorization")
            if value is None:
                raise Unauthenticated(f"{namespace}/{function} needs a key and the request has none", hint=_HINT)
            if value[:7] != "Bearer " and value[:7].lower() != "bearer ":
                raise Unauthenticated(
                    f"the Authorization scheme {value.partition(' ')[0][:32]!r} is not one the gateway knows",
                    hint=_HINT,
                )
            token = value[7:].strip(" ")
        principal = self._authenticate(token)
        if principal.role not in _INVOKERS or (principal.namespace != namespace and principal.namespace != "*"):
            principal.require("invoke", namespace)
