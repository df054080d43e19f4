"""The life of one instance: theory, tables and code.

    starting -> initialising -> ready <-> busy
                                  ^  \\      |
                                  |   v     |
                                 frozen     |
        any of them but stopped ----+-------+--> draining -> stopped

`starting`: the process is being made. `initialising`: it exists and imports the code. `ready`: no call is inside.
`busy`: 1 to `concurrency` calls are inside. `frozen`: its processes do not run; a call thaws it. `draining`: it takes
no new call and ends once the calls inside have ended. `stopped`: its process is gone.

Three kinds of transition exist (the idea of keeping them apart in tables is h11's, `h11/_state.py`):

1. by event: `TRANSITIONS`. What is not in it is illegal and raises `Internal`.
2. by count: a busy instance with no call inside is ready; a draining one with no call inside is stopped by command.
3. by time: `next_tick_s` says when a phase has lasted too long; `Event.TICK` at or after it freezes or kills.

`step` returns commands. The caller carries out one instance's commands in order, each to its end or its timeout, before
the next; it may go on feeding events meanwhile. An instance is told to stop at most once and killed at most once.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Literal

import msgspec

from fuyun.domain.errors import Internal
from fuyun.domain.functions import FunctionSpec


class Phase(StrEnum):
    """Where an instance is in its life."""

    STARTING = "starting"
    INITIALISING = "initialising"
    READY = "ready"
    BUSY = "busy"
    FROZEN = "frozen"
    DRAINING = "draining"
    STOPPED = "stopped"


class Event(StrEnum):
    """What happens to an instance."""

    STARTED = "started"  # its process exists
    INITIALISED = "initialised"  # its code is loaded and the initializer returned
    INIT_FAILED = "init_failed"  # one of these failed
    ASSIGNED = "assigned"  # a call goes in
    RELEASED = "released"  # a call has ended, however it did
    FREEZE = "freeze"
    THAW = "thaw"
    DRAIN = "drain"  # take no more calls, end when the last one has
    GONE = "gone"  # its process has ended, for whatever reason
    TICK = "tick"  # time has passed


class RunHook(msgspec.Struct, frozen=True):
    """Run a lifecycle hook; go on after `timeout_s` whether it ended or not."""

    hook: Literal["pre_freeze", "pre_stop"]
    timeout_s: float


class Freeze(msgspec.Struct, frozen=True):
    """Stop giving its processes the CPU."""


class Thaw(msgspec.Struct, frozen=True):
    """Let its processes run again. A call may be written to it before: the frame waits in the socket."""


class Stop(msgspec.Struct, frozen=True):
    """Ask it to end; it has `timeout_s` for it."""

    timeout_s: float


class Kill(msgspec.Struct, frozen=True):
    """End it now. `reason` is for the log and for the errors of calls still inside."""

    reason: str


Command = RunHook | Freeze | Thaw | Stop | Kill


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change in an instance's life. Durations in seconds; a hook's 0 means there is no such hook."""

    concurrency: int = 1
    start_s: float = 10.0
    init_s: float = 30.0
    freeze_after_s: float = 0.0  # idle time before a tick freezes it; 0 never
    drain_s: float = 20.0  # calls inside a draining instance get this long
    stop_s: float = 5.0  # between Stop and Kill, the pre_stop hook's time not counted
    pre_freeze_s: float = 0.0
    pre_stop_s: float = 0.0


class InstanceState(msgspec.Struct, frozen=True):
    """One instance now.

    `since_s` is when it entered its phase (draining: or was told to stop), on the caller's clock.
    """

    rules: Rules
    phase: Phase = Phase.STARTING
    inflight: int = 0
    since_s: float = 0.0
    ending: Literal["", "stop", "kill"] = ""  # the strongest command to end given so far

    @property
    def free(self) -> int:
        """Calls that could go in now."""
        return self.rules.concurrency - self.inflight if self.phase in _SERVING else 0


