"""Plain counters of what ran. The invoke path adds to them; `/metrics` reads them when it is scraped.

One `count` costs two dictionary look-ups and a bisection: no lock, no label objects, no task. Everything runs on the
platform's loop, so plain integers are enough.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from fuyun.domain.invocations import Invocation

#: Upper bounds of the duration histogram in seconds: a warm call is below a millisecond, a long one takes minutes.
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


@dataclass(slots=True)
class Durations:
    """A histogram of seconds: `counts[i]` fell at or below `BUCKETS_S[i]`, the last one above all."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    sum_s: float = 0.0

    def observe(self, value_s: float) -> None:
        """Add one value."""
        self.counts[bisect_left(BUCKETS_S, value_s)] += 1
        self.sum_s += value_s


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolGauge:
    """The instances of one version on this node right now, by state, and the requests waiting for them."""

    namespace: str
    function: str
    version: str
    states: dict[str, int]
    queue: int
    inflight: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """What is true at this moment; taken at scrape time."""

    pools: tuple[PoolGauge, ...] = ()
    gateway_connections: int = 0
    records_dropped: int = 0


def merged(pools: Iterable[PoolGauge]) -> list[PoolGauge]:
    """One gauge per (namespace, function, version), in that order. A draft has several pools while one takes over."""
    found: dict[tuple[str, str, str], PoolGauge] = {}
    for pool in pools:
        key = (pool.namespace, pool.function, pool.version)
        other = found.get(key)
        if other is not None:
            names = pool.states | other.states
            states = {name: pool.states.get(name, 0) + other.states.get(name, 0) for name in names}
            pool = replace(pool, states=states, queue=pool.queue + other.queue, inflight=pool.inflight + other.inflight)
        found[key] = pool
    return [found[key] for key in sorted(found)]


class Measures:
    """Counters since the platform started."""

    def __init__(self) -> None:
        #: (namespace, function, status, start kind) -> invocations
        self.invocations: dict[tuple[str, str, str, str], int] = {}
        #: (namespace, function) -> durations, arrival to last byte
        self.durations: dict[tuple[str, str], Durations] = {}
        #: (namespace, function) -> GB-seconds billed
        self.billed_gb_s: dict[tuple[str, str], float] = {}

    def count(self, item: Invocation) -> None:
        """Count one finished invocation."""
        key = (item.namespace, item.function, item.status, item.start_kind)
        self.invocations[key] = self.invocations.get(key, 0) + 1
        name = (item.namespace, item.function)
        found = self.durations.get(name)
        if found is None:
            found = self.durations[name] = Durations()
        found.observe(item.duration_ms / 1000)
        self.billed_gb_s[name] = self.billed_gb_s.get(name, 0.0) + item.billed_gb_s

    def forget(self, namespace: str, function: str) -> None:
        """Drop the counters of a deleted function, so that names do not pile up."""
        name = (namespace, function)
        self.durations.pop(name, None)
        self.billed_gb_s.pop(name, None)
        for key in [key for key in self.invocations if key[:2] == name]:
            del self.invocations[key]
