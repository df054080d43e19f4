"""When timers fire, and which of the times that passed still count. Pure.

A timer has a position: the last tick that is done with. Ticks that are a moment late count in any case; older ones were
missed, while the platform was down or the trigger paused, and the trigger says what becomes of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from itertools import islice, takewhile
from typing import Final

from cronsim import CronSim

from fuyun.domain.schedules import check_timezone, last_fired_s
from fuyun.domain.triggerchecks import moment_s
from fuyun.domain.triggers import TimerTrigger

#: A tick that is later than this was missed.
GRACE_S: Final = 60.0
#: Ticks that are fired together at most; those behind them come next.
MOST_TICKS: Final = 500


def next_s(timer: TimerTrigger, position_s: float) -> float:
    """The first tick after `position_s`; infinite for none."""
    return next(_ticks(timer, position_s), math.inf)


def due(timer: TimerTrigger, position_s: float, now_s: float) -> tuple[list[float], float]:
    """Ticks to fire at `now_s`, oldest first, and the position when that is done. None of them was fired before; up to
    `MOST_TICKS`, the rest is due still."""
    if timer.missed == "all":
        ticks = _until(timer, position_s, now_s)
        return ticks, ticks[-1] if ticks else position_s
    recent = max(position_s, now_s - GRACE_S)
    ticks = _until(timer, recent, now_s)
    if ticks:
        return ticks, ticks[-1]
    last = _last_s(timer, position_s, now_s)
    if last is None or last <= position_s:
        return [], position_s
    return ([last] if timer.missed == "last" else []), last


def _until(timer: TimerTrigger, after_s: float, now_s: float) -> list[float]:
    return list(islice(takewhile(lambda tick: tick <= now_s, _ticks(timer, after_s)), MOST_TICKS))


def _ticks(timer: TimerTrigger, after_s: float) -> Iterator[float]:
    """Ticks after a moment, in order."""
    if timer.at:
        at_s = moment_s(timer.at)
        if at_s > after_s:
            yield at_s
    elif timer.every_s:
        count = math.floor(after_s / timer.every_s) + 1
        while True:
            tick = count * timer.every_s
            if tick > after_s:
                yield tick
            count += 1
    else:
        before = after_s
        for found in CronSim(timer.cron, datetime.fromtimestamp(after_s, check_timezone(timer.zone))):
            tick = found.timestamp()
            if tick > before:  # where clocks are set back, an hour is told twice
                before = tick
                yield tick


def _last_s(timer: TimerTrigger, position_s: float, now_s: float) -> float | None:
    """The last tick up to `now_s`."""
    if timer.at:
        at_s = moment_s(timer.at)
        return at_s if at_s <= now_s else None
    if timer.every_s:
        return math.floor(now_s / timer.every_s) * timer.every_s
    return last_fired_s(timer.cron, timer.zone, now_s)
