"""From the outbox to who wants an event, and to targets that are no functions."""

from __future__ import annotations

import asyncio

from fuyun.domain.deliveries import Order, Parcel
from fuyun.domain.errors import StorageFull
from fuyun.domain.events import Event, Target
from fuyun.domain.functions import Asynchronous
from fuyun.domain.tenants import Principal
from fuyun.domain.triggers import Policy
from fuyun.services.relay import Match
from tests.services.events import Events, play

ADMIN = Principal(key_id="k", namespace="*", role="admin")


def test_events_reach_who_wants_them_and_leave_the_outbox() -> None:
    async def scene(e: Events) -> None:
        await e.platform.deploy(asynchronous=Asynchronous(on_success="queue:done"))
        policy = Policy(filter={"type": [{"prefix": "object."}]}, max_attempts=9)
        target = Target(kind="function", name="f")

        def broken(namespace: str, origin: str, event: Event) -> list[Match]:
            raise RuntimeError("a bug")

        for matcher in (
            broken,
            lambda namespace, origin, event: [Match(origin="trigger f/new", target=target, policy=policy)],
            lambda namespace, origin, event: [Match(origin="rule all", target=Target(kind="queue", name=origin))],
        ):
            e.relay.register("bucket", matcher)
        e.relay.register("table", lambda namespace, origin, event: [Match(origin="never", target=target)])
        for n, kind in enumerate(("object.created", "other")):
            await e.post(Event(id=f"e{n}", source="/default/bucket/photos", type=kind, time_s=1.0))
        await asyncio.sleep(1)
        found = await e.list()
        assert [(one.target, one.origin, one.state) for one in found[:3]] == [
            ("function:f", "trigger f/new", "succeeded"),
            ("queue:photos", "rule all", "succeeded"),
            ("queue:photos", "rule all", "succeeded"),
        ]
        assert (found[0].trail, found[0].hops, found[0].max_attempts) == ("e0", 1, 9)
        assert [(name, event.id) for _, name, event in e.sent] == [
            ("photos", "e0"),
            ("photos", "e1"),
            ("done", e.sent[2][2].id),
        ]
        assert e.sent[2][2].hops == 2
        assert e.sent[2][2].trail == "e0"
        assert await e.store.peek(0, 10) == []
        assert len(await e.oversight.list_trail(ADMIN, "default", "e0")) == 3

    play(scene)


def test_what_cannot_be_sent_is_sent_later() -> None:
    async def scene(e: Events) -> None:
        async def full() -> None:
            raise StorageFull("no room")

        e.sending = full
        order = Order(
            id="a" * 32, namespace="default", target=Target(kind="queue", name="q"),
            parcel=Parcel(event=Event(id="e", source="/s", type="t", time_s=1.0)),
        )  # fmt: skip
        await e.acceptor.accept(order)
        await asyncio.sleep(5)
        assert (await e.find(order.id)).state == "retrying"
        e.sending = None
        await asyncio.sleep(60)
        assert (await e.find(order.id)).state == "succeeded"
        nowhere = Order(id="b" * 32, namespace="default", target=Target(kind="bus", name="q"), parcel=order.parcel)
        await e.acceptor.accept(nowhere)
        await asyncio.sleep(1)
        assert (await e.find(nowhere.id)).error == "not_found"

    play(scene)
