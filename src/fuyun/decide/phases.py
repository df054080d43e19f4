"""The words of an instance's life and its table: phases, events, commands, rules, and which event leads where.

Apart from `decide.instance`, which is compiled: structs and enumerations stay as they are.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec


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
