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

1. by event: `phases.TRANSITIONS`. What is not in it is illegal and raises `Internal`.
2. by count: a busy instance with no call inside is ready; a draining one with no call inside is stopped by command.
3. by time: `next_tick_s` says when a phase has lasted too long; `Event.TICK` at or after it freezes or kills.

`step` returns commands. The caller carries out one instance's commands in order, each to its end or its timeout, before
the next; it may go on feeding events meanwhile. An instance is told to stop at most once and killed at most once.
"""

from __future__ import annotations

import math
from typing import Final, final

from fuyun.decide.phases import (
    TRANSITIONS,
    Command,
    Event,
    Freeze,
    Kill,
    Phase,
    Rules,
    RunHook,
    Stop,
    Thaw,
)
from fuyun.domain.errors import Internal
from fuyun.domain.functions import FunctionSpec
from fuyun.domain.runtimes import KEPT, PROGRAMS

__all__ = [
    "TRANSITIONS",
    "Command",
    "Event",
    "Freeze",
    "InstanceState",
    "Kill",
    "Phase",
    "Rules",
    "RunHook",
    "Stop",
    "Thaw",
    "next_tick_s",
    "rules_of",
    "step",
]


#: As globals: an enumeration's member costs 200 ns to read from its class in Python 3.11, and every call of every
#: function passes here twice.
_STARTING: Final = Phase.STARTING
_READY: Final = Phase.READY
_BUSY: Final = Phase.BUSY
_FROZEN: Final = Phase.FROZEN
_DRAINING: Final = Phase.DRAINING
_ASSIGNED: Final = Event.ASSIGNED
_RELEASED: Final = Event.RELEASED
_NOTHING: Final[tuple[Command, ...]] = ()
_THAW: Final[tuple[Command, ...]] = (Thaw(),)


@final
class InstanceState:
    """One instance now; not changed once made.

    `since_s` is when it entered its phase (draining: or was told to stop), on the caller's clock. `ending` is the
    strongest command to end given so far: "", "stop" or "kill".
    """

    __slots__ = ("ending", "inflight", "phase", "rules", "since_s")

    def __init__(
        self, rules: Rules, phase: Phase = _STARTING, inflight: int = 0, since_s: float = 0.0, ending: str = ""
    ) -> None:
        self.rules = rules
        self.phase = phase
        self.inflight = inflight
        self.since_s = since_s
        self.ending = ending

    @property
    def free(self) -> int:
        """Calls that could go in now."""
        serving = self.phase is _READY or self.phase is _BUSY or self.phase is _FROZEN
        return self.rules.concurrency - self.inflight if serving else 0


def rules_of(spec: FunctionSpec, *, drain_s: float = 20.0, freeze_after_s: float = 0.0) -> Rules:
    """The rules a version's instances live by. A start-up limit covers import and initializer together."""
    hooks = spec.hooks
    return Rules(
        concurrency=spec.concurrency,
        init_s=hooks.initializer_timeout_s,
        freeze_after_s=freeze_after_s,
        drain_s=max(drain_s, spec.timeout_s),
        # Also without a hook: the instance gives memory back.
        pre_freeze_s=hooks.pre_freeze_timeout_s if hooks.pre_freeze or spec.runtime not in KEPT else 0.0,
        pre_stop_s=hooks.pre_stop_timeout_s if hooks.pre_stop or spec.runtime in PROGRAMS else 0.0,
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


def step(state: InstanceState, event: Event, now_s: float) -> tuple[InstanceState, tuple[Command, ...]]:
    """The next state and what to do. Raises Internal (fields `phase`, `event`, `inflight`) for an illegal event."""
    old, inflight = state.phase, state.inflight
    # Every call of every function is these two; what they do is TRANSITIONS' word too (a test compares).
    if event is _RELEASED and old is _BUSY and inflight > 0:
        if inflight == 1:
            return InstanceState(state.rules, _READY, 0, now_s, state.ending), _NOTHING
        return InstanceState(state.rules, _BUSY, inflight - 1, state.since_s, state.ending), _NOTHING
    if event is _ASSIGNED and old is _READY:
        return InstanceState(state.rules, _BUSY, 1, now_s, state.ending), _NOTHING
    return _step(state, event, now_s)


def _step(state: InstanceState, event: Event, now_s: float) -> tuple[InstanceState, tuple[Command, ...]]:
    """`step` by the table alone."""
    old = state.phase
    phase = TRANSITIONS[old].get(event)
    inflight = state.inflight + (1 if event is _ASSIGNED else -1 if event is _RELEASED else 0)
    if phase is None or inflight < 0 or inflight > state.rules.concurrency:
        raise _illegal(state, event)
    if event is Event.TICK:
        return _tick(state, now_s)
    if phase is _BUSY and inflight == 0:
        phase = _READY
    state = InstanceState(state.rules, phase, inflight, state.since_s if phase is old else now_s, state.ending)
    if phase is _BUSY or phase is _READY:
        return state, _THAW if old is _FROZEN else _NOTHING
    if phase is _DRAINING:
        return _drain(state, old, event, now_s)
    return state, _freezing(state.rules) if phase is _FROZEN else _NOTHING


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
