"""What all connections of one gateway share: the invoker, who may call, counters, the clock of the coarse tick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING

from fuyun.base import clock
from fuyun.domain.errors import Unauthenticated
from fuyun.domain.tenants import Principal
from fuyun.services.invoking import Invoker
from fuyun.services.routes import Route
from fuyun.transports.gateway.limits import GatewayLimits

if TYPE_CHECKING:
    from fuyun.transports.gateway.connection import Connection

#: Credentials remembered between two ticks; beyond it the memory starts anew.
REMEMBERED = 10000


@dataclass(slots=True)
class GatewayStats:
    """Counters since start, for metrics; `connections` is the number open now."""

    connections: int = 0
    accepted: int = 0  # connections
    turned_away: int = 0  # connections over the limit
    requests: int = 0  # begun by the function or refused before it
    refused: int = 0  # answered with an error before a function was asked
    timed_out: int = 0  # connections closed because the client was too slow
    received_bytes: int = 0
    sent_bytes: int = 0  # bodies of answers


class Shared:
    """One per gateway. `now_s` and `date` are renewed by `tick`; nothing on the request path asks for the time."""

    __slots__ = (
        "_allowed",
        "_authenticate",
        "connections",
        "date",
        "draining",
        "invoker",
        "limits",
        "now_s",
        "short_heads",
        "stats",
    )

    def __init__(self, invoker: Invoker, authenticate: Callable[[str], Principal], limits: GatewayLimits) -> None:
        self.invoker = invoker
        self.limits = limits
        self.short_heads = min(limits.head_bytes, limits.target_bytes) < 4096  # a single slice may hold a head too long
        self.stats = GatewayStats()
        self.connections: set[Connection] = set()
        self.draining = False
        self._authenticate = authenticate
        self._allowed: dict[str, set[str]] = {}
        self.now_s = 0.0
        self.date = ""
        self.tick()

    def tick(self) -> None:
        """Renew the coarse time and the Date line; forget who was allowed, so that a revoked key ends within a tick."""
        self.now_s = clock.mono_s()
        self.date = f"Date: {formatdate(clock.wall_s(), usegmt=True)}\r\n"
        self._allowed.clear()

    def forget_credentials(self) -> None:
        """Ask `authenticate` again for every key: call it when a key is revoked."""
        self._allowed.clear()

    def authorise(self, route: Route, credential: str | None) -> None:
        """Pass when `credential` (the value of Fuyun-Key or Authorization) may invoke in the route's namespace.

        Raises Unauthenticated without a usable key, Forbidden for one of another namespace or role.
        """
        if credential is None:
            raise Unauthenticated(
                f"{route.namespace}/{route.function} needs a key and the request has none",
                hint="send 'Authorization: Bearer fk_...' or 'Fuyun-Key: fk_...'",
            )
        spaces = self._allowed.get(credential)
        if spaces is not None and route.namespace in spaces:
            return
        token = credential
        if credential[:7].lower() == "bearer ":
            token = credential[7:].strip(" ")
        elif not credential.startswith("fk_"):
            raise Unauthenticated(
                f"the Authorization scheme {credential.partition(' ')[0][:32]!r} is not one the gateway knows",
                hint="send 'Authorization: Bearer fk_...' or 'Fuyun-Key: fk_...'",
            )
        self._authenticate(token).require("invoke", route.namespace)
        if spaces is None:
            if len(self._allowed) >= REMEMBERED:
                self._allowed.clear()
            spaces = self._allowed[credential] = set()
        spaces.add(route.namespace)
