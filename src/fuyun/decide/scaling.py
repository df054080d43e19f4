"""How many instances a version should have.

Three rules, from the quickest to the slowest:

- `burst_starts`, on every request that found no free slot: start now what the waiting requests are worth;
- `decide`, once or twice a second: the Knative pod autoscaler's stable and panic windows
  (knative/serving, `pkg/autoscaler/scaling/autoscaler.go`) over running and waiting requests, corrected by how long a
  start and a call take here;
- `surplus`, as often: which idle instances may go.

The correction. Starting an instance is worth it when it is ready before a busy slot would be free. A call of 0.1 ms
that waits behind ten others waits 1 ms; no start is as quick, so more instances would only compete for the same cores.
So a waiting request counts as demand only beyond what the ready slots serve within the start time (kept between the
bounds of `PATIENCE_MS`), and head-room is added only where people would notice both, the start and a call's wait for a
slot. Slow starters are not over-scaled: a starter in flight counts as capacity, a backlog is worth the instances that
clear it within one more start time, and demand that falls is projected to the moment a start begun now would be done.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from fuyun.domain.functions import FunctionSpec

#: Seconds a `Window` remembers, in buckets of one second.
SPAN_S = 60

#: Bounds of the wait in milliseconds that is not worth a start, whatever a start takes here. Below 20 ms a start
#: competes for the cores that serve the queue; above 250 ms people notice.
PATIENCE_MS = (20.0, 250.0)

#: A burst starts nothing while the expected wait is below this share of the start time ("clearly shorter"), or below
#: this many milliseconds: a start costs about as much of a core, which the queue then lacks.
CLEARLY = 0.5
WORTH_MS = 5.0

#: Instances a queue may always have: one instance is one core's worth, and a gateway's event loop outruns one of them
#: but not two, unless calls are long enough for the rule above to count.
SPREAD = 2


class Window:
    """Running and waiting requests over the last minute: a ring of one-second buckets, weighted by time.

    Owned and updated by one pool; `observe` costs O(1) (O(seconds passed), at most 60, after a pause). The same
    observations always give the same means.
    """

    __slots__ = ("_at_s", "_first_s", "_running", "_running_areas", "_waiting", "_waiting_areas", "active_s")

    def __init__(self, now_s: float) -> None:
        self._first_s = self._at_s = now_s
        self._running = self._waiting = 0
        self._running_areas = [0.0] * SPAN_S
        self._waiting_areas = [0.0] * SPAN_S
        self.active_s: float | None = None  # when a request was last seen; None: never

    def observe(self, now_s: float, running: int, waiting: int) -> None:
        """From `now_s` on, that many requests run and wait. A time before the last one counts as the last one."""
        self._advance(now_s)
        if running or waiting or self._running or self._waiting:
            self.active_s = self._at_s
        self._running = running
        self._waiting = waiting

    def idle_s(self, now_s: float) -> float:
        """Seconds since a request ran or waited; infinity when none ever did."""
        if self._running or self._waiting:
            return 0.0
        return math.inf if self.active_s is None else max(0.0, now_s - self.active_s)

    def means(self, now_s: float, from_s: float, to_s: float = 0.0) -> tuple[float, float]:
        """Mean running and waiting between `from_s` and `to_s` seconds ago, rounded to buckets; the present level for
        a span that holds no time. A young window is averaged over its age."""
        self._advance(now_s)
        end = math.floor(self._at_s)
        newest, oldest = end - math.floor(to_s), end - min(SPAN_S, math.ceil(from_s)) + 1
        start = max(float(oldest), self._first_s)
        span_s = min(self._at_s, newest + 1.0) - start
        if span_s <= 0.0:
            return float(self._running), float(self._waiting)
        running = waiting = 0.0
        for second in range(max(oldest, math.floor(self._first_s)), newest + 1):
            running += self._running_areas[second % SPAN_S]
            waiting += self._waiting_areas[second % SPAN_S]
        return running / span_s, waiting / span_s

    def _advance(self, now_s: float) -> None:
        at_s = self._at_s
        if now_s <= at_s:
            return
        self._at_s = now_s
        second, last = math.floor(at_s), math.floor(now_s)
        if second == last:
            self._running_areas[second % SPAN_S] += self._running * (now_s - at_s)
            self._waiting_areas[second % SPAN_S] += self._waiting * (now_s - at_s)
            return
        self._running_areas[second % SPAN_S] += self._running * (second + 1 - at_s)
        self._waiting_areas[second % SPAN_S] += self._waiting * (second + 1 - at_s)
        for between in range(max(second + 1, last - SPAN_S), last):
            self._running_areas[between % SPAN_S] = float(self._running)
            self._waiting_areas[between % SPAN_S] = float(self._waiting)
        self._running_areas[last % SPAN_S] = self._running * (now_s - last)
        self._waiting_areas[last % SPAN_S] = self._waiting * (now_s - last)


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The autoscaler's constants. Windows in seconds, at most `SPAN_S`; Knative's defaults except `up_rate`."""

    stable_s: float = 60.0
    panic_s: float = 6.0
    panic_threshold: float = 2.0  # panic when the short window wants this many times what there is
    utilisation: float = 0.7  # share of slots in use that is aimed at, where head-room is worth it
    up_rate: float = 10.0  # at most this many times the ready instances per decision; bursts have `burst_starts`
    down_rate: float = 2.0  # at most down to one this-th per decision


