"""Orders for events: one hop on, on the same trail, or dead on arrival where the chain has become too long."""

from __future__ import annotations

from typing import Any

import msgspec

from fuyun.base import ids
from fuyun.domain.deliveries import Order, Parcel
from fuyun.domain.errors import LoopDetected, NotFound
from fuyun.domain.events import MOST_HOPS, Event, Target
from fuyun.domain.functions import Asynchronous
from fuyun.domain.names import LATEST
from fuyun.domain.triggers import Policy
from fuyun.services.invoking import Invoker

_TOO_LONG = f"an event has crossed {MOST_HOPS} edges; `fuyun event trail ID` shows its way"


def event_order(
    namespace: str, target: Target, event: Event, terms: Asynchronous, *, origin: str, key: str = ""
) -> Order:
    """The order that brings `event` to `target`, which is an edge: the event counts it. One over `MOST_HOPS` is
    refused: it becomes a dead letter, so that somebody can see where the circle is."""
    followed = event.follow()
    return Order(
        id=ids.new_id(), namespace=namespace, target=target, parcel=Parcel(event=followed),
        max_attempts=terms.max_attempts, max_age_s=terms.max_age_s, on_success=terms.on_success,
        on_failure=terms.on_failure, key=key, hops=followed.hops, trail=followed.trail, origin=origin,
        **refusal(followed.hops),
    )  # fmt: skip


def terms_of(invoker: Invoker, namespace: str, target: Target, policy: Policy | None = None) -> Asynchronous:
    """Under which terms something is delivered to `target`: a function's own, and over them those of the trigger that
    leads to it."""
    own = Asynchronous()
    if target.kind == "function":
        try:
            choices = invoker.resolve(namespace, target.name, target.qualifier or LATEST).choices
            own = choices[0][1].spec.asynchronous if choices else own
        except NotFound:  # it will be a dead letter, under the terms that hold for all
            pass
    if policy is None:
        return own
    return msgspec.structs.replace(
        own,
        max_attempts=policy.max_attempts,
        max_age_s=policy.max_age_s,
        on_failure=policy.dead_letter or own.on_failure,
    )


def refusal(hops: int) -> dict[str, Any]:
    """What an order that has made so many hops says of its refusal; nothing while it may go on."""
    return {"refused": LoopDetected.code, "detail": _TOO_LONG} if hops > MOST_HOPS else {}
