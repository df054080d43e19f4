"""Destinations: the event that tells of an asynchronous invocation's outcome."""

from __future__ import annotations

from typing import Any

import msgspec

from fuyun.base import ids
from fuyun.domain.deliveries import MOST_REPEATED_BYTES, Settlement
from fuyun.domain.events import Event, structured, target_of
from fuyun.domain.functions import Asynchronous
from fuyun.ports.deliveries import Leased
from fuyun.services.orders import event_order
from fuyun.services.outcomes import Outcome

_TYPES = {
    "succeeded": "fuyun.delivery.succeeded",
    "failed": "fuyun.delivery.failed",
    "expired": "fuyun.delivery.expired",
}


def follow_up(leased: Leased, settlement: Settlement, outcome: Outcome | None, now_s: float) -> Settlement:
    """The settlement with the order for its destination, where there is one for its state."""
    delivery = leased.delivery
    state = settlement.state
    text = delivery.on_success if state == "succeeded" else delivery.on_failure if state in _TYPES else ""
    if not text:
        return settlement
    event = Event(
        id=ids.new_id(), source=f"/{delivery.namespace}/{delivery.target.replace(':', '/')}", type=_TYPES[state],
        subject=delivery.id, time_s=now_s, data=_told(leased, settlement, outcome), hops=delivery.hops,
        trail=delivery.trail or delivery.id,
    )  # fmt: skip
    order = event_order(delivery.namespace, target_of(text), event, Asynchronous(), origin=f"outcome {delivery.id}")
    return msgspec.structs.replace(settlement, follow=(*settlement.follow, order))


def _told(leased: Leased, settlement: Settlement, outcome: Outcome | None) -> bytes:
    """What the event says: the delivery, what was delivered, and what came of it."""
    delivery, parcel = leased.delivery, leased.parcel
    payload = structured(parcel.event) if parcel.event is not None else parcel.body
    told: dict[str, Any] = {
        "delivery": delivery.id, "target": delivery.target, "origin": delivery.origin, "state": settlement.state,
        "attempts": delivery.attempts, "accepted_s": delivery.accepted_s, "invocation": settlement.invocation,
        **_content("request", payload, parcel.event is not None or parcel.call.kind == "event"),
    }  # fmt: skip
    if outcome is not None and outcome.ok:
        told |= {
            "version": outcome.version,
            **_content("response", outcome.body, outcome.content_type.startswith("application/json")),
        }
    else:
        told["error"] = {"code": settlement.error, "detail": settlement.detail}
    return msgspec.json.encode(told)


def _content(name: str, data: bytes, is_json: bool) -> dict[str, Any]:
    """`data` under `name`: JSON as it is, text as text, else base64 under `NAME_base64`; what is too long is left out
    and said to be."""
    if len(data) > MOST_REPEATED_BYTES:
        return {f"{name}_bytes": len(data)}
    if is_json and data:
        try:
            msgspec.json.decode(data, type=msgspec.Raw)
            return {name: msgspec.Raw(data)}
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": data}
