"""What follows an attempt that failed: another one, and when, or none. By class of error; pure.

The function's own errors and timeouts count against the policy's attempts. Throttles and failures of the platform say
nothing about the event: they are tried again until it is too old. What is the caller's fault would fail again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from fuyun.domain.errors import CallerError, FunctionError, FunctionTimedOut, FuyunError, Throttled

Class = Literal["function", "timeout", "throttle", "platform", "client"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds before the second attempt, doubled for each further one up to `longest_s`."""

    first_s: float
    longest_s: float


#: A function that failed may be waiting for something of its own; room for another call or an instance comes soon.
BACKOFFS: Final[dict[Class, Backoff]] = {
    "function": Backoff(1.0, 300.0),
    "timeout": Backoff(5.0, 600.0),
    "throttle": Backoff(0.5, 60.0),
    "platform": Backoff(0.5, 60.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What was tried so far, the attempt that just failed included. `failures` are those of function and timeout."""

    attempts: int
    failures: int
    max_attempts: int
    expires_s: float


@dataclass(frozen=True, slots=True)
class Again:
    """Try again at `at_s`."""

    at_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Try no more: `failed`, or `expired` when the next attempt would come too late."""

    state: Literal["failed", "expired"]


def class_of(error: FuyunError) -> Class:
    """Whose fault it was, as far as trying again is concerned."""
    if isinstance(error, Throttled):
        return "throttle"
    if isinstance(error, CallerError):
        return "platform" if error.retryable else "client"
    if isinstance(error, FunctionTimedOut):
        return "timeout"
    return "function" if isinstance(error, FunctionError) else "platform"


def counts(error: FuyunError) -> bool:
    """Whether a failure by `error` counts against the policy's attempts."""
    return class_of(error) in ("function", "timeout")


def after(error: FuyunError, tried: Tried, now_s: float, random: Callable[[], float]) -> Again | GiveUp:
    """What follows a failure by `error` at `now_s`. `random()` is in [0, 1): waits differ by up to half, so that what
    failed together does not come back together. An error's own `retry_after_s` is the least."""
    kind = class_of(error)
    if kind == "client":
        return GiveUp("failed")
    if counts(error) and tried.failures >= tried.max_attempts:
        return GiveUp("failed")
    backoff = BACKOFFS[kind]
    before = tried.failures if counts(error) else tried.attempts
    wait_s = min(backoff.longest_s, backoff.first_s * 2.0 ** min(30, max(0, before - 1))) * (0.5 + 0.5 * random())
    told_s = error.fields.get("retry_after_s", 0)
    at_s = now_s + max(wait_s, float(told_s) if isinstance(told_s, (int, float)) else 0.0)
    return Again(at_s) if at_s < tried.expires_s else GiveUp("expired")
