"""CloudEvents over HTTP, in every content mode, by the `cloudevents` package: binary, structured and batched.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_binary, to_binary
from cloudevents.core.exceptions import BaseCloudEventException, CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from fuyun.domain.errors import BadRequest, PayloadTooLarge
from fuyun.domain.events import HOPS, SPECVERSION, TRAIL, Event, check_event

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
#: Events in one batch.
MOST_EVENTS = 1000
_HINT = "send ce-id, ce-source, ce-type and ce-specversion: 1.0 as headers, or a body of type " + STRUCTURED
_OWN = ("id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "specversion")
_format = JSONFormat()


class _Told(msgspec.Struct):
    """What the package fills in where a sender left it out, or reads too kindly."""

    id: str = ""
    time: str | None = None
    data_base64: str | None = None


def read_events(headers: Mapping[str, str], body: bytes, now_s: float) -> list[Event]:
    """The events of a request: `headers` with lower-case names. One without a time happened at `now_s`. BadRequest for
    what is no CloudEvent, PayloadTooLarge for more than `MOST_EVENTS`."""
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == BATCH:
        return _batch(body, now_s)
    if media == STRUCTURED:
        return [_structured(body, now_s, "the body")]
    if any(name.startswith("ce-") for name in headers):
        return [_binary(headers, body, now_s)]
    raise BadRequest(f"the request carries no CloudEvent: its type is {media or 'not given'}", hint=_HINT)


def binary(event: Event) -> tuple[dict[str, str], bytes]:
    """The event in binary content mode: headers and body."""
    attributes: dict[str, Any] = {
        "id": event.id, "source": event.source, "type": event.type, "specversion": SPECVERSION,
        "time": datetime.fromtimestamp(event.time_s, UTC), **event.extensions,
    }  # fmt: skip
    if event.subject:
        attributes["subject"] = event.subject
    if event.data:
        attributes["datacontenttype"] = event.content_type
    if event.hops:
        attributes |= {HOPS: str(event.hops), TRAIL: event.trail}
    message = to_binary(CloudEvent(attributes, event.data or None), _format)
    return dict(message.headers), message.body


def _batch(body: bytes, now_s: float) -> list[Event]:
    try:
        items = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as exc:
        raise BadRequest(f"the body is no JSON array: {exc}", hint=f"a body of type {BATCH} is one") from exc
    if len(items) > MOST_EVENTS:
        raise PayloadTooLarge(
            f"a batch of {len(items)} events", hint=f"send at most {MOST_EVENTS} at once", limit=MOST_EVENTS
        )
    return [_structured(bytes(item), now_s, f"event {place}") for place, item in enumerate(items)]


def _structured(body: bytes, now_s: float, where: str) -> Event:
    try:
        sent = msgspec.json.decode(body, type=_Told)
        found = _format.read(CloudEvent, body)
        base64.b64decode(sent.data_base64 or "", validate=True)
    except (BaseCloudEventException, ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise _refused(exc, where) from exc
    _require_id(sent.id, where)
    told = found.get_attributes().get("datacontenttype") or "application/json"
    data = found.get_data()
    if data is None:
        return _event(found, b"", told, now_s, sent.time)
    # Data that the format gave as bytes came as data_base64.
    if isinstance(data, bytes):
        return _event(found, data, told, now_s, sent.time)
    as_text = isinstance(data, str) and not _is_json(told)
    return _event(found, str(data).encode() if as_text else msgspec.json.encode(data), told, now_s, sent.time)


def _binary(headers: Mapping[str, str], body: bytes, now_s: float) -> Event:
    try:
        # The body stays the bytes it is: only the attributes are read by the package.
        found = from_binary(HTTPMessage(dict(headers), b""), _format, CloudEvent)
    except (BaseCloudEventException, ValueError, TypeError, KeyError, AttributeError) as exc:
        raise _refused(exc, "the request") from exc
    _require_id(headers.get("ce-id", ""), "the request")
    return _event(found, body, headers.get("content-type", "application/json"), now_s, headers.get("ce-time"))


def _require_id(id_: str, where: str) -> None:
    if not id_:
        raise BadRequest(f"{where} is no CloudEvent: it has no id", hint=_HINT)


def _event(found: BaseCloudEvent, data: bytes, content_type: str, now_s: float, time: str | None) -> Event:
    attributes = dict(found.get_attributes())
    at = attributes.get("time")
    if time is not None and isinstance(at, datetime):
        now_s = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    hops = str(attributes.pop(HOPS, "0"))
    trail = str(attributes.pop(TRAIL, ""))
    made = Event(
        id=found.get_id(), source=found.get_source(), type=found.get_type(), subject=found.get_subject() or "",
        time_s=now_s, content_type=content_type, data=data,
        extensions={name: _text(value) for name, value in attributes.items() if name not in _OWN and value is not None},
        hops=int(hops) if hops.isdecimal() and len(hops) < 4 else 0, trail=trail[:256],
    )  # fmt: skip
    return check_event(made)


def _text(value: Any) -> str:
    """An extension's value in CloudEvents' canonical form."""
    return ("false", "true")[value] if isinstance(value, bool) else str(value)


def _is_json(content_type: str) -> bool:
    return Event(id="", source="", type="", time_s=0.0, content_type=content_type).is_json


def _refused(exc: Exception, where: str) -> BadRequest:
    if isinstance(exc, CloudEventValidationError):
        said = "; ".join(str(error) for errors in exc.errors.values() for error in errors)
    else:
        said = str(exc) or type(exc).__name__
    return BadRequest(f"{where} is no CloudEvent: {said[:300]}", hint=_HINT)
