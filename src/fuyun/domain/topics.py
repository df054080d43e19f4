"""Topics: what is published to one goes to every subscription whose filter it passes."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from fuyun.domain.events import TargetText, target_of
from fuyun.domain.filters import read_filter
from fuyun.domain.functions import Wire
from fuyun.domain.names import check_name

#: Subscriptions of one topic: a publication is one transaction that writes for each.
MOST_SUBSCRIPTIONS = 100


class SubscriptionSpec(Wire, frozen=True, kw_only=True):
    """Where a topic's events go, and which: those that `filter` (`domain.filters`) takes."""

    target: TargetText
    filter: Annotated[Any, msgspec.Meta(description="which events it gets (docs/guide/topics.md); null: all")] = None

    @property
    def queue(self) -> str:
        """The queue that is the target; "" when it is something else."""
        kind, _, name = self.target.partition(":")
        return name if kind == "queue" else ""


class Subscription(Wire, frozen=True, kw_only=True):
    """A subscription of a topic."""

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


class Published(Wire, frozen=True, kw_only=True):
    """What became of a publication: ids of its events, and how many messages entered which queue."""

    ids: tuple[str, ...]
    queues: dict[str, int] = {}
