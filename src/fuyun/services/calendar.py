"""Looks at the clock once a minute, which is as fine as cron schedules are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fuyun.base import clock
from fuyun.base.tasks import Scope

_MINUTE_S = 60.0


def start(scope: Scope, provision: Callable[[float], None]) -> None:
    """Call `provision(wall_s)` at the beginning of every minute until the scope closes."""
    scope.start(_run(provision), "calendar")


async def _run(provision: Callable[[float], None]) -> None:
    while True:
        await asyncio.sleep(until_next_minute_s(clock.wall_s()))
        provision(clock.wall_s())


def until_next_minute_s(wall_s: float) -> float:
    """Seconds until a minute begins; never 0, so that one minute is not taken twice."""
    return _MINUTE_S - wall_s % _MINUTE_S
