"""Who is told of what happens to objects."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fuyun.domain.bucketrules import Notification
from fuyun.domain.events import Event
from fuyun.domain.functions import FunctionSpec
from fuyun.domain.objects import CREATED, DELETED
from fuyun.domain.triggers import ObjectsTrigger, Policy, Trigger
from fuyun.services.triggers.bindings import Bindings
from fuyun.services.triggers.objects import matcher_of, name_of, notified


def happened(key: str = "in/cat.png", kind: str = CREATED, operation: str = "put", **data: Any) -> Event:
    sized = {} if kind == DELETED and "size_bytes" not in data else {"size_bytes": 3}
    body = {"bucket": "photos", "key": key, "operation": operation, **sized, **data}
    return Event(
        id="e-1", source="/default/bucket/photos", type=kind, subject=key, time_s=1.0, data=msgspec.json.encode(body)
    )


class Drafts:
    """The part of a route table that bindings read."""

    def __init__(self, *triggers: Trigger) -> None:
        self._spec = FunctionSpec(triggers=triggers)

    def drafts(self) -> list[tuple[str, str, FunctionSpec]]:
        return [("default", "f", self._spec)]


def trigger(name: str, **fields: Any) -> Trigger:
    return Trigger(name=name, objects=ObjectsTrigger(**{"bucket": "photos", **fields}))


def test_triggers_take_their_bucket_s_events_by_key_and_kind() -> None:
    quick = Policy(max_attempts=1)
    bindings = Bindings(
        Drafts(  # type: ignore[arg-type]
            trigger("all"),
            trigger("gone", events=("deleted",)),
            trigger("png", prefix="in/", suffix=".png", alias="live"),
            trigger("jpg", suffix=".jpg"),
            trigger("other", bucket="else"),
            Trigger(name="quick", objects=ObjectsTrigger(bucket="photos", prefix="in/"), policy=quick),
        )
    )
    match = matcher_of(bindings)
    found = list(match("default", "photos", happened()))
    assert [(one.origin, one.target.text) for one in found] == [
        ("trigger f/all", "function:f"), ("trigger f/png", "function:f:live"), ("trigger f/quick", "function:f"),
    ]  # fmt: skip
    assert found[2].policy == quick
    assert [one.origin for one in match("default", "photos", happened(kind=DELETED))] == ["trigger f/gone"]
    assert list(match("acme", "photos", happened())) == []
    bindings.start([("default", "f", "all")])
    assert [one.origin for one in match("default", "photos", happened("x.gif"))] == [], "it is paused"


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (happened(), "s3:ObjectCreated:Put"),
        (happened(operation="copy"), "s3:ObjectCreated:Copy"),
        (happened(operation="multipart"), "s3:ObjectCreated:CompleteMultipartUpload"),
        (happened(kind=DELETED, operation="delete", size_bytes=3), "s3:ObjectRemoved:Delete"),
        (happened(kind=DELETED, operation="delete"), "s3:ObjectRemoved:DeleteMarkerCreated"),
        (happened(kind=DELETED, operation="expire", size_bytes=3), "s3:LifecycleExpiration:Delete"),
        (happened(kind=DELETED, operation="expire"), "s3:LifecycleExpiration:DeleteMarkerCreated"),
    ],
)
def test_events_have_the_names_that_s3_gives_them(event: Event, name: str) -> None:
    assert name_of(event) == name


def test_notifications_of_a_bucket_name_targets() -> None:
    def note(id_: str, target: str, *events: str, **fields: Any) -> Notification:
        return Notification(id=id_, kind="Queue", events=events, target=target, address="arn", **fields)

    notes = (
        note("a", "queue:q", "s3:ObjectCreated:*"),
        note("b", "topic:t", "s3:ObjectCreated:Copy", "s3:ObjectCreated:Put", suffix=".png"),
        note("c", "function:f", "s3:ObjectRemoved:*"),
        note("d", "queue:q", "s3:ObjectCreated:Put", prefix="out/"),
    )
    match = notified({"photos": notes}.get)  # type: ignore[arg-type]
    assert [(one.origin, one.target.text) for one in match("default", "photos", happened())] == [
        ("notification photos/a", "queue:q"), ("notification photos/b", "topic:t"),
    ]  # fmt: skip
    deleted = happened(kind=DELETED, operation="delete")
    assert [one.target.text for one in match("default", "photos", deleted)] == ["function:f"]
