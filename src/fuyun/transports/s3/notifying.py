"""Notification configurations: S3's documents, and the targets of the namespace that their ARNs name.

An ARN's last part names the target: `arn:fuyun:queue:::NAME`, and as AWS writes them `arn:aws:sqs:REGION:ID:NAME`,
`arn:aws:sns:REGION:ID:NAME`, `arn:aws:lambda:REGION:ID:function:NAME[:QUALIFIER]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from fuyun.base import ids
from fuyun.domain.bucketrules import Notification
from fuyun.domain.errors import BadRequest
from fuyun.domain.events import target_of
from fuyun.transports.s3.documents import Node

Kind = Literal["Topic", "Queue", "CloudFunction"]
#: Element of the document, and of its ARN, by kind; the target's kind.
_KINDS: tuple[tuple[Kind, str, str], ...] = (
    ("Topic", "Topic", "topic"),
    ("Queue", "Queue", "queue"),
    ("CloudFunction", "CloudFunction", "function"),
)
#: S3's events that happen here. https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-event-types-and-destinations.html
KNOWN = (
    "s3:ObjectCreated:*",
    "s3:ObjectCreated:Put",
    "s3:ObjectCreated:Copy",
    "s3:ObjectCreated:CompleteMultipartUpload",
    "s3:ObjectRemoved:*",
    "s3:ObjectRemoved:Delete",
    "s3:ObjectRemoved:DeleteMarkerCreated",
    "s3:LifecycleExpiration:*",
    "s3:LifecycleExpiration:Delete",
    "s3:LifecycleExpiration:DeleteMarkerCreated",
)


def notifications_of(document: Node) -> tuple[Notification, ...]:
    """The notifications of a `NotificationConfiguration`. BadRequest."""
    document.only(*(f"{kind}Configuration" for kind, _, _ in _KINDS))
    return tuple(
        _notification(kind, element, target, node)
        for kind, element, target in _KINDS
        for node in document.all(f"{kind}Configuration")
    )


def _notification(kind: Kind, element: str, target: str, node: Node) -> Notification:
    node.only("Id", element, "Event", "Filter")
    address, events = node.get(element), node.texts("Event")
    unknown = [event for event in events if event not in KNOWN]
    if unknown or not events:
        found = f"event {unknown[0][:60]!r}" if unknown else "no event"
        raise BadRequest(
            f"a notification names {found}", hint=f"known are {', '.join(KNOWN)}",
            reason="InvalidArgument",
        )  # fmt: skip
    name = address.rpartition(":function:")[2].lstrip(":") if target == "function" else address.rpartition(":")[2]
    if not address.startswith("arn:") or not name:
        raise BadRequest(
            f"{address[:120]!r} names no {target}", hint=f"write arn:fuyun:{target}:::NAME", reason="InvalidArgument"
        )
    return Notification(
        id=node.get("Id") or ids.new_id(), kind=kind, events=events, target=target_of(f"{target}:{name}").text,
        address=address, **_filter(node.find("Filter")),
    )  # fmt: skip


def _filter(node: Node | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in node.only("S3Key").all("S3Key") if node else ():
        for rule in key.only("FilterRule").all("FilterRule"):
            name = rule.get("Name").lower()
            if name not in ("prefix", "suffix") or name in found:
                raise BadRequest(
                    f"filter {name[:40]!r} is not prefix or suffix, or stands twice", reason="InvalidArgument"
                )
            found[name] = rule.get("Value")
    return found


def notification_document(found: Sequence[Notification]) -> dict[str, Any]:
    """The document of a bucket's notifications."""
    shown: dict[str, Any] = {}
    for kind, element, _ in _KINDS:
        shown[f"{kind}Configuration"] = [
            {
                "Id": one.id,
                element: one.address,
                "Event": one.events,
                "Filter": {"S3Key": {"FilterRule": _rules(one)}} if one.prefix or one.suffix else None,
            }
            for one in found
            if one.kind == kind
        ]
    return shown


def _rules(one: Notification) -> list[dict[str, str]]:
    both = (("prefix", one.prefix), ("suffix", one.suffix))
    return [{"Name": name, "Value": value} for name, value in both if value]
