"""Events: CloudEvents 1.0 as they are stored and handed on, and the targets they go to.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
"""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec

from fuyun.domain.errors import BadRequest
from fuyun.domain.names import LATEST, check_name, check_qualifier
from fuyun.domain.wire import Wire

SPECVERSION = "1.0"
#: Names of extension attributes: CloudEvents 1.0, "Naming Conventions".
_EXTENSION = re.compile(r"[a-z0-9]{1,20}")
#: Extensions that are ours; nobody else may set them.
HOPS, TRAIL = "fuyunhops", "fuyuntrail"
#: Edges that an event and what follows from it may cross; the next one is refused.
MOST_HOPS = 32

#: What a trail may be: it goes along in header fields and credentials.
_TRAIL = re.compile(r"[!-~]{1,128}")

TargetKind = Literal["function", "queue", "topic", "bus", "stream", "endpoint"]
TARGET_KINDS: tuple[TargetKind, ...] = ("function", "queue", "topic", "bus", "stream", "endpoint")


class Event(Wire, frozen=True, kw_only=True):
    """A CloudEvent. `data` is the payload's bytes, JSON when `content_type` says so. `hops` counts the edges that lead
    here from the first event, which `trail` names (`trail_of` its id)."""

    id: str
    source: str  # a URI reference: /NAMESPACE/KIND/NAME for what happened here
    type: str
    subject: str = ""
    time_s: float
    content_type: str = "application/json"
    data: bytes = b""
    extensions: dict[str, str] = {}
    hops: int = 0
    trail: str = ""
    raw: bool = False  # its data is handed on as the bytes it is, also where they are JSON

    @property
    def time_text(self) -> str:
        """`time_s` as RFC 3339, in UTC and to the millisecond."""
        return f"{datetime.fromtimestamp(self.time_s, UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"

    @property
    def is_json(self) -> bool:
        """Whether `data` is JSON."""
        media = self.content_type.partition(";")[0].strip().lower()
        return media == "application/json" or media.endswith("+json")

    def follow(self, **changes: Any) -> Event:
        """What follows from this event: one hop on, on the same trail."""
        made: Event = msgspec.structs.replace(
            self, hops=self.hops + 1, trail=self.trail or trail_of(self.id), **changes
        )
        return made


def trail_of(event_id: str) -> str:
    """The name of the trail that begins with the event of that id: the id itself, or its SHA-256 in hex where it is
    long or no plain ASCII."""
    return event_id if _TRAIL.fullmatch(event_id) else hashlib.sha256(event_id.encode()).hexdigest()


def check_event(event: Event) -> Event:
    """`event` itself, or BadRequest saying which attribute is not as CloudEvents 1.0 wants it."""
    for name in ("id", "source", "type"):
        if not getattr(event, name):
            raise BadRequest(f"the event has no {name}", hint=f"set {name}; CloudEvents 1.0 requires it", path=name)
    for name in event.extensions:
        if not _EXTENSION.fullmatch(name):
            raise BadRequest(
                f"extension {name!r} is not 1 to 20 of a-z and 0-9",
                hint="rename it as CloudEvents 1.0 wants",
                path=name,
            )
        if name in (HOPS, TRAIL):
            raise BadRequest(f"extension {name!r} is set by the platform alone", hint="leave it out", path=name)
    if event.is_json and event.data and not event.raw:
        try:
            msgspec.json.decode(event.data, type=msgspec.Raw)
        except msgspec.DecodeError as exc:
            raise BadRequest(
                f"the data of event {event.id!r} is not JSON: {exc}", hint="send JSON, or name its content type",
                path="data",
            ) from exc  # fmt: skip
    return event


def structured(event: Event) -> bytes:
    """The event in CloudEvents' JSON format, as functions get it."""
    plain: dict[str, Any] = {
        "specversion": SPECVERSION,
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "time": event.time_text,
        **({"subject": event.subject} if event.subject else {}),
        **event.extensions,
    }
    if event.hops:
        plain |= {HOPS: event.hops, TRAIL: event.trail}
    if event.data:
        plain["datacontenttype"] = event.content_type
        if event.is_json and not event.raw:
            plain["data"] = msgspec.Raw(event.data)
        else:
            plain["data_base64"] = base64.b64encode(event.data).decode()
    return msgspec.json.encode(plain)


class Target(Wire, frozen=True, kw_only=True):
    """Where an event goes: a thing of the same namespace. As text `KIND:NAME`, a function's with `:QUALIFIER`."""

    kind: TargetKind
    name: str
    qualifier: str = ""  # of a function; "" is $LATEST

    @property
    def text(self) -> str:
        """`KIND:NAME[:QUALIFIER]`."""
        return f"{self.kind}:{self.name}" + (f":{self.qualifier}" if self.qualifier else "")


TargetText = Annotated[
    str,
    msgspec.Meta(
        description="function:NAME[:QUALIFIER], queue:NAME, topic:NAME, bus:NAME, stream:NAME or endpoint:NAME"
    ),
]


def target_of(text: str) -> Target:
    """The target that `text` names. BadRequest."""
    kind, _, rest = text.partition(":")
    if kind not in TARGET_KINDS or not rest:
        raise BadRequest(
            f"{text[:120]!r} is no target",
            hint=f"write KIND:NAME, KIND one of {', '.join(TARGET_KINDS)}",
            path="target",
        )
    name, _, qualifier = rest.partition(":")
    if qualifier and kind != "function":
        raise BadRequest(f"{text[:120]!r}: a {kind} has no qualifier", hint=f"write {kind}:{name[:64]}", path="target")
    check_name(kind, name)
    if qualifier and qualifier != LATEST:
        check_qualifier(qualifier)
    return Target(kind=kind, name=name, qualifier=qualifier)
