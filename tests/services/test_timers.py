"""Timers: exactly one firing per tick, whatever is restarted; paused, resumed, removed."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from fuyun.base import clock
from fuyun.domain.errors import NotFound, StorageFull
from fuyun.domain.tenants import Principal
from fuyun.domain.triggers import Missed, Policy, TimerTrigger, Trigger
from fuyun.testing.hosts import FakeCall
from fuyun.testing.times import START_S
from tests.services.events import Events, play

ADMIN = Principal(key_id="k", namespace="*", role="admin")


class Ticks:
    """A handler that keeps the events of timers."""

    def __init__(self, events: Events) -> None:
        self.events: list[dict[str, Any]] = []
        events.handler = self._call

    def _call(self, call: FakeCall) -> None:
        self.events.append(json.loads(call.body))
        call.answer()

    @property
    def seconds(self) -> list[float]:
        """When they were, since the beginning."""
        return [datetime.fromisoformat(event["time"]).timestamp() - START_S for event in self.events]


async def deploy(e: Events, *triggers: Trigger) -> None:
    await e.platform.deploy(triggers=triggers)
    await e.path.changed()
    await asyncio.sleep(0.1)


def every(seconds: float, missed: Missed = "last", **fields: Any) -> Trigger:
    return Trigger(timer=TimerTrigger(every_s=seconds, missed=missed), **fields)


def test_ticks_come_as_events_and_on_time() -> None:
    async def scene(e: Events) -> None:
        ticks = Ticks(e)
        timer = TimerTrigger(cron="*/5 * * * *", payload={"a": 1})
        await deploy(e, Trigger(name="five", timer=timer, policy=Policy(max_attempts=7)))
        await asyncio.sleep(900)
        assert ticks.seconds == [300, 600, 900]
        event = ticks.events[0]
        assert (event["type"], event["subject"], event["data"]) == ("fuyun.timer.fired", "five", {"a": 1})
        assert event["source"] == "/default/function/f"
        found = await e.list()
        assert [(one.origin, one.max_attempts) for one in found] == [("trigger f/five", 7)] * 3
        assert all(one.at_s - START_S - at_s < 0.1 for one, at_s in zip(found, ticks.seconds))

    play(scene)


@pytest.mark.parametrize(("missed", "ticks"), [("skip", [60]), ("last", [60, 300]), ("all", [60, 120, 180, 240, 300])])
def test_a_restart_fires_no_tick_twice_and_what_was_missed_as_asked(missed: Missed, ticks: list[float]) -> None:
    async def scene(e: Events) -> None:
        seen = Ticks(e)
        await deploy(e, Trigger(timer=TimerTrigger(cron="0-5 8 * * *", missed=missed)))  # it begins at 8 o'clock
        await asyncio.sleep(60)
        for _ in range(3):
            await e.restart()
            await asyncio.sleep(1)
        await e.close()
        await asyncio.sleep(600)
        await e.restart()
        await asyncio.sleep(20)
        await e.restart()
        await asyncio.sleep(20)
        assert seen.seconds == ticks

    play(scene)


def test_a_moment_comes_once() -> None:
    async def scene(e: Events) -> None:
        seen = Ticks(e)
        at = datetime.fromtimestamp(START_S + 100, UTC).isoformat()
        past = datetime.fromtimestamp(START_S - 100, UTC).isoformat()
        await deploy(e, Trigger(timer=TimerTrigger(at=at)), Trigger(timer=TimerTrigger(at=past)))
        await e.close()
        await asyncio.sleep(3600)
        await e.restart()
        await asyncio.sleep(1)
        await e.restart()
        await asyncio.sleep(10)
        assert seen.seconds == [100], "what was past when it was deployed does not come"

    play(scene)


def test_paused_it_does_nothing_and_resumed_it_goes_on() -> None:
    async def scene(e: Events) -> None:
        seen = Ticks(e)
        key = ("default", "f", "timer")
        governing = e.path.governing
        await deploy(e, every(60, "skip"))
        await asyncio.sleep(60)
        shown = await governing.pause(ADMIN, key, True, "::1")
        assert (shown.paused, shown.last_s, shown.next_s) == (True, START_S + 60, None)
        await asyncio.sleep(300)
        await e.restart()
        governing = e.path.governing
        await asyncio.sleep(300)
        (shown,) = await governing.list_triggers(ADMIN, "default", "f")
        assert (shown.paused, shown.kind) == (True, "timer")
        assert seen.seconds == [60]
        shown = await governing.pause(ADMIN, key, False, "::1")
        await asyncio.sleep(130)
        assert seen.seconds == [60, 660, 720, 780], "660 was less than a minute ago"
        with pytest.raises(NotFound):
            await governing.pause(ADMIN, ("default", "f", "other"), True, "::1")

    play(scene)


def test_a_trigger_that_was_removed_begins_anew() -> None:
    async def scene(e: Events) -> None:
        seen = Ticks(e)
        await deploy(e, every(60, "all"))
        await asyncio.sleep(60)
        await deploy(e)
        await asyncio.sleep(600)
        await deploy(e, every(60, "all"))
        await asyncio.sleep(60)
        assert seen.seconds == [60, 720]
        e.platform.catalog.delete("f")
        await e.platform.dispatcher.reload("default", "f")
        await e.path.changed()
        await asyncio.sleep(600)
        assert await e.path.governing._store.list_states() == []

    play(scene)


def test_a_full_disk_holds_ticks_up_and_loses_none() -> None:
    async def scene(e: Events) -> None:
        seen = Ticks(e)
        await deploy(e, every(10))
        await asyncio.sleep(15)
        e.database.failing = StorageFull("the disk is full")
        await asyncio.sleep(30)
        e.database.failing = None
        await asyncio.sleep(10)
        assert seen.seconds == [10, 20, 30, 40, 50]
        assert clock.wall_s() - START_S < 56

    play(scene)
