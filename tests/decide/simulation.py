"""A pool in virtual time: the decisions of `fuyun.decide.scaling` driven by simulated clients."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from fuyun.decide.scaling import Desired, Samples, Window, believed_run_ms, burst_starts, decide, surplus
from fuyun.domain.functions import FunctionSpec


@dataclass
class Instance:
    """A simulated instance."""

    name: str
    inside: int = 0
    idle_since_s: float = 0.0


@dataclass
class Pool:
    """One version's pool. `run_ms` of a call may depend on its number; `start_ms` is what a start really takes."""

    spec: FunctionSpec
    start_ms: float
    run_ms: Callable[[int], float]
    on_answer: Callable[[Pool, float], None] = lambda pool, waited_s: None
    measured_run_ms: float = 0.0
    measured_start_ms: float = 0.0
    now_s: float = 0.0
    ready: list[Instance] = field(default_factory=list)
    starting: int = 0
    queue: deque[float] = field(default_factory=deque)
    started: int = 0
    peak: int = 0
    calls: int = 0
    answered: int = 0
    longest_wait_s: float = 0.0
    freed_s: float = 0.0
    desired: Desired | None = None
    decisions: list[Desired] = field(default_factory=list)
    _timers: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _count: int = 0

    def __post_init__(self) -> None:
        self.window = Window(0.0)
        self.at(1.0, self._scale)
        self.at(0.05, self._recheck)

    def at(self, when_s: float, do: Callable[[], None]) -> None:
        """Run `do` at a virtual time."""
        self._count += 1
        heapq.heappush(self._timers, (when_s, self._count, do))

    def run_until(self, end_s: float) -> None:
        """Let virtual time pass."""
        while self._timers and self._timers[0][0] <= end_s:
            self.now_s, _, do = heapq.heappop(self._timers)
            do()
        self.now_s = end_s

    @property
    def total(self) -> int:
        return len(self.ready) + self.starting

    def arrive(self) -> None:
        """One request."""
        self.queue.append(self.now_s)
        self._dispatch()
        if self.queue:
            self._burst(self.measured_run_ms)
        self._observe()

    def _burst(self, run_ms: float) -> None:
        room = self.spec.max_instances - self.total
        starts = burst_starts(
            len(self.queue),
            self.starting,
            self.total,
            room,
            self.spec.concurrency,
            self.measured_start_ms,
            run_ms,
        )
        assert 0 <= starts <= room
        self._start(starts)

    def _start(self, count: int) -> None:
        for _ in range(count):
            self.starting += 1
            self.started += 1
            self.at(self.now_s + self.start_ms / 1000, self._started)
        self.peak = max(self.peak, self.total)

    def _started(self) -> None:
        self.starting -= 1
        self.freed_s = self.now_s
        self.measured_start_ms = self.start_ms
        self.ready.append(Instance(f"i{self.started}-{self._count}", 0, self.now_s))
        self._dispatch()
        self._observe()

    def _dispatch(self) -> None:
        # the most recently used first, so that the others can grow idle
        for instance in reversed(self.ready):
            while self.queue and instance.inside < self.spec.concurrency:
                waited_s = self.now_s - self.queue.popleft()
                self.longest_wait_s = max(self.longest_wait_s, waited_s)
                instance.inside += 1
                self._call(instance, waited_s)

    def _call(self, instance: Instance, waited_s: float) -> None:
        self.calls += 1
        run_ms = self.run_ms(self.calls)

        def answer() -> None:
            instance.inside -= 1
            instance.idle_since_s = self.freed_s = self.now_s
            self.answered += 1
            mean = self.measured_run_ms
            self.measured_run_ms = run_ms if mean == 0 else mean + (run_ms - mean) / 16
            self.ready.remove(instance)
            self.ready.append(instance)
            self._dispatch()
            self._observe()
            self.on_answer(self, waited_s)

        self.at(self.now_s + run_ms / 1000, answer)

    def _observe(self) -> None:
        self.window.observe(self.now_s, sum(instance.inside for instance in self.ready), len(self.queue))

    def _stalled_ms(self) -> float:
        return (self.now_s - max(self.freed_s, self.queue[0])) * 1000 if self.queue and self.ready else 0.0

    def _recheck(self) -> None:
        if self.queue:
            self._burst(believed_run_ms(self.measured_run_ms, self._stalled_ms(), self.measured_start_ms))
        self.at(self.now_s + 0.05, self._recheck)

    def _scale(self) -> None:
        samples = Samples(
            window=self.window,
            ready=len(self.ready),
            starting=self.starting,
            start_ms=self.measured_start_ms,
            mean_run_ms=self.measured_run_ms,
            stalled_ms=self._stalled_ms(),
            previous=self.desired,
        )
        self.desired = decide(samples, self.now_s, self.spec)
        self.decisions.append(self.desired)
        assert self.spec.min_instances <= self.desired.instances <= self.spec.max_instances
        self._start(max(0, self.desired.instances - self.total))
        idle = [(instance.name, instance.idle_since_s) for instance in self.ready if instance.inside == 0]
        keep = max(self.spec.min_instances, self.desired.instances)
        gone = set(surplus(idle, self.total, keep, self.now_s, self.spec.idle_timeout_s))
        self.ready = [instance for instance in self.ready if instance.name not in gone]
        self.at(self.now_s + 1.0, self._scale)


def closed_loop(pool: Pool, connections: int, think_ms: float = 0.0) -> None:
    """Clients that send the next request as soon as the last one was answered (after `think_ms`)."""
    pool.on_answer = lambda pool, waited_s: pool.at(pool.now_s + think_ms / 1000, pool.arrive)
    for _ in range(connections):
        pool.at(pool.now_s, pool.arrive)


def open_loop(pool: Pool, rate_per_s: float, from_s: float, to_s: float) -> None:
    """Requests at a steady rate, whatever happens to them."""
    for number in range(int((to_s - from_s) * rate_per_s)):
        pool.at(from_s + number / rate_per_s, pool.arrive)
