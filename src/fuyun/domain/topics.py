"""Topics: what is published to one goes to every subscription whose filter it passes."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from fuyun.domain.errors import BadRequest
from fuyun.domain.events import TargetText, target_of
from fuyun.domain.filters import read_filter
from fuyun.domain.functions import Wire
from fuyun.domain.names import check_name

#: Subscriptions of one topic: a publication is one transaction that writes for each.
MOST_SUBSCRIPTIONS = 100
#: What a subscription may say of retries at most.
MOST_ATTEMPTS, MOST_AGE_S = 100, 14 * 86400.0


class SubscriptionSpec(Wire, frozen=True, kw_only=True):
    """Where a topic's events go, and which: those that `filter` (`domain.filters`) takes."""

    target: TargetText
    filter: Annotated[Any, msgspec.Meta(description="which events it gets (docs/guide/topics.md); null: all")] = None
    max_attempts: Annotated[int, msgspec.Meta(description="calls of a function that may fail by its own fault")] = 3
    max_age_s: Annotated[float, msgspec.Meta(description="seconds in which an event is tried")] = 6 * 3600.0
    dead_letter: Annotated[str, msgspec.Meta(description="target of what is given up; empty: dead letters")] = ""

    @property
    def queue(self) -> str:
        """The queue that is the target; "" when it is something else."""
        kind, _, name = self.target.partition(":")
        return name if kind == "queue" else ""


class Subscription(Wire, frozen=True, kw_only=True):
    """A subscription of a topic."""

    namespace: str
    topic: str
    name: str
    spec: SubscriptionSpec
    created_s: float


class Topic(Wire, frozen=True, kw_only=True):
    """A topic of a namespace."""

    namespace: str
    name: str
    created_s: float
    description: str = ""


def check_subscription(name: str, spec: SubscriptionSpec) -> None:
    """BadRequest that says what of the subscription cannot be."""
    check_name("subscription", name)
    target_of(spec.target)
    if spec.filter is not None:
        read_filter(spec.filter)
    if spec.dead_letter:
        target_of(spec.dead_letter)
    if not 1 <= spec.max_attempts <= MOST_ATTEMPTS:
        raise BadRequest(f"max_attempts is {spec.max_attempts}", hint=f"use 1 to {MOST_ATTEMPTS}", path="max_attempts")
    if not 1 <= spec.max_age_s <= MOST_AGE_S:
        raise BadRequest(f"max_age_s is {spec.max_age_s:g}", hint=f"use 1 to {MOST_AGE_S:g}", path="max_age_s")


class Published(Wire, frozen=True, kw_only=True):
    """What became of a publication: ids of its events, and how many messages entered which queue."""

    ids: tuple[str, ...]
    queues: dict[str, int] = {}