DEFAULT_POLICY = Policy()


class Desired(msgspec.Struct, frozen=True, kw_only=True):
    """A decision: instances in all, starters included. `panic_until_s` carries the panic to the next decision."""

    instances: int
    panic: bool = False
    reason: str = ""
    panic_until_s: float = -math.inf


class Samples(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision looks at. `start_ms` and `mean_run_ms` are measured; 0 means not known yet."""

    window: Window
    ready: int  # instances that serve or could
    starting: int
    start_ms: float = 0.0
    mean_run_ms: float = 0.0
    stalled_ms: float = 0.0  # as `believed_run_ms` takes it
    previous: Desired | None = None


def decide(samples: Samples, now_s: float, spec: FunctionSpec, policy: Policy = DEFAULT_POLICY) -> Desired:
    """How many instances there should be, between `min_instances` and `max_instances`."""
    idle_s = samples.window.idle_s(now_s)
    low, high = spec.min_instances, spec.max_instances
    if idle_s >= spec.idle_timeout_s:
        why = "no request yet" if idle_s == math.inf else f"idle for {idle_s:.0f} s"
        return Desired(instances=low, reason=f"{why}: min_instances")
    have = samples.ready + samples.starting
    stable = _wanted(samples, now_s, policy.stable_s, spec.concurrency, policy)
    panic = _wanted(samples, now_s, policy.panic_s, spec.concurrency, policy)
    until_s = samples.previous.panic_until_s if samples.previous is not None else -math.inf
    if panic >= policy.panic_threshold * max(1, have):
        until_s = now_s + policy.stable_s
    in_panic = now_s < until_s
    wanted, window_s = (max(stable, panic), policy.panic_s) if in_panic else (stable, policy.stable_s)
    reason = f"{'panic' if in_panic else 'stable'} window of {window_s:g} s wants {wanted}"
    wanted, reason = _clamped(wanted, reason, samples.ready, policy)
    if in_panic and samples.previous is not None and samples.previous.panic and samples.previous.instances > wanted:
        wanted, reason = samples.previous.instances, f"{reason}; a panic never lowers"
    if wanted < max(1, low):  # seen within the idle timeout: keep one warm
        wanted, reason = max(1, low), f"{reason}; idle for {idle_s:.0f} s: keeps {max(1, low)}"
    if wanted > high:
        wanted, reason = high, f"{reason}; max_instances is {high}"
    return Desired(instances=wanted, panic=in_panic, reason=reason, panic_until_s=until_s)


def _wanted(samples: Samples, now_s: float, window_s: float, concurrency: int, policy: Policy) -> int:
    """Instances that the mean of the last `window_s` needs, not above what will be needed when a start is done."""
    running, waiting = samples.window.means(now_s, window_s)
    need = _instances_for(running, waiting, samples, concurrency, policy)
    have = samples.ready + samples.starting
    start_s = samples.start_ms / 1000
    if need <= have or start_s <= 0:
        return need
    half_s = policy.panic_s / 2
    running_now, waiting_now = samples.window.means(now_s, half_s)
    running_then, waiting_then = samples.window.means(now_s, policy.panic_s, half_s)
    slope_per_s = (running_now + waiting_now - running_then - waiting_then) / half_s
    if slope_per_s >= 0:
        return need
    left = max(0.0, running_now + waiting_now + slope_per_s * start_s)
    then = _instances_for(min(running_now, left), max(0.0, left - running_now), samples, concurrency, policy)
    return max(have, min(need, then))


def _instances_for(running: float, waiting: float, samples: Samples, concurrency: int, policy: Policy) -> int:
    """Instances for a level of running and waiting requests, the correction of the module docstring applied."""
    slots, wait_ms = samples.ready * concurrency, _patience_ms(samples.start_ms)
    run_ms = believed_run_ms(samples.mean_run_ms, samples.stalled_ms, samples.start_ms)
    if 0 < run_ms < wait_ms:
        waiting = max(0.0, waiting - slots * wait_ms / run_ms)
    if 0 < run_ms < samples.start_ms:
        waiting *= run_ms / samples.start_ms
    head_room = samples.start_ms >= PATIENCE_MS[1] and (run_ms <= 0 or run_ms >= wait_ms)
    share = policy.utilisation if head_room else 1.0
    return math.ceil((running + waiting) / (concurrency * share) - 1e-9)


def _clamped(wanted: int, reason: str, ready: int, policy: Policy) -> tuple[int, str]:
    """`wanted` within the rates of change."""
    most = math.ceil(policy.up_rate * max(1, ready))
    if wanted > most:
        return most, f"{reason}; at most {most} from {ready} ready at once"
    least = math.floor(ready / policy.down_rate)
    if wanted < least:
        return least, f"{reason}; at least {least} from {ready} ready at once"
    return wanted, reason


def _patience_ms(start_ms: float) -> float:
    return min(max(start_ms, PATIENCE_MS[0]), PATIENCE_MS[1])


def believed_run_ms(mean_run_ms: float, stalled_ms: float, start_ms: float) -> float:
    """The run time to reckon with: the mean, unless no slot has been freed for far longer than it explains.

    A mean of 1 ms says nothing while every slot is held by a call of 30 s; then the stall is the best estimate.
    stalled_ms: since the latest of: a call ended, an instance became ready, the first in the queue began to wait; 0
    while nothing waits or nothing is ready. An unknown mean (0) stays unknown.
    """
    if mean_run_ms <= 0 or stalled_ms <= _patience_ms(start_ms) + 2 * mean_run_ms:
        return max(0.0, mean_run_ms)
    return stalled_ms


def burst_starts(
    waiting: int, inflight_starts: int, total: int, room: int, concurrency: int, start_ms: float, mean_run_ms: float
) -> int:
    """How many instances to start now for the waiting requests. O(1).

    waiting: requests in the queue that no free slot will take, the new one included. inflight_starts: starters.
    total: instances, starters included, draining ones not. room: how many more there may be (`max_instances`, quotas,
    memory: `quotas.room`). start_ms, mean_run_ms: measured milliseconds, 0 means unknown; give `believed_run_ms` when
    called again for requests that go on waiting.

    One instance per `concurrency` waiting requests, less the starters, and not more than bring the expected wait
    (waiting * run / slots) under `CLEARLY` * start_ms: a hello function at 16 connections stays at a few instances,
    100 requests of a second each get 100. An unknown run time is taken for a long one.
    """
    if waiting <= 0 or room <= 0:
        return 0
    wanted = -(-waiting // concurrency) - inflight_starts
    if wanted > 0 and start_ms > 0 and mean_run_ms > 0:
        enough = math.ceil(waiting * mean_run_ms / (max(CLEARLY * start_ms, WORTH_MS) * concurrency))
        wanted = min(wanted, max(enough, SPREAD) - total)
    return max(0, min(wanted, room))


def surplus(idle: Iterable[tuple[str, float]], total: int, keep: int, now_s: float, idle_timeout_s: float) -> list[str]:
    """Ids of the idle instances to retire, longest idle first.

    idle: (id, idle since) of instances without a call inside. total: instances, starters and busy ones included. keep:
    the larger of `min_instances` and the desired number; that many stay whatever their idle time.
    """
    spare = total - keep
    if spare <= 0:
        return []
    expired = sorted((since_s, id_) for id_, since_s in idle if now_s - since_s >= idle_timeout_s)
    return [id_ for _, id_ in expired[:spare]]
