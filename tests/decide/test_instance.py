"""The instance machine: every path of a life, every illegal event, and what holds after any sequence of events."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.decide import instance
from fuyun.decide.instance import (
    TRANSITIONS,
    Command,
    Event,
    Freeze,
    InstanceState,
    Kill,
    Phase,
    Rules,
    RunHook,
    Stop,
    Thaw,
    next_tick_s,
    rules_of,
    step,
)
from fuyun.domain.errors import Internal
from fuyun.domain.functions import FunctionSpec, Hooks

HOOKED = Rules(concurrency=3, freeze_after_s=60.0, pre_freeze_s=3.0, pre_stop_s=4.0)
PLAIN = Rules()


def run(rules: Rules, *events: Event, state: InstanceState | None = None) -> tuple[InstanceState, list[Command]]:
    """Feed events one second apart; the last state and the commands of the last event."""
    state = state or InstanceState(rules)
    commands: tuple[Command, ...] = ()
    for event in events:
        state, commands = step(state, event, state.since_s + 1.0)
    return state, list(commands)


READY = (Event.STARTED, Event.INITIALISED)


def test_a_whole_life_passes_through_the_phases_in_order() -> None:
    state = InstanceState(PLAIN)
    seen = [state.phase]
    for event in (*READY, Event.ASSIGNED, Event.RELEASED, Event.DRAIN, Event.GONE):
        state, _ = step(state, event, state.since_s + 1.0)
        seen.append(state.phase)
    assert seen == ["starting", "initialising", "ready", "busy", "ready", "draining", "stopped"]


def test_concurrency_counts_the_calls_inside() -> None:
    state, _ = run(HOOKED, *READY, Event.ASSIGNED, Event.ASSIGNED)
    assert (state.phase, state.inflight, state.free) == (Phase.BUSY, 2, 1)
    state, _ = step(state, Event.ASSIGNED, 10.0)
    assert state.free == 0
    with pytest.raises(Internal, match="3 of 3 calls inside cannot be assigned"):
        step(state, Event.ASSIGNED, 11.0)
    state, _ = step(state, Event.RELEASED, 12.0)
    assert (state.phase, state.inflight) == (Phase.BUSY, 2)


def test_ready_since_is_when_the_last_call_left() -> None:
    state, _ = run(PLAIN, *READY, Event.ASSIGNED)
    state, _ = step(state, Event.RELEASED, 77.5)
    assert (state.phase, state.since_s) == (Phase.READY, 77.5)


def test_freezing_runs_the_hook_first_and_a_call_thaws() -> None:
    state, commands = run(HOOKED, *READY, Event.FREEZE)
    assert state.phase is Phase.FROZEN
    assert commands == [RunHook("pre_freeze", 3.0), Freeze()]
    assert state.free == 3
    thawed, commands = run(HOOKED, Event.THAW, state=state)
    assert (thawed.phase, commands) == (Phase.READY, [Thaw()])
    called, commands = run(HOOKED, Event.ASSIGNED, state=state)
    assert (called.phase, called.inflight, commands) == (Phase.BUSY, 1, [Thaw()])


def test_freezing_without_a_hook_only_freezes() -> None:
    assert run(PLAIN, *READY, Event.FREEZE)[1] == [Freeze()]


def test_an_idle_tick_freezes_when_the_rules_say_so_and_not_before() -> None:
    state, _ = run(HOOKED, *READY)
    assert next_tick_s(state) == state.since_s + 60.0
    assert step(state, Event.TICK, state.since_s + 59.9) == (state, ())
    frozen, commands = step(state, Event.TICK, state.since_s + 60.0)
    assert frozen.phase is Phase.FROZEN
    assert commands[-1] == Freeze()
    never, _ = run(PLAIN, *READY)
    assert next_tick_s(never) == math.inf
    assert step(never, Event.TICK, 1e9) == (never, ())


def test_draining_an_idle_instance_stops_it_at_once() -> None:
    state, commands = run(HOOKED, *READY, Event.DRAIN)
    assert (state.phase, state.ending, state.free) == (Phase.DRAINING, "stop", 0)
    assert commands == [RunHook("pre_stop", 4.0), Stop(5.0)]
    assert run(PLAIN, *READY, Event.DRAIN)[1] == [Stop(5.0)]


def test_draining_a_frozen_instance_thaws_it_to_stop_it() -> None:
    assert run(HOOKED, *READY, Event.FREEZE, Event.DRAIN)[1] == [Thaw(), RunHook("pre_stop", 4.0), Stop(5.0)]


def test_draining_waits_for_the_calls_inside() -> None:
    state, commands = run(HOOKED, *READY, Event.ASSIGNED, Event.ASSIGNED, Event.DRAIN)
    assert (state.phase, state.inflight, commands) == (Phase.DRAINING, 2, [])
    with pytest.raises(Internal, match="draining with 2 of 3 calls inside cannot be assigned"):
        step(state, Event.ASSIGNED, 20.0)
    state, commands = run(HOOKED, Event.RELEASED, state=state)
    assert commands == []
    state, commands = run(HOOKED, Event.RELEASED, state=state)
    assert commands == [RunHook("pre_stop", 4.0), Stop(5.0)]
    assert run(HOOKED, Event.DRAIN, state=state)[1] == []


def test_a_call_that_outlasts_the_drain_is_killed() -> None:
    state, _ = run(PLAIN, *READY, Event.ASSIGNED, Event.DRAIN)
    assert next_tick_s(state) == state.since_s + 20.0
    state, commands = step(state, Event.TICK, state.since_s + 20.0)
    assert commands == (Kill("1 calls still inside after draining for 20 s"),)
    assert step(state, Event.RELEASED, 99.0)[1] == ()


def test_an_instance_that_does_not_stop_is_killed() -> None:
    state, _ = run(HOOKED, *READY, Event.DRAIN)
    assert next_tick_s(state) == state.since_s + 9.0
    state, commands = step(state, Event.TICK, state.since_s + 9.0)
    assert commands == (Kill("still there 9 s after it was told to stop"),)
    assert next_tick_s(state) == math.inf


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ((Event.DRAIN,), "drained before it was ready"),
        ((Event.STARTED, Event.DRAIN), "drained before it was ready"),
        ((Event.STARTED, Event.INIT_FAILED), "start-up failed"),
    ],
)
def test_what_never_served_is_killed_not_stopped(events: tuple[Event, ...], reason: str) -> None:
    state, commands = run(HOOKED, *events)
    assert (state.phase, commands) == (Phase.DRAINING, [Kill(reason)])
    for late in (Event.STARTED, Event.INITIALISED, Event.INIT_FAILED, Event.DRAIN):
        assert step(state, late, 99.0)[1] == ()


def test_start_up_has_limits() -> None:
    state = InstanceState(PLAIN)
    assert step(state, Event.TICK, 10.0)[1] == (Kill("no process after 10 s"),)
    state, _ = step(state, Event.STARTED, 4.0)
    assert step(state, Event.TICK, 33.9)[1] == ()
    assert step(state, Event.TICK, 34.0)[1] == (Kill("start-up took longer than 30 s"),)


def test_calls_inside_a_gone_instance_are_released_after_it() -> None:
    state, commands = run(HOOKED, *READY, Event.ASSIGNED, Event.ASSIGNED, Event.GONE)
    assert (state.phase, commands) == (Phase.STOPPED, [])
    state, _ = run(HOOKED, Event.RELEASED, Event.RELEASED, state=state)
    assert state.inflight == 0
    with pytest.raises(Internal, match="stopped with 0 of 3 calls inside cannot be released"):
        step(state, Event.RELEASED, 99.0)


def example_of(phase: Phase) -> InstanceState:
    return InstanceState(HOOKED, phase, 1 if phase in (Phase.BUSY, Phase.DRAINING) else 0)


@pytest.mark.parametrize(
    ("phase", "event"), [(phase, event) for phase in Phase for event in Event if event not in TRANSITIONS[phase]]
)
def test_what_is_not_in_the_table_is_refused_by_name(phase: Phase, event: Event) -> None:
    with pytest.raises(Internal) as raised:
        step(example_of(phase), event, 1.0)
    assert str(phase) in raised.value.detail
    assert str(event) in raised.value.detail
    assert raised.value.fields["phase"] == phase
    assert raised.value.fields["event"] == event


@pytest.mark.parametrize(("phase", "event"), [(phase, event) for phase in Phase for event in TRANSITIONS[phase]])
def test_what_is_in_the_table_is_taken(phase: Phase, event: Event) -> None:
    if (phase, event) == (Phase.STOPPED, Event.RELEASED):
        state = InstanceState(HOOKED, phase, 1)
    else:
        state = example_of(phase)
    after, _ = step(state, event, 1.0)
    allowed = TRANSITIONS[phase][event]
    by_count = {Phase.BUSY: {Phase.BUSY, Phase.READY}}.get(allowed, {allowed})
    by_time = {Phase.FROZEN, Phase.DRAINING} if event is Event.TICK else set()
    assert after.phase in by_count | by_time


def test_every_phase_has_a_row_and_only_stopped_outlives_gone() -> None:
    assert set(TRANSITIONS) == set(Phase)
    for phase in Phase:
        assert (Event.GONE in TRANSITIONS[phase]) == (phase is not Phase.STOPPED)


rules = st.builds(
    Rules,
    concurrency=st.integers(1, 4),
    freeze_after_s=st.sampled_from([0.0, 5.0]),
    pre_freeze_s=st.sampled_from([0.0, 3.0]),
    pre_stop_s=st.sampled_from([0.0, 3.0]),
)
steps = st.lists(st.tuples(st.sampled_from(list(Event)), st.floats(0.0, 40.0)), max_size=60)


@given(rules=rules, steps=steps)
def test_invariants_hold_after_any_sequence(rules: Rules, steps: list[tuple[Event, float]]) -> None:
    state, now_s, inside, frozen = InstanceState(rules), 0.0, 0, False
    given_out: list[Command] = []
    for event, pause_s in steps:
        now_s += pause_s
        before = state
        try:
            state, commands = step(state, event, now_s)
        except Internal:
            assert state is before
            continue
        inside += {Event.ASSIGNED: 1, Event.RELEASED: -1}.get(event, 0)
        given_out += commands
        for command in commands:
            if isinstance(command, Freeze):
                assert not frozen
                assert inside == 0
                frozen = True
            elif isinstance(command, Thaw):
                assert frozen
                frozen = False
            elif isinstance(command, Stop | Kill):
                assert state.phase is Phase.DRAINING
                assert not frozen
            if isinstance(command, Stop):
                assert inside == 0
        assert state.inflight == inside
        assert 0 <= inside <= rules.concurrency
        assert (state.phase is Phase.BUSY) == (inside > 0 and state.phase not in (Phase.DRAINING, Phase.STOPPED))
        assert frozen == (state.phase is Phase.FROZEN) or state.phase is Phase.STOPPED
        assert state.free == (rules.concurrency - inside if state.phase in ("ready", "busy", "frozen") else 0)
        assert state.since_s <= now_s
        assert before.phase is not Phase.STOPPED or state.phase is Phase.STOPPED
    assert sum(isinstance(command, Stop) for command in given_out) <= 1
    assert sum(isinstance(command, Kill) for command in given_out) <= 1


@given(rules=rules, steps=steps)
def test_a_drained_instance_is_told_to_end_by_time_alone(rules: Rules, steps: list[tuple[Event, float]]) -> None:
    state, now_s, ended = InstanceState(rules), 0.0, False
    for event, pause_s in [*steps, (Event.DRAIN, 1.0)]:
        now_s += pause_s
        try:
            state, commands = step(state, event, now_s)
        except Internal:
            continue
        ended = ended or any(isinstance(command, Kill) for command in commands)
    for _ in range(3):
        if (at_s := next_tick_s(state)) == math.inf:
            break
        state, commands = step(state, Event.TICK, max(now_s, at_s))
        ended = ended or any(isinstance(command, Kill) for command in commands)
    assert state.phase is Phase.STOPPED or (state.phase is Phase.DRAINING and ended)


@given(rules=rules, steps=steps)
def test_a_tick_does_something_exactly_from_next_tick_on(rules: Rules, steps: list[tuple[Event, float]]) -> None:
    state, now_s = InstanceState(rules), 0.0
    for event, pause_s in steps:
        now_s += pause_s
        try:
            state, _ = step(state, event, now_s)
        except Internal:
            continue
        at_s = next_tick_s(state)
        if state.phase is not Phase.STOPPED:
            assert (step(state, Event.TICK, now_s)[1] != ()) == (now_s >= at_s)
        if at_s < math.inf:
            assert step(state, Event.TICK, at_s)[1] != ()


def test_rules_follow_the_spec() -> None:
    hooks = Hooks(initializer_timeout_s=7.0, pre_stop="app.bye", pre_stop_timeout_s=2.0, pre_freeze_timeout_s=9.0)
    rules = rules_of(FunctionSpec(concurrency=5, timeout_s=40.0, hooks=hooks), drain_s=10.0, freeze_after_s=1.0)
    assert rules == Rules(concurrency=5, init_s=7.0, drain_s=40.0, freeze_after_s=1.0, pre_stop_s=2.0, pre_freeze_s=9.0)
    assert rules_of(FunctionSpec(runtime="nodejs", hooks=hooks)).pre_freeze_s == 0.0, "it gives nothing back"


@given(
    st.builds(Rules, concurrency=st.integers(1, 3), freeze_after_s=st.sampled_from([0.0, 60.0])),
    st.sampled_from(Phase),
    st.integers(0, 3),
    st.sampled_from([Event.ASSIGNED, Event.RELEASED]),
)
def test_the_short_way_of_a_call_agrees_with_the_table(rules: Rules, phase: Phase, inside: int, event: Event) -> None:
    state = InstanceState(rules, phase, min(inside, rules.concurrency), 5.0)
    if (phase is Phase.BUSY) != (state.inflight > 0) and phase is not Phase.DRAINING:
        return  # no such state
    try:
        expected, commands = instance._step(state, event, 9.0)
    except Internal:
        with pytest.raises(Internal):
            step(state, event, 9.0)
        return
    found, told = step(state, event, 9.0)
    fields = ("rules", "phase", "inflight", "since_s", "ending")
    assert [getattr(found, name) for name in fields] == [getattr(expected, name) for name in fields]
    assert told == commands
