"""A message's place in its queue: whose turn it is, who holds it, and for how long. Pure; the drivers keep it on disk.

A message is `ready` from its due time on. Taking it out leases it: it is `in_flight` until its lease runs out, and then
ready again, for anybody. In a queue with order only the first message of a group has a due time; the others are
`blocked` behind it, so that a group has one message out at most, and always its first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from fuyun.domain.queues import QueueSpec

Stage = Literal["ready", "in_flight", "delayed", "blocked"]
#: What a receiver meets on its way: take it, or it has been given out too often, or it is too old.
Turn = Literal["take", "give_up", "expire"]

ABSENT = "the message is gone: it was acknowledged, moved or purged"
EXPIRED = "the lease ran out; the message is ready for another receiver"
SUPERSEDED = "the lease ran out and another receiver has taken the message"


@dataclass(frozen=True, slots=True)
class Place:
    """`due_s` None: behind another of its group. `lease` is the number of the newest lease; it only rises."""

    due_s: float | None
    sent_s: float
    leased: bool = False
    lease: int = 0
    receives: int = 0


def enter(spec: QueueSpec, delay_s: float | None, behind: bool, now_s: float) -> Place:
    """Where a message that is sent stands. `behind`: another one of its group is there."""
    wait_s = spec.delay_s if delay_s is None else delay_s
    return Place(None if behind else now_s + wait_s, now_s)


def promote(spec: QueueSpec, place: Place, now_s: float) -> Place:
    """The first of its group now, since the one before it has left."""
    return replace(place, due_s=max(now_s, place.sent_s + spec.delay_s))


def stage(place: Place, now_s: float) -> Stage:
    """What it waits for."""
    if place.due_s is None:
        return "blocked"
    if place.due_s <= now_s:
        return "ready"
    return "in_flight" if place.leased else "delayed"


def turn(spec: QueueSpec, place: Place, now_s: float) -> Turn:
    """What a receiver does with a message that is ready."""
    if outlived(spec, place, now_s):
        return "expire"
    if spec.dead_letter and place.receives >= spec.max_receives:
        return "give_up"
    return "take"


def outlived(spec: QueueSpec, place: Place, now_s: float) -> bool:
    """Whether its time is over. One that somebody holds is left to them."""
    return place.sent_s + spec.retention_s <= now_s and stage(place, now_s) != "in_flight"


def take(place: Place, visibility_s: float, now_s: float) -> Place:
    """Taken out, with a lease of its own."""
    return replace(place, due_s=now_s + visibility_s, leased=True, lease=place.lease + 1, receives=place.receives + 1)


def refusal(place: Place | None, lease: int, now_s: float) -> str:
    """Why the holder of `lease` may not say what becomes of the message; "" when it may."""
    if place is None:
        return ABSENT
    if place.lease != lease:
        return SUPERSEDED
    if not place.leased or place.due_s is None or place.due_s <= now_s:
        return EXPIRED
    return ""


def hold(place: Place, seconds: float, now_s: float) -> Place:
    """Kept by its holder for that long from now; with 0 returned, so that anybody may take it at once."""
    return replace(place, due_s=now_s + seconds, leased=seconds > 0)