_SERVING = frozenset({Phase.READY, Phase.BUSY, Phase.FROZEN})

#: phase -> event -> next phase. BUSY here means "ready or busy, by count".
TRANSITIONS: dict[Phase, dict[Event, Phase]] = {
    Phase.STARTING: {
        Event.STARTED: Phase.INITIALISING,
        Event.DRAIN: Phase.DRAINING,
        Event.GONE: Phase.STOPPED,
        Event.TICK: Phase.STARTING,
    },
    Phase.INITIALISING: {
        Event.INITIALISED: Phase.READY,
        Event.INIT_FAILED: Phase.DRAINING,
        Event.DRAIN: Phase.DRAINING,
        Event.GONE: Phase.STOPPED,
        Event.TICK: Phase.INITIALISING,
    },
    Phase.READY: {
        Event.ASSIGNED: Phase.BUSY,
        Event.FREEZE: Phase.FROZEN,
        Event.DRAIN: Phase.DRAINING,
        Event.GONE: Phase.STOPPED,
        Event.TICK: Phase.READY,
    },
    Phase.BUSY: {
        Event.ASSIGNED: Phase.BUSY,
        Event.RELEASED: Phase.BUSY,
        Event.DRAIN: Phase.DRAINING,
        Event.GONE: Phase.STOPPED,
        Event.TICK: Phase.BUSY,
    },
    Phase.FROZEN: {
        Event.ASSIGNED: Phase.BUSY,
        Event.THAW: Phase.READY,
        Event.DRAIN: Phase.DRAINING,
        Event.GONE: Phase.STOPPED,
        Event.TICK: Phase.FROZEN,
    },
    Phase.DRAINING: {
        Event.RELEASED: Phase.DRAINING,
        Event.DRAIN: Phase.DRAINING,
        Event.GONE: Phase.STOPPED,
        Event.TICK: Phase.DRAINING,
        # its start may still report after it was told to end
        Event.STARTED: Phase.DRAINING,
        Event.INITIALISED: Phase.DRAINING,
        Event.INIT_FAILED: Phase.DRAINING,
    },
    # calls that were inside when the process ended are released after it
    Phase.STOPPED: {Event.RELEASED: Phase.STOPPED},
}


def rules_of(spec: FunctionSpec, *, drain_s: float = 20.0, freeze_after_s: float = 0.0) -> Rules:
    """The rules a version's instances live by. A start-up limit covers import and initializer together."""
    hooks = spec.hooks
    return Rules(
        concurrency=spec.concurrency,
        init_s=hooks.initializer_timeout_s,
        freeze_after_s=freeze_after_s,
        drain_s=max(drain_s, spec.timeout_s),
        pre_freeze_s=hooks.pre_freeze_timeout_s if hooks.pre_freeze else 0.0,
        pre_stop_s=hooks.pre_stop_timeout_s if hooks.pre_stop else 0.0,
    )


def next_tick_s(state: InstanceState) -> float:
    """When a TICK will do something, on the caller's clock; infinity when time changes nothing here."""
    rules = state.rules
    if state.phase is Phase.STARTING:
        return state.since_s + rules.start_s
    if state.phase is Phase.INITIALISING:
        return state.since_s + rules.init_s
    if state.phase is Phase.READY and rules.freeze_after_s > 0:
        return state.since_s + rules.freeze_after_s
    if state.phase is Phase.DRAINING and state.ending == "":
        return state.since_s + rules.drain_s
    if state.phase is Phase.DRAINING and state.ending == "stop":
        return state.since_s + rules.pre_stop_s + rules.stop_s
    return math.inf


#: By event: (calls it adds, phase -> next phase); a global name and one look-up per event, because every call of every
#: function passes here twice (in Python 3.11 an enum's member costs about 200 ns to read from its class).
_BY_EVENT: dict[Event, tuple[int, dict[Phase, Phase]]] = {
    event: (
        {Event.ASSIGNED: 1, Event.RELEASED: -1}.get(event, 0),
        {phase: events[event] for phase, events in TRANSITIONS.items() if event in events},
    )
    for event in Event
}
_READY, _BUSY, _FROZEN, _DRAINING = Phase.READY, Phase.BUSY, Phase.FROZEN, Phase.DRAINING
_TICK = Event.TICK
_THAW: tuple[Command, ...] = (Thaw(),)


