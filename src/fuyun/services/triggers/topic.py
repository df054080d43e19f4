"""Topic triggers: functions that get each event that is published to a topic, by the relay."""

from __future__ import annotations

from collections.abc import Iterator

from fuyun.domain.events import Event
from fuyun.services.relay import Match, Matcher
from fuyun.services.triggers.bindings import Bindings


def matcher_of(bindings: Bindings) -> Matcher:
    """What tells the relay which triggers want an event of a topic. A paused trigger's events are not kept for it."""

    def match(namespace: str, topic: str, _event: Event) -> Iterator[Match]:
        for binding in bindings.of("topic"):
            trigger = binding.trigger.topic
            if trigger is not None and binding.namespace == namespace and trigger.topic == topic and not binding.paused:
                yield Match(origin=binding.origin, target=binding.target, policy=binding.trigger.policy)

    return match
