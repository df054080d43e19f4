"""Plain counters of what ran. The invoke path adds to them; `/metrics` reads them when it is scraped.

A function has one `Tally`, which its pools hold: no lock, no label objects, no task. Everything runs on the platform's
loop, so plain integers are enough.
"""

from __future__ import annotations

from typing import Final, final

#: Upper bounds of the duration histogram in seconds: a warm call is below a millisecond, a long one takes minutes.
BUCKETS_S: Final = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
]  # fmt: skip


@final
class Durations:
    """A histogram of seconds: `counts[i]` fell at or below `BUCKETS_S[i]`, the last one above all."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0

    def observe(self, value_s: float) -> None:
        """Add one value."""
        place = 0
        for bound_s in BUCKETS_S:
            if value_s <= bound_s:
                break
            place += 1
        self.counts[place] += 1
        self.sum_s += value_s


@final
class Tally:
    """What ran of one function."""

    def __init__(self) -> None:
        self.invocations: dict[tuple[str, str], int] = {}  # (status, start kind) -> how many
        self.durations = Durations()  # arrival to last byte
        self.billed_gb_s = 0.0

    def count(self, status: str, start_kind: str, duration_s: float, billed_gb_s: float) -> None:
        """Add one finished invocation."""
        key = (status, start_kind)
        self.invocations[key] = self.invocations.get(key, 0) + 1
        self.durations.observe(duration_s)
        self.billed_gb_s += billed_gb_s


@final
class Measures:
    """Counters since the platform started."""

    def __init__(self) -> None:
        self.tallies: dict[tuple[str, str], Tally] = {}  # by namespace and function

    def tally(self, namespace: str, function: str) -> Tally:
        """The counters of a function."""
        found = self.tallies.get((namespace, function))
        if found is None:
            found = self.tallies[namespace, function] = Tally()
        return found

    def forget(self, namespace: str, function: str) -> None:
        """Drop the counters of a deleted function, so that names do not pile up."""
        self.tallies.pop((namespace, function), None)
