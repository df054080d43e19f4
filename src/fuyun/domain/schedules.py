"""Cron schedules: when one last fired, and what is wrong with one that cannot fire.

The five fields of crontab(5), read by cronsim, in a time zone of the IANA database. Where clocks are set forward, what
would fire in the hour that is left out fires after it; where they are set back, once.
"""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from fuyun.domain.errors import BadRequest

_FIELDS = 5
_MINUTE_S = 60


def last_fired_s(schedule: str, timezone: str, at_s: float) -> float | None:
    """When the schedule last fired, `at_s` included, both in seconds since the epoch; None for one that has not within
    50 years. BadRequest."""
    zone = check_timezone(timezone)
    check_schedule(schedule)
    after = datetime.fromtimestamp((at_s // _MINUTE_S + 1) * _MINUTE_S, zone)
    for found in CronSim(schedule, after, reverse=True):  # times before the minute it is given, the last one first
        if found.timestamp() <= at_s:
            return found.timestamp()
    return None


def check_schedule(schedule: str) -> str:
    """`schedule` itself, or BadRequest."""
    try:
        if len(schedule.split()) != _FIELDS:
            raise CronSimError(f"it has {len(schedule.split())} fields")
        CronSim(schedule, datetime(2026, 1, 1))
    except CronSimError as exc:
        raise BadRequest(
            f"{schedule[:80]!r} is not a cron schedule: {str(exc).lower()}",
            hint="write minute, hour, day of month, month and day of week: 0 8 * * mon-fri",
        ) from exc
    return schedule


def check_timezone(timezone: str) -> ZoneInfo:
    """The zone of that name, or BadRequest."""
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise BadRequest(f"{timezone[:80]!r} is not a time zone", hint="write Europe/Berlin, or UTC") from exc
