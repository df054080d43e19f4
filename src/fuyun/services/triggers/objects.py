"""What happens to objects, for the relay: triggers of functions, and notifications that buckets are configured with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from fuyun.domain.bucketrules import Notification
from fuyun.domain.events import Event, target_of
from fuyun.domain.objects import CREATED
from fuyun.services.relay import Match, Matcher
from fuyun.services.triggers.bindings import Bindings

#: What an object's event says of its operation -> the last part of S3's name of the event.
_S3: Final = {
    "put": "ObjectCreated:Put",
    "copy": "ObjectCreated:Copy",
    "multipart": "ObjectCreated:CompleteMultipartUpload",
    "delete": "ObjectRemoved:Delete",
    "expire": "LifecycleExpiration:Delete",
}


class _Data(msgspec.Struct):
    """The part of an event's data that names its kind in S3."""

    operation: str = ""
    size_bytes: int | None = None  # None: a delete marker


def matcher_of(bindings: Bindings) -> Matcher:
    """What tells the relay which triggers want an event of a bucket. A paused trigger's events are not kept for it."""

    def match(namespace: str, bucket: str, event: Event) -> Iterator[Match]:
        kind = "created" if event.type == CREATED else "deleted"
        for binding in bindings.of("objects"):
            trigger = binding.trigger.objects
            if trigger is None or binding.paused or (binding.namespace, trigger.bucket) != (namespace, bucket):
                continue
            if kind in trigger.events and _fits(event.subject, trigger.prefix, trigger.suffix):
                yield Match(origin=binding.origin, target=binding.target, policy=binding.trigger.policy)

    return match


def notified(notifications_of: Callable[[str], tuple[Notification, ...]]) -> Matcher:
    """What tells the relay of a bucket's own notifications: `notifications_of` looks them up in memory."""

    def match(_namespace: str, bucket: str, event: Event) -> Iterator[Match]:
        name = ""
        for one in notifications_of(bucket):
            name = name or name_of(event)
            if _fits(event.subject, one.prefix, one.suffix) and any(_covers(known, name) for known in one.events):
                yield Match(origin=f"notification {bucket}/{one.id}", target=target_of(one.target))

    return match


def name_of(event: Event) -> str:
    """S3's name of an object's event, such as `s3:ObjectCreated:Put`."""
    told = msgspec.json.decode(event.data, type=_Data)
    name = f"s3:{_S3.get(told.operation, 'ObjectCreated:Put')}"
    return f"{name}MarkerCreated" if event.type != CREATED and told.size_bytes is None else name


def _covers(known: str, name: str) -> bool:
    return name.startswith(known[:-1]) if known.endswith("*") else name == known


def _fits(key: str, prefix: str, suffix: str) -> bool:
    return key.startswith(prefix) and key.endswith(suffix)
