"""Triggers and targets of queues and topics through what happens to a platform, in virtual time."""

from __future__ import annotations

import asyncio

from fuyun.domain.errors import StorageFull
from fuyun.domain.events import MOST_HOPS, Event, target_of
from fuyun.domain.queues import Outgoing
from fuyun.domain.topics import SubscriptionSpec
from fuyun.services.tenants import PLATFORM
from tests.services.messages import Messages, record, run


def test_topics_reach_triggers_subscriptions_and_queues() -> None:
    async def scene(m: Messages) -> None:
        seen = record(m)
        await m.create()
        await m.topics.put_topic(PLATFORM, "default", "t")
        await m.deploy("g")
        await m.bind_topic(filter={"kind": "x"})
        for name, target, wanted in (("q", "queue:q", None), ("g", "function:g", {"kind": "y"})):
            spec = SubscriptionSpec(target=target, filter=wanted)
            await m.topics.subscribe(PLATFORM, "default", "t", name, spec)
        await m.topics.publish("default", "t", [_event("1", "x"), _event("2", "y"), _event("3", "z")])
        assert await m.held() == ["1", "2", "3"]
        await asyncio.sleep(1)
        assert sorted(seen) == [["1"], ["2"]]
        told = {one.origin: one.target for one in await m.e.list()}
        assert told == {"trigger f/topic": "function:f", "subscription t/g": "function:g"}
        await m.restart()
        await m.topics.publish("default", "t", [_event("4", "y")])
        await asyncio.sleep(1)
        assert ["4"] in seen, "subscriptions are known to the next platform"
        await m.topics.unsubscribe(PLATFORM, "default", "t", "g")
        await m.topics.publish("default", "t", [_event("5", "y")])
        await asyncio.sleep(1)
        assert ["5"] not in seen

    run(scene)


def _event(id_: str, kind: str) -> Outgoing:
    event = Event(id=id_, source="/s", type="t", time_s=0.0, extensions={"kind": kind})
    return Outgoing(event=event)


def test_queues_and_topics_are_targets() -> None:
    async def scene(m: Messages) -> None:
        await m.create()
        await m.create("o", fifo=True)
        await m.topics.put_topic(PLATFORM, "default", "t")
        await m.topics.subscribe(PLATFORM, "default", "t", "s", SubscriptionSpec(target="queue:q"))
        event = Event(id="e", source="/default/bucket/photos", type="t", time_s=0.0)
        for target in ("queue:q", "queue:o", "topic:t"):
            await m.e.path.targets.send("default", target_of(target), [event])
        assert await m.held() == ["e", "e"]
        [ordered] = await m.queues.peek("default", "o")
        assert ordered.group == "/default/bucket/photos"

    run(scene)


def test_a_kill_gives_out_again_what_was_under_way() -> None:
    async def scene(m: Messages) -> None:
        m.e.handler = None
        await m.create(visibility_s=30)
        await m.send("a")
        await m.bind()
        await asyncio.sleep(5)
        await m.restart()
        seen = record(m)
        await asyncio.sleep(20)
        assert seen == []
        await asyncio.sleep(20)
        assert (seen, await m.count()) == ([["a"]], 0)

    run(scene)


def test_a_stop_lets_what_runs_end_and_takes_nothing_more() -> None:
    async def scene(m: Messages) -> None:
        m.e.handler = None
        await m.create()
        await m.send("a")
        await m.bind(batch_size=1)
        await asyncio.sleep(1)
        stopping = m.scope.start(m.triggers.drain(60.0), "drain")
        await m.send("b")
        await asyncio.sleep(1)
        [call] = [call for instance in m.e.platform.host.instances for call in instance.calls]
        call.answer(None)
        await stopping
        assert (await m.held(), (await m.statistics()).ready) == (["b"], 1)

    run(scene)


def test_a_full_disk_loses_nothing() -> None:
    async def scene(m: Messages) -> None:
        seen = record(m)
        await m.create(visibility_s=10)
        await m.bind()
        await m.send("a", "b")
        m.e.database.failing = StorageFull("full")
        await asyncio.sleep(60)
        m.e.database.failing = None
        await asyncio.sleep(60)
        assert {id_ for ids in seen for id_ in ids} == {"a", "b"}
        assert await m.count() == 0

    run(scene)


def test_a_circle_is_cut_off() -> None:
    async def scene(m: Messages) -> None:
        seen = record(m)
        await m.create()
        event = Event(id="round", source="/s", type="t", time_s=0.0, hops=MOST_HOPS, trail="first")
        await m.queues.send("default", "q", [Outgoing(event=event)])
        await m.bind()
        await asyncio.sleep(10)
        assert (seen, await m.count()) == ([], 0)
        [dead] = await m.e.list(states=("failed",))
        assert (dead.error, dead.trail) == ("loop_detected", "first")

    run(scene)


def test_a_trigger_waits_for_its_queue_and_its_alias() -> None:
    async def scene(m: Messages) -> None:
        seen = record(m)
        await m.bind(alias="live")
        await asyncio.sleep(1)
        assert "no queue 'q'" in m.triggers.progress["default", "f", "queue"].problem
        await m.create()
        await m.send("a")
        await asyncio.sleep(1)
        assert (seen, m.triggers.progress["default", "f", "queue"].problem) == ([], "")
        assert (await m.statistics()).in_flight == 1, "nothing is thrown away for an alias that is to come"
        await m.bind()
        await asyncio.sleep(120)
        assert seen == [["a"]]
        await m.queues.delete_queue(PLATFORM, "default", "q")
        await asyncio.sleep(1)
        await m.create()
        await m.send("b")
        await asyncio.sleep(1)
        assert seen == [["a"], ["b"]]

    run(scene)


def test_a_trigger_pauses_and_goes_on() -> None:
    async def scene(m: Messages) -> None:
        seen = record(m)
        await m.create()
        await m.bind()
        await m.send("a")
        await asyncio.sleep(1)
        m.e.path.bindings.pause(("default", "f", "queue"), True)
        await m.send("b")
        await asyncio.sleep(100)
        assert (seen, (await m.statistics()).ready) == ([["a"]], 1)
        m.e.path.bindings.pause(("default", "f", "queue"), False)
        await asyncio.sleep(1)
        assert seen == [["a"], ["b"]]

    run(scene)
