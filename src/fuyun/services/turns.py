"""Whose calls begin next while several namespaces ask."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, final

from fuyun.services.flights import WAITING

if TYPE_CHECKING:
    from fuyun.services.flights import LiveFlight
    from fuyun.services.members import Tenant

#: Nanoseconds for which a namespace is reckoned with after its last call.
_PRESENT_NS: Final = 50_000_000
#: Calls begun before the loop looks at its sockets again: what has just come waits for so many of others at most.
_AT_ONCE: Final = 4


@final
class Turns:
    """All connections share one loop, and a namespace with more of them would get more of it. So while calls of several
    namespaces come in, each namespace has a line, and every turn of the loop begins a few calls, of one line after the
    other. Where one namespace asks alone, nothing waits.

    `begin(flight)` is called for each in its turn; those that were given up meanwhile are left out.
    """

    __slots__ = ("_begin", "_due", "_last", "_lines", "_loop", "_until_ns")

    def __init__(self, begin: Callable[[LiveFlight], None]) -> None:
        self._begin = begin
        self._loop = asyncio.get_running_loop()
        self._lines: dict[Tenant, deque[LiveFlight]] = {}
        self._last: Tenant | None = None  # of the call that came last
        self._until_ns = 0  # more than one namespace asked within the time that ends here
        self._due = False

    def take(self, flight: LiveFlight) -> bool:
        """Let the flight wait for its turn; False when it need not."""
        tenant = flight.pool.tenant
        if tenant is not self._last:
            if self._last is not None:
                self._until_ns = flight.at_ns + _PRESENT_NS
            self._last = tenant
        if flight.at_ns >= self._until_ns and not self._lines:
            return False
        line = self._lines.get(tenant)
        if line is None:
            self._lines[tenant] = line = deque()
        line.append(flight)
        if not self._due:
            self._due = True
            self._loop.call_soon(self._next)
        return True

    def _next(self) -> None:
        self._due = False
        lines = self._lines
        begun = 0
        while lines and begun < _AT_ONCE:
            tenant = next(iter(lines))
            line = lines.pop(tenant)
            flight = line.popleft()
            if line:
                lines[tenant] = line  # behind the others
            if flight.state == WAITING:
                begun += 1
                self._begin(flight)
        if lines:
            self._due = True
            self._loop.call_soon(self._next)

    def hurry(self) -> None:
        """Begin all that waits: pools are about to be replaced, or to end."""
        lines = list(self._lines.values())
        self._lines.clear()
        for line in lines:
            for flight in line:
                if flight.state == WAITING:
                    self._begin(flight)
