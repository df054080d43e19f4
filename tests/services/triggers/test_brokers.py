"""Triggers of brokers in virtual time: lanes, attempts, connections that break, triggers that come and go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fuyun.base import clock
from fuyun.domain.errors import FunctionRaised, StorageFull
from fuyun.domain.streams import partition_of
from fuyun.domain.triggers import Policy, RedisTrigger, Trigger
from fuyun.services.tenants import PLATFORM
from fuyun.services.triggers.governing import TriggerStatus
from fuyun.testing.brokers import FakeBroker
from fuyun.testing.hosts import FakeCall
from tests.services import events

KEY = ("default", "f", "redis")


class Scene:
    """The event path with a broker in memory."""

    def __init__(self, e: events.Events) -> None:
        self.e = e
        self.broker = FakeBroker()
        self.seen: list[list[Any]] = []
        self.bad: set[Any] = set()
        e.handler = self.take
        self.wire()

    def wire(self) -> None:
        """Have the platform speak to the broker."""
        self.triggers = self.e.path.brokers
        self.triggers._brokers["redis"] = self.broker

    async def restart(self) -> None:
        """A kill of the platform, and its next start."""
        before = self.broker
        await self.e.close()
        self.e._make()
        self.e.path.brokers._brokers["redis"] = before
        await self.e.open()
        self.wire()

    async def deploy(
        self, url: str = "redis://u:word@host/0", stream: str = "s", secret: str = "", **policy: Any
    ) -> None:
        trigger = Trigger(redis=RedisTrigger(url=url, stream=stream, secret=secret), policy=Policy(**policy))
        await self.e.platform.deploy("f", triggers=(trigger,), timeout_s=100.0)
        self.e.path.bindings.changed()
        await asyncio.sleep(0.1)

    async def remove(self) -> None:
        await self.e.platform.deploy("f", triggers=())
        self.e.path.bindings.changed()
        await asyncio.sleep(1)

    def publish(self, *values: Any, key: str = "") -> None:
        self.broker.publish(*(json.dumps(value).encode() for value in values), key=key)

    def take(self, call: FakeCall) -> None:
        values = [event["data"] for event in json.loads(call.body)]
        self.seen.append(values)
        if self.bad & set(values):
            call.fail(FunctionRaised("ValueError: no"))
        else:
            call.answer()

    async def status(self) -> TriggerStatus:
        [found] = await self.e.path.governing.list_triggers(PLATFORM, "default")
        return found

    async def dead(self) -> list[Any]:
        return await self.e.list(states=("failed",))


def virtual(scene: Callable[[Scene], Awaitable[None]]) -> Callable[[], None]:
    """A test that plays its scene in virtual time."""

    def test() -> None:
        async def main(e: events.Events) -> None:
            await scene(Scene(e))

        events.play(main)

    test.__name__, test.__doc__ = scene.__name__, scene.__doc__
    return test


@virtual
async def test_batches_in_order_and_how_it_stands(s: Scene) -> None:
    await s.deploy(batch_size=3)
    s.publish(*range(7))
    await asyncio.sleep(1)
    assert s.seen == [[0, 1, 2], [3, 4, 5], [6]]
    assert s.broker.messages == {}
    found = await s.status()
    assert (found.problem, found.held, found.age_s) == ("", 0, 0.0)
    assert found.since_s is not None
    assert found.trigger.redis is not None
    assert found.trigger.redis.url == "redis://u:***@host/0"
    await asyncio.sleep(10)
    assert (await s.status()).lag == 0


@virtual
async def test_a_window_waits_for_a_full_batch(s: Scene) -> None:
    await s.deploy(batch_size=3, batch_window_s=10.0)
    s.publish(1)
    await asyncio.sleep(5)
    s.publish(2)
    await asyncio.sleep(4)
    assert s.seen == []
    await asyncio.sleep(2)
    assert s.seen == [[1, 2]]
    s.publish(3, 4, 5)
    await asyncio.sleep(0.1)
    assert s.seen == [[1, 2], [3, 4, 5]]


@virtual
async def test_messages_of_one_key_wait_for_each_other_and_others_do_not(s: Scene) -> None:
    calls: list[FakeCall] = []
    s.e.handler = calls.append
    await s.deploy(batch_size=1, parallelism=4)
    assert partition_of("a", 4) != partition_of("b", 4)
    s.publish(1, 2, key="a")
    s.publish(3, 4, key="b")
    await asyncio.sleep(0.1)
    first = sorted(json.loads(call.body)[0]["data"] for call in calls)
    assert first == [1, 3]
    for call in calls:
        call.answer()
    await asyncio.sleep(0.1)
    assert sorted(json.loads(call.body)[0]["data"] for call in calls[2:]) == [2, 4]
    for call in calls[2:]:
        call.answer()
    await asyncio.sleep(0.1)
    assert s.broker.messages == {}


@virtual
async def test_what_fails_is_tried_again_and_becomes_a_dead_letter_before_it_is_settled(s: Scene) -> None:
    s.bad = {2}
    await s.deploy(batch_size=3, max_attempts=2, bisect=True)
    s.publish(1, 2, 3)
    await asyncio.sleep(60)
    assert s.seen[0] == [1, 2, 3]
    assert s.seen[-1] == [3]
    assert len(await s.dead()) == 1
    assert s.broker.refused == [2]
    assert s.broker.messages == {}


@virtual
async def test_only_what_an_answer_names_is_tried_again(s: Scene) -> None:
    seen: list[list[str]] = []

    def handler(call: FakeCall) -> None:
        ids = [event["id"] for event in json.loads(call.body)]
        seen.append(ids)
        call.answer({"failed": ["2"]} if len(seen) == 1 else None)

    s.e.handler = handler
    await s.deploy()
    s.publish(1, 2, 3)
    await asyncio.sleep(0.2)
    assert {*s.broker.messages} == {2}, "the others are settled at once"
    await asyncio.sleep(10)
    assert seen == [["1", "2", "3"], ["2"]]
    assert s.broker.messages == {}


@virtual
async def test_a_full_disk_holds_up_a_dead_letter_and_loses_nothing(s: Scene) -> None:
    s.bad = {1}
    await s.deploy(batch_size=1, max_attempts=1)
    s.e.database.failing = StorageFull("full")
    s.publish(1, 2)
    await asyncio.sleep(30)
    assert {*s.broker.messages} == {1, 2}
    s.e.database.failing = None
    await asyncio.sleep(5)
    assert len(await s.dead()) == 1
    assert s.broker.messages == {}
    assert s.seen[-1] == [2]


@virtual
async def test_a_filter_settles_what_it_does_not_want(s: Scene) -> None:
    await s.deploy(filter={"data": {"numeric": [">", 2]}})
    s.publish(1, 2, 3)
    await asyncio.sleep(1)
    assert s.seen == [[3]]
    assert s.broker.messages == {}
    assert s.triggers.progress[KEY].dropped == 2


@virtual
async def test_it_says_since_when_and_why_and_tries_less_and_less_often(s: Scene) -> None:
    s.broker.away = "redis://host: nobody there, asked with word"
    began_s = clock.wall_s()
    await s.deploy()
    s.publish(1)
    await asyncio.sleep(600)
    found = await s.status()
    assert found.problem == "redis://host: nobody there, asked with ***"
    assert found.since_s == pytest.approx(began_s, abs=1)
    waits = [later - earlier for earlier, later in zip(s.broker.opened_s, s.broker.opened_s[1:])]
    assert waits[0] < 1
    assert 25 < max(waits) <= 61
    assert len(waits) < 30
    s.broker.away = ""
    await asyncio.sleep(61)
    assert s.seen == [[1]]
    assert (await s.status()).problem == ""


@virtual
async def test_what_a_broken_connection_left_unsettled_is_not_handed_over_again(s: Scene) -> None:
    await s.deploy(batch_size=2)
    s.broker.deaf = True
    s.publish(1, 2, 3)
    await asyncio.sleep(30)
    assert [value for batch in s.seen for value in batch] == [1, 2, 3]
    assert s.triggers.progress[KEY].repeated == 2
    assert s.broker.messages == {}


@virtual
async def test_a_killed_platform_begins_with_what_it_had(s: Scene) -> None:
    s.e.handler = None
    await s.deploy(batch_size=2)
    s.publish(1, 2, 3)
    await asyncio.sleep(1)
    s.e.handler = s.take
    await s.restart()
    await asyncio.sleep(1)
    assert s.seen == [[1, 2], [3]]
    assert s.broker.messages == {}


@virtual
async def test_paused_it_takes_nothing_and_lets_go_of_what_it_has(s: Scene) -> None:
    calls: list[FakeCall] = []
    s.e.handler = calls.append
    await s.deploy(batch_size=1, parallelism=1)
    s.publish(1)
    await asyncio.sleep(0.1)
    s.publish(2, 3)
    await s.e.path.governing.pause(PLATFORM, KEY, True, "test")
    calls[0].answer()
    await asyncio.sleep(100)
    assert len(calls) == 1
    assert ({*s.broker.messages}, s.broker.out) == ({2, 3}, set())
    await s.e.path.governing.pause(PLATFORM, KEY, False, "test")
    await asyncio.sleep(1)
    assert len(calls) == 2
    calls[1].answer()


@virtual
async def test_a_trigger_that_is_gone_or_elsewhere_is_forgotten_after_its_last_batch(s: Scene) -> None:
    calls: list[FakeCall] = []
    s.e.handler = calls.append
    await s.deploy(stream="old")
    s.publish(1)
    await asyncio.sleep(0.1)
    await s.deploy(stream="new")
    assert (len(s.broker.opened), s.broker.forgotten) == (1, []), "the function still works on it"
    calls[0].answer()
    await asyncio.sleep(1)
    assert [source.trigger.stream for source in s.broker.forgotten] == ["old"]  # type: ignore[attr-defined]
    assert [source.trigger.stream for source in s.broker.opened] == ["old", "new"]  # type: ignore[attr-defined]
    await s.deploy(stream="new", batch_size=3)
    assert len(s.broker.forgotten) == 1, "another policy is the same trigger"
    await s.remove()
    assert [source.trigger.stream for source in s.broker.forgotten] == ["old", "new"]  # type: ignore[attr-defined]
    assert s.triggers.progress == {}


@virtual
async def test_a_secret_is_the_password_and_one_that_is_missing_is_named(s: Scene) -> None:
    await s.deploy(url="redis://u@host", secret="redis-word")
    assert "redis-word" in (await s.status()).problem
    s.e.tenants.secrets["redis-word"] = "hidden"
    await asyncio.sleep(5)
    assert (await s.status()).problem == ""
    assert s.broker.opened[0].password == "hidden"
    assert "hidden" not in repr(s.broker.opened[0])


@virtual
async def test_what_is_worked_on_for_long_is_kept(s: Scene) -> None:
    s.broker.keep_s = 10.0
    calls: list[FakeCall] = []
    s.e.handler = calls.append
    await s.deploy(batch_size=2)
    s.publish(1, 2)
    await asyncio.sleep(35)
    assert s.broker.kept == 6
    found = await s.status()
    assert (found.held, found.lag) == (2, 2)
    assert found.age_s == pytest.approx(35, abs=1)
    calls[0].answer()
    await asyncio.sleep(1)
    assert s.broker.messages == {}


@virtual
async def test_no_more_is_held_than_batches_have_room(s: Scene) -> None:
    calls: list[FakeCall] = []
    s.e.handler = calls.append
    await s.deploy(batch_size=2, parallelism=3)
    s.publish(*range(100))
    await asyncio.sleep(1)
    assert len(s.broker.out) == 6
    assert len(calls) == 3
    s.e.handler = s.take
    for call in calls:
        call.answer()
    await asyncio.sleep(5)
    assert s.broker.messages == {}
