"""Buses: events of a namespace, the rules that route them, the archive they are replayed from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from fuyun.domain.errors import BadRequest
from fuyun.domain.events import Event, TargetText, target_of
from fuyun.domain.filters import read_filter
from fuyun.domain.functions import Wire
from fuyun.domain.names import check_name
from fuyun.domain.transforms import Transform, check_template

#: Rules of one bus.
MOST_RULES = 200
#: Bytes of one event's data on a bus.
EVENT_BYTES = 2**20
#: An archive keeps events for so long at most: a year.
MOST_ARCHIVE_S = 366 * 86400.0
ReplayState = Literal["running", "done", "stopped", "failed"]


class Bus(Wire, frozen=True, kw_only=True):
    """Takes events and hands each to every rule that it passes. `archive_s` is how long it remembers them; 0 not at
    all."""

    namespace: str
    name: str
    archive_s: float = 0.0
    description: str = ""
    created_s: float
    revision: int = 1


class Rule(Wire, frozen=True, kw_only=True):
    """Events that pass `filter` (`domain.filters`; {} takes all) go to `target`, changed by `transform`."""

    namespace: str
    bus: str
    name: str
    filter: dict[str, Any] = {}
    target: TargetText
    transform: Transform | None = None
    enabled: bool = True
    description: str = ""
    created_s: float
    revision: int = 1


class Archived(Wire, frozen=True, kw_only=True):
    """An event in the archive; `number` rises in the order of arrival."""

    number: int
    at_s: float  # arrival
    event: Event


class TypeSeen(Wire, frozen=True, kw_only=True):
    """A type of event that a bus has seen: how often, when, and the last one as a sample."""

    type: str
    count: int
    first_s: float
    last_s: float
    sample: Event


class Replay(Wire, frozen=True, kw_only=True):
    """Archived events that arrived from `since_s` up to `until_s`, in their order, to `target` ("": to the bus's rules
    again). `sent` of them are accepted there; `position` is the number of the last."""

    id: str
    namespace: str
    bus: str
    since_s: float
    until_s: float
    target: str = ""
    filter: dict[str, Any] = {}
    state: ReplayState = "running"
    sent: int = 0
    position: int = 0
    error: str = ""
    created_s: float


ArchiveSeconds = Annotated[float, msgspec.Meta(ge=0, le=MOST_ARCHIVE_S, description="seconds; 0 keeps nothing")]


def check_bus(bus: Bus) -> Bus:
    """`bus` itself, or BadRequest."""
    check_name("bus", bus.name)
    if not 0 <= bus.archive_s <= MOST_ARCHIVE_S:
        raise BadRequest(
            f"an archive of {bus.archive_s:g} s", hint=f"use 0 to {MOST_ARCHIVE_S:g} seconds", path="archive_s"
        )
    return bus


def check_rule(rule: Rule) -> Rule:
    """`rule` itself, or BadRequest naming the part that is wrong. The transform's queries are checked where they are
    compiled (`decide.transforms`)."""
    check_name("rule", rule.name)
    read_filter(rule.filter)
    target = target_of(rule.target)
    if target.kind == "bus" and target.name == rule.bus and not rule.filter and rule.transform is None:
        raise BadRequest(
            f"rule {rule.name!r} hands every event of bus {rule.bus!r} to that bus again",
            hint="name another target, or a filter that what it makes does not pass",
            path="target",
        )
    if rule.transform is not None:
        check_template(rule.transform)
    return rule
