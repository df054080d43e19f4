"""The pool of one version: its instances, the requests that wait for them, and when to start or stop some.

Decisions are `decide.scaling`'s; this file carries them out. Everything runs on the loop; nothing here waits except the
tasks that start and stop instances.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, final

import msgspec
import structlog

from fuyun.base import clock
from fuyun.decide import billing, quotas, scaling
from fuyun.decide import instance as life
from fuyun.decide.instance import Event
from fuyun.domain.errors import FuyunError
from fuyun.domain.functions import Version
from fuyun.ports.instances import Instance
from fuyun.services.growth import Growth
from fuyun.services.members import Member, Surroundings, Tenant, carry_out, timed_out

if TYPE_CHECKING:
    from fuyun.services.flights import LiveFlight

_log = structlog.get_logger("fuyun.pools")

_ASSIGNED: Final = Event.ASSIGNED  # as globals: see decide.instance
_RELEASED: Final = Event.RELEASED
#: Calls written to a busy instance behind the one it runs while no other is free, and how short calls must be for that,
#: in milliseconds of mean run time: a wake-up costs about as much as such a call (decision 0004).
_AHEAD: Final = 3
_AHEAD_MS: Final = 1.0
#: Very short calls are written behind others though another instance is free, which would have to be woken: as many as
#: are expected to wait no longer than this for those before them. Where a call is quicker than the platform hands out
#: the next one, one instance keeps up with it alone, and so many may wait.
_DEEP_MS: Final = 0.15
_KEEPS_UP_MS: Final = 0.04
_DEEP: Final = 32
#: Not where one of the last calls (the memory of it halves in 1,400) took longer: the others would have waited for it.
_CALM_MS: Final = 20.0
_CALMING: Final = 0.9995
#: Nor behind a call that has run for longer than this already: it may be one of those that never end.
_FRESH_NS: Final = 2_000_000
#: Instances among which the one with the shortest line is looked for.
_LOOKED_AT: Final = 8
#: A call that passed its timeout may end within this long before its instance is ended with it. Other calls inside
#: are waited for.
_CUT_GRACE_S: Final = 1.0


@final
class Pool:
    """Instances of one version. `pinned`: traffic is sent to it, so `min_instances` holds."""

    def __init__(self, version: Version, tenant: Tenant, around: Surroundings) -> None:
        self.version = version
        self.qualifier = version.qualifier
        self.output_bytes = version.spec.output_bytes
        self.timeout_s = version.spec.timeout_s
        self.memory_bytes = version.spec.memory_bytes
        self.concurrency = version.spec.concurrency
        self.number = version.number
        # What names it in each call's head; names need no escapes.
        self.head_names = f'"function":"{version.function}","version":"{self.qualifier}"'
        self.tally = around.tally(version.namespace, version.function)
        self.tenant = tenant
        self.log = around.log
        self.finished = around.finished
        self.pinned = True
        self.retired = False
        self.members: dict[str, Member] = {}
        self._leaving: dict[str, Member] = {}  # take no more calls
        self._rules = life.rules_of(version.spec, freeze_after_s=version.spec.freeze_after_s)
        self.free: list[Member] = []  # with a free slot, the warmest last
        self.queue: deque[LiveFlight] = deque()
        self.running: dict[LiveFlight, None] = {}  # in the order they began, so the first expires first
        self.run_ms = 0.0  # a moving mean
        self._least_ms = _AHEAD_MS  # what the quickest tenth of them takes
        self._worst_ms = 0.0  # the longest of the last
        self._depth = 0  # very short calls that may wait behind others; 0 where they are not that short
        self.desired: scaling.Desired | None = None
        self.gate = quotas.Gate(version.spec.max_instances * version.spec.concurrency + around.queue_length)
        self._around = around
        self._window = scaling.Window(clock.mono_s())
        self.growth = Growth(self, around)
        self._over: FuyunError | None = None  # why nothing is served any more
        self.spec = version.spec  # what the autoscaler follows: a schedule may raise its `min_instances`
        self._loose = msgspec.structs.replace(version.spec, min_instances=0)  # of a version that gets no traffic
        self._moved_ns = clock.mono_ns()  # when a slot was last freed or added

    # --- the path of a request

    def submit(self, flight: LiveFlight) -> None:
        """Give the flight a free slot, or let it wait. Throttled (to the flight) when too many wait."""
        refusal = quotas.admit(self.tenant.gate, self.gate)
        if refusal is not None:
            gate = self.tenant.gate if refusal == "namespace_concurrency" else self.gate
            self.refuse_soon(flight, quotas.throttled(refusal, gate.limit))
            return
        flight.admitted = True
        if not self.queue:
            if self.free:
                if self._depth < 1 or not self._read_ahead(flight, self._depth):
                    self._take(flight)
                return
            if 0.0 < self.run_ms < _AHEAD_MS and self._read_ahead(flight, max(_AHEAD, self._depth)):
                return
        self.queue.append(flight)
        self._around.wake()
        self.growth.burst()

    def refuse_soon(self, flight: LiveFlight, error: FuyunError) -> None:
        """Fail a flight that is not admitted, after the caller has got hold of it."""
        asyncio.get_running_loop().call_soon(flight.refuse, error)

    def _take(self, flight: LiveFlight) -> None:
        member = self.free[-1]
        now_ns = clock.mono_ns()
        commands = member.step(_ASSIGNED, now_ns / 1e9)
        if member.state.inflight >= self.concurrency:
            self.free.pop()
        if self.concurrency > 1:
            member.meter, flight.mark = billing.begin(member.meter, now_ns)
        self.running[flight] = None
        flight.go(member, now_ns)
        if commands:
            carry_out(self._around.scope, member, commands)

    def _read_ahead(self, flight: LiveFlight, depth: int) -> bool:
        """Write the flight to a busy instance that will be through in a moment, behind `depth` others at most: it finds
        the next call at hand instead of going to sleep. Only one at a time, and a request that is complete."""
        if self.concurrency > 1 or not flight.end:
            return False
        now_ns = clock.mono_ns()
        looked_at, shortest = 0, depth
        chosen: Member | None = None
        for other in self.running:
            member = other.member
            if member is not None and member.serving and now_ns - other.started_ns < _FRESH_NS:
                length = len(member.line)
                if length < shortest:
                    chosen, shortest = member, length
            looked_at += 1  # noqa: SIM113 (enumerate is slower where this is compiled)
            if not shortest or looked_at == _LOOKED_AT:
                break
        if chosen is None:
            return False
        chosen.line.append(flight)
        flight.go(chosen, now_ns, True)
        return True

    def _next_in_line(self, member: Member, now_ns: int) -> None:
        """The call that ran has ended; the next one is inside already and runs now."""
        flight = member.line.pop(0)
        flight.ahead = False
        flight.started_ns = now_ns
        self.running[flight] = None
        while self.queue and len(member.line) < _AHEAD and self.run_ms < _AHEAD_MS and self.queue[0].end:
            behind = self.queue.popleft()
            member.line.append(behind)
            behind.go(member, now_ns, True)

    def come_back(self, flight: LiveFlight) -> None:
        """Its instance ended before the flight's turn: it waits for another one, before those that came after it."""
        if self._over is not None:
            flight.refuse(self._over)
            return
        place = 0
        while place < len(self.queue) and self.queue[place].id < flight.id:
            place += 1
        self.queue.insert(place, flight)
        asyncio.get_running_loop().call_soon(self._look_again)

    def _look_again(self) -> None:
        self._feed()
        if self.queue:
            self._around.wake()
            self.growth.burst()

    def landed(self, flight: LiveFlight) -> None:
        """The instance is done with the flight: its slot is free."""
        self.running.pop(flight, None)
        member, now_ns = flight.member, flight.answered_ns
        assert member is not None
        member.overdue -= flight.cut
        if flight.ahead:  # answered before its turn: code inside speaks the protocol by itself
            flight.ahead = False
            member.line.remove(flight)
            return
        if self.concurrency > 1:
            member.meter, owed_ns = billing.end(member.meter, now_ns, flight.mark)
            flight.mark = billing.gb_s(self.memory_bytes, owed_ns)
        run_ms = flight.run_us / 1e3 or (now_ns - flight.started_ns) / 1e6
        self.run_ms += (run_ms - self.run_ms) * (0.1 if self.run_ms else 1.0)
        self._note_run(run_ms)
        self._moved_ns = now_ns
        if member.line and not member.instance.gone:
            self._next_in_line(member, now_ns)
            return
        commands = member.step(_RELEASED, now_ns / 1e9)
        if commands:
            carry_out(self._around.scope, member, commands)
        if member.instance.id in self.members:
            if self.retired and not self.queue:
                self._drain(member)
                return
            if member.state.inflight == self.concurrency - 1:
                self.free.append(member)
            if self.queue:
                self._feed()

    def _note_run(self, run_ms: float) -> None:
        """How many calls may wait behind others though an instance is free. Judged by how long calls take when nothing
        disturbs them: many instances that are awake disturb each other, and must not be the reason to wake more."""
        self._least_ms += (run_ms - self._least_ms) * (0.1 if run_ms < self._least_ms else 0.01)
        self._worst_ms = max(run_ms, self._worst_ms * _CALMING)
        if self.run_ms < _AHEAD_MS and self._worst_ms < _CALM_MS:
            self._depth = _DEEP if self._least_ms < _KEEPS_UP_MS else int(_DEEP_MS / self._least_ms)
        else:
            self._depth = 0

    def _feed(self) -> None:
        while self.queue and self.free:
            self._take(self.queue.popleft())

    def drop(self, flight: LiveFlight) -> None:
        """A waiting flight's caller is gone."""
        try:
            self.queue.remove(flight)
        except ValueError:
            return

    def release(self) -> None:
        """A flight is over: what it was admitted to has room again."""
        quotas.release(self.tenant.gate, self.gate)

    # --- instances come and go

    def stalled_ms(self) -> float:
        """Milliseconds since a slot was freed or added while requests wait (`scaling.believed_run_ms`)."""
        if not self.queue or not self.members:
            return 0.0
        return (clock.mono_ns() - max(self._moved_ns, self.queue[0].at_ns)) / 1e6

    def join(self, instance: Instance) -> None:
        """An instance is ready."""
        member = Member(instance, self._rules, clock.mono_s())
        self.members[instance.id] = member
        if self.retired and not self.queue:
            self._drain(member)
            return
        self.free.append(member)
        self._moved_ns = clock.mono_ns()
        for flight in list(self.queue)[: self.concurrency]:
            flight.report = instance.report
        self._feed()

    def on_gone(self, instance: Instance) -> None:
        """An instance takes no more calls; those inside are told soon."""
        member = self.members.pop(instance.id, None) or self._leaving.pop(instance.id, None)
        if member is None:
            return
        member.serving = False
        member.step(Event.GONE, clock.mono_s())
        self.growth.uncount()
        if member in self.free:
            self.free.remove(member)
        if self.queue:
            self.growth.burst()
        self._around.wake()

    # --- time passes

    def expire(self, now_ns: int) -> None:
        """End what ran or waited too long."""
        spec = self.version.spec
        limit_ns = int(spec.timeout_s * 1e9)
        for flight in list(self.running):
            if now_ns - flight.started_ns < limit_ns:
                break
            del self.running[flight]
            self._time_out(flight)
        wait_ns = int(self._around.queue_wait_s * 1e9)
        while self.queue and now_ns - self.queue[0].at_ns >= wait_ns:
            self.queue.popleft().refuse(self.growth.in_vain())
        now_s = now_ns / 1e9
        for member in list(self._leaving.values()):
            if member.overdue and now_s >= member.cut_s and member.state.inflight <= member.overdue:
                member.instance.kill("a call did not end after its timeout")

    def _time_out(self, flight: LiveFlight) -> None:
        member = flight.member
        assert member is not None
        flight.answered_ns = clock.mono_ns()
        flight.expire(timed_out(self.version.spec.timeout_s))
        member.overdue += 1
        member.cut_s = clock.mono_s() + _CUT_GRACE_S
        self._drain(member)
        if self.concurrency == 1:
            member.instance.kill("its call passed the timeout")
        else:
            flight.cancel()

    def scale(self, now_s: float) -> None:
        """Once a second: follow the autoscaler."""
        self._window.observe(now_s, len(self.running), len(self.queue))
        for member in (*self.members.values(), *self._leaving.values()):
            if now_s >= life.next_tick_s(member.state):
                carry_out(self._around.scope, member, member.step(Event.TICK, now_s))
        if self.retired:
            return
        spec = self.spec if self.pinned else self._loose
        samples = scaling.Samples(
            window=self._window, ready=len(self.members), starting=self.starting, start_ms=self.growth.start_ms,
            mean_run_ms=self.run_ms, stalled_ms=self.stalled_ms(), previous=self.desired,
        )  # fmt: skip
        self.desired = scaling.decide(samples, now_s, spec)
        wanted = max(self.desired.instances if self.queue or self.running else 0, spec.min_instances)
        total = len(self.members) + self.starting
        if wanted > total:
            self.growth.provide(wanted - total, now_s)
        keep = max(self.desired.instances, spec.min_instances)
        idle = [(m.instance.id, m.state.since_s) for m in self.free if not m.state.inflight]
        for id_ in scaling.surplus(idle, total, keep, now_s, spec.idle_timeout_s):
            self._drain(self.members[id_])

    def observe(self, now_s: float) -> None:
        """Several times a second: what the autoscaler will look back on."""
        self._window.observe(now_s, len(self.running), len(self.queue))
        if self.queue:
            self.growth.burst()

    @property
    def starting(self) -> int:
        """Instances that are being started."""
        return self.growth.starting

    @property
    def busy(self) -> bool:
        """Whether anything runs, waits or starts, or has passed its timeout and is not gone yet."""
        return bool(
            self.running or self.queue or self.starting or any(member.overdue for member in self._leaving.values())
        )

    @property
    def lacking(self) -> bool:
        """Whether it has fewer instances than it is to keep."""
        return self.pinned and len(self.members) + self.starting < self.spec.min_instances

    @property
    def alive(self) -> bool:
        """Whether it holds any instance."""
        return bool(self.members or self._leaving)

    # --- stopping

    def _drain(self, member: Member) -> None:
        """Let the instance take no more calls and end once it has none."""
        if self.members.pop(member.instance.id, None) is None:
            return
        member.serving = False
        if member in self.free:
            self.free.remove(member)
        self._leaving[member.instance.id] = member
        carry_out(self._around.scope, member, member.step(Event.DRAIN, clock.mono_s()))

    def retire(self) -> None:
        """No new request comes: let the running ones end, then stop every instance."""
        self.retired = True
        self.pinned = False
        if not self.queue:
            for member in list(self.members.values()):
                self._drain(member)

    def fail_waiting(self, error: FuyunError) -> None:
        """Refuse everything that waits."""
        waiting, self.queue = list(self.queue), deque()
        for flight in waiting:
            flight.refuse(error)

    def end(self, error: FuyunError) -> None:
        """Nothing is served any more: refuse what waits, answer what runs with `error` too, end every instance."""
        self._over = error
        self.retire()
        self.fail_waiting(error)
        for flight in list(self.running):
            assert flight.member is not None
            flight.member.overdue += 1
            flight.expire(error)
        for member in (*self.members.values(), *self._leaving.values()):
            member.instance.kill("the platform is going down")
