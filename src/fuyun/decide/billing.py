"""Billed GB-seconds: the memory limit in GiB times the seconds an instance was busy, rounded up to a millisecond.

An instance that takes one call at a time bills each call for its run time: `call_gb_s`. One that takes several bills
its busy time once, however many calls overlap in it: a `Meter` divides each moment by the calls inside and tells every
call its share. The shares of a busy stretch (from a call into the empty instance until it is empty again) sum to that
stretch rounded up; the last call out carries the rounding. For one call at a time both ways agree.
"""

from __future__ import annotations

from typing import Final, final

from fuyun.domain.errors import Internal

_GIB: Final = 2**30
_MS_NS: Final = 1_000_000


def call_gb_s(memory_bytes: int, run_us: int) -> float:
    """GB-seconds of one call that had its instance to itself. memory_bytes: the limit. run_us: microseconds it ran."""
    return gb_s(memory_bytes, -(-run_us // 1000) * _MS_NS)


def gb_s(memory_bytes: int, busy_ns: float) -> float:
    """GB-seconds of a share from `end`."""
    return memory_bytes / _GIB * busy_ns / 1e9


@final
class Meter:
    """The busy time of one instance, not changed once made. Times are monotonic nanoseconds."""

    __slots__ = ("at_ns", "billed_ns", "clock_ns", "from_ns", "inflight")

    def __init__(
        self, inflight: int = 0, at_ns: int = 0, from_ns: int = 0, clock_ns: float = 0.0, billed_ns: float = 0.0
    ) -> None:
        self.inflight = inflight
        self.at_ns = at_ns  # of the last change
        self.from_ns = from_ns  # when this busy stretch began
        self.clock_ns = clock_ns  # what a call inside since the stretch began would owe
        self.billed_ns = billed_ns  # what left with calls of this stretch


def begin(meter: Meter, now_ns: int) -> tuple[Meter, float]:
    """A call goes in: the meter and the call's mark, to be given to `end`."""
    if meter.inflight == 0:
        return Meter(1, now_ns, now_ns), 0.0
    clock_ns, at_ns = _advanced(meter, now_ns)
    return Meter(meter.inflight + 1, at_ns, meter.from_ns, clock_ns, meter.billed_ns), clock_ns


def end(meter: Meter, now_ns: int, mark: float) -> tuple[Meter, float]:
    """A call goes out: the meter and the nanoseconds it owes. Internal when none is inside."""
    if meter.inflight == 0:
        raise Internal("a call left an instance that had none inside", hint="this is a bug in the pool; report it")
    clock_ns, at_ns = _advanced(meter, now_ns)
    if meter.inflight > 1:
        share_ns = clock_ns - mark
        return Meter(meter.inflight - 1, at_ns, meter.from_ns, clock_ns, meter.billed_ns + share_ns), share_ns
    stretch_ns = -(-(at_ns - meter.from_ns) // _MS_NS) * _MS_NS
    return Meter(0, at_ns), max(0.0, stretch_ns - meter.billed_ns)


def _advanced(meter: Meter, now_ns: int) -> tuple[float, int]:
    at_ns = max(now_ns, meter.at_ns)
    return meter.clock_ns + (at_ns - meter.at_ns) / meter.inflight, at_ns
