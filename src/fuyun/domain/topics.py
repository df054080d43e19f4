"""Topics: what is published to one goes to every subscription whose filter it passes."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from fuyun.domain.errors import BadRequest
from fuyun.domain.events import Event, TargetText, target_of
from fuyun.domain.functions import Wire
from fuyun.domain.names import check_name

#: Subscriptions of one topic: a publication is one transaction that writes for each.
MOST_SUBSCRIPTIONS = 100
#: Attributes and values of one filter.
MOST_FILTERED, MOST_VALUES = 10, 50

_ATTRIBUTE = re.compile(r"[a-z0-9]{1,20}")


class SubscriptionSpec(Wire, frozen=True, kw_only=True):
    """Where a topic's events go, and which: each attribute that `filter` names has one of the values it lists."""

    target: TargetText
    filter: Annotated[
        dict[str, tuple[str, ...]], msgspec.Meta(description="attribute -> values, one of which it must have")
    ] = {}

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
    if len(spec.filter) > MOST_FILTERED:
        raise BadRequest(
            f"the filter names {len(spec.filter)} attributes", hint=f"name {MOST_FILTERED} at most", path="filter"
        )
    for attribute, values in spec.filter.items():
        if not _ATTRIBUTE.fullmatch(attribute):
            raise BadRequest(
                f"{attribute[:40]!r} is no attribute of an event", hint="use 1 to 20 of a-z and 0-9", path="filter"
            )
        if not 1 <= len(values) <= MOST_VALUES:
            raise BadRequest(
                f"the filter lists {len(values)} values of {attribute!r}", hint=f"list 1 to {MOST_VALUES}",
                path=f"filter.{attribute}",
            )  # fmt: skip


def attribute_of(event: Event, name: str) -> str | None:
    """The value of one of an event's attributes, None when it has none of that name."""
    if name in ("id", "source", "type", "subject"):
        return str(getattr(event, name))
    if name == "datacontenttype":
        return event.content_type
    return event.extensions.get(name)


def passes(spec: SubscriptionSpec, event: Event) -> bool:
    """Whether the subscription gets the event."""
    return all(attribute_of(event, name) in values for name, values in spec.filter.items())


class Published(Wire, frozen=True, kw_only=True):
    """What became of a publication: ids of its events, and how many messages entered which queue."""

    ids: tuple[str, ...]
    queues: dict[str, int] = {}