def step(state: InstanceState, event: Event, now_s: float) -> tuple[InstanceState, tuple[Command, ...]]:
    """The next state and what to do. Raises Internal (fields `phase`, `event`, `inflight`) for an illegal event."""
    old = state.phase
    calls, transitions = _BY_EVENT[event]
    phase = transitions.get(old)
    inflight = state.inflight + calls
    if phase is None or inflight < 0 or inflight > state.rules.concurrency:
        raise _illegal(state, event)
    if event is _TICK:
        return _tick(state, now_s)
    if phase is _BUSY and inflight == 0:
        phase = _READY
    state = InstanceState(state.rules, phase, inflight, state.since_s if phase is old else now_s, state.ending)
    if phase is _BUSY or phase is _READY:
        return state, _THAW if old is _FROZEN else ()
    if phase is _DRAINING:
        return _drain(state, old, event, now_s)
    return state, _freezing(state.rules) if phase is _FROZEN else ()


def _freezing(rules: Rules) -> tuple[Command, ...]:
    hook: tuple[Command, ...] = (RunHook("pre_freeze", rules.pre_freeze_s),) if rules.pre_freeze_s else ()
    return (*hook, Freeze())


def _drain(state: InstanceState, old: Phase, event: Event, now_s: float) -> tuple[InstanceState, tuple[Command, ...]]:
    """Commands of a draining instance: kill what never served, stop what serves no more, else wait."""
    if old in (Phase.STARTING, Phase.INITIALISING):
        return _kill(state, now_s, "start-up failed" if event is Event.INIT_FAILED else "drained before it was ready")
    if state.inflight or state.ending:
        return state, ()
    rules = state.rules
    commands: list[Command] = [Thaw()] if old is Phase.FROZEN else []
    if rules.pre_stop_s:
        commands.append(RunHook("pre_stop", rules.pre_stop_s))
    commands.append(Stop(rules.stop_s))
    return InstanceState(rules, Phase.DRAINING, 0, now_s, "stop"), tuple(commands)


def _kill(state: InstanceState, now_s: float, reason: str) -> tuple[InstanceState, tuple[Command, ...]]:
    since_s = state.since_s if state.phase is Phase.DRAINING else now_s
    return InstanceState(state.rules, Phase.DRAINING, state.inflight, since_s, "kill"), (Kill(reason),)


def _tick(state: InstanceState, now_s: float) -> tuple[InstanceState, tuple[Command, ...]]:
    if now_s < next_tick_s(state):
        return state, ()
    rules = state.rules
    if state.phase is Phase.READY:
        return InstanceState(rules, Phase.FROZEN, 0, now_s, state.ending), _freezing(rules)
    if state.phase is Phase.STARTING:
        return _kill(state, now_s, f"no process after {rules.start_s:g} s")
    if state.phase is Phase.INITIALISING:
        return _kill(state, now_s, f"start-up took longer than {rules.init_s:g} s")
    if state.ending == "stop":
        return _kill(state, now_s, f"still there {rules.pre_stop_s + rules.stop_s:g} s after it was told to stop")
    return _kill(state, now_s, f"{state.inflight} calls still inside after draining for {rules.drain_s:g} s")


def _illegal(state: InstanceState, event: Event) -> Internal:
    legal = ", ".join(TRANSITIONS[state.phase])
    return Internal(
        f"an instance that is {state.phase} with {state.inflight} of {state.rules.concurrency} calls inside"
        f" cannot be {event}; legal here: {legal}",
        hint="this is a bug in the pool; report it with the request id",
        phase=str(state.phase),
        event=str(event),
        inflight=state.inflight,
    )
