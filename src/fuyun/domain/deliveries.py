"""Deliveries: what was accepted to be done later, durably, and what became of it.

A delivery goes to a target. For a function it is one asynchronous invocation, for anything else an event on its way.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from fuyun.domain.events import Event, Target, TargetKind
from fuyun.domain.wire import Wire

State = Literal["queued", "running", "retrying", "succeeded", "failed", "stopped", "expired"]
STATES: Final[tuple[State, ...]] = ("queued", "running", "retrying", "succeeded", "failed", "stopped", "expired")
#: States of what is still to be done.
WAITING: Final[tuple[State, ...]] = ("queued", "retrying")
#: States of dead letters: given up, and kept with their payload so that they can be driven again.
DEAD: Final[tuple[State, ...]] = ("failed", "expired")
#: States in which nothing happens any more.
FINISHED: Final[tuple[State, ...]] = ("succeeded", "failed", "stopped", "expired")

#: Bounds of what callers choose.
MOST_DELAY_S: Final = 366 * 86400.0
MOST_KEY: Final = 200  # characters of an idempotency key
KEY_WINDOW_S: Final = 86400.0  # how long one is remembered
#: Bytes of a payload and of an answer that an outcome's event repeats; longer ones are left out.
MOST_REPEATED_BYTES: Final = 256 * 1024
#: Fresh deliveries go before those that are tried again, unless these have been due so much longer.
RETRY_BEHIND_S: Final = 60.0

#: Fields that tell a function about its delivery, in whatever runtime. What a caller inside sends in them is replaced.
DELIVERY_FIELD: Final = "fuyun-delivery"
ATTEMPT_FIELD: Final = "fuyun-attempt"
HOPS_FIELD: Final = "fuyun-hops"
TRAIL_FIELD: Final = "fuyun-trail"

#: Where deliveries wait, one behind the other: namespace, kind and name of their target.
Lane = tuple[str, TargetKind, str]


class Call(Wire, frozen=True, kw_only=True):
    """What is asked of a function besides the body, as `services.requests.Request` has it. `base` is the part of the
    path that named the function."""

    kind: Literal["event", "http"] = "event"
    method: str = "POST"
    path: str = "/"
    base: str = ""
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    source: str = ""


class Parcel(Wire, frozen=True, kw_only=True):
    """What is delivered: an event, or a call with its body (JSON for kind `event`)."""

    event: Event | None = None
    call: Call = Call()
    body: bytes = b""


class Order(Wire, frozen=True, kw_only=True):
    """A delivery that is to be accepted. Times are wall-clock seconds, `at_s` is the earliest moment (0: now).

    `id`: the delivery's, of `base.ids`. `key` with its window: another order with it for the same lane is the same
    delivery. `origin` tells people where it comes from: `api`, `gateway`, `function NAME`, `trigger NAME` or
    `outcome ID`. `refused` is the error code of an order that is dead on arrival, `detail` its words.
    """

    id: str
    namespace: str
    target: Target
    parcel: Parcel
    at_s: float = 0.0
    max_attempts: int = 3
    max_age_s: float = 6 * 3600.0
    on_success: str = ""
    on_failure: str = ""
    key: str = ""
    key_window_s: float = KEY_WINDOW_S
    hops: int = 0
    trail: str = ""  # id of the first event or delivery of the chain; "" for this one's own
    origin: str = ""
    refused: str = ""
    detail: str = ""


class Delivery(Wire, frozen=True, kw_only=True):
    """A delivery as it is kept, without its parcel. `at_s`: when it is due; of a running one, when its attempt began;
    of a finished one, when that was. `failures` are the attempts that count against `max_attempts`."""

    id: str
    namespace: str
    target: Annotated[str, msgspec.Meta(description="KIND:NAME[:QUALIFIER]")]
    state: State
    attempts: int = 0
    failures: int = 0
    max_attempts: int = 3
    max_age_s: float = 6 * 3600.0
    accepted_s: float
    at_s: float
    expires_s: float
    on_success: str = ""
    on_failure: str = ""
    hops: int = 0
    trail: str = ""
    origin: str = ""
    error: str = ""  # code of the last attempt's error
    detail: str = ""
    invocation: str = ""  # id of the last attempt, for its record and its logs


class Settlement(Wire, frozen=True, kw_only=True):
    """What an attempt led to: the next state of a running delivery, and what is accepted with it."""

    namespace: str
    id: str
    state: State
    at_s: float
    failures: int = 0
    error: str = ""
    detail: str = ""
    invocation: str = ""
    follow: tuple[Order, ...] = ()
