"""What is true of the pools at this moment, for `/metrics` and `status`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace


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
class StartBudget:
    """Memory in bytes of what instances are forked from, and how many were evicted since the platform started, by kind
    (template, zygote)."""

    limit_bytes: int = 0
    held_bytes: int = 0
    evicted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneGauge:
    """Deliveries to one target: how many wait and run, and for how long the first of them has been due."""

    namespace: str
    target: str
    waiting: int
    running: int
    late_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Traffic:
    """Since the platform started: operations by name, and bytes of objects that came and went."""

    operations: Mapping[str, int] = field(default_factory=dict)
    received_bytes: int = 0
    sent_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """What is true at this moment; taken at scrape time."""

    pools: tuple[PoolGauge, ...] = ()
    gateway_connections: int = 0
    records_dropped: int = 0
    #: (namespace, function, protocol) -> what its network policy refused since the platform started
    network_refused: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    budget: StartBudget = StartBudget()
    lanes: tuple[LaneGauge, ...] = ()
    #: (namespace, target, state) -> attempts of deliveries that ended so since the platform started
    outcomes: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    s3: S3Traffic = S3Traffic()


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
