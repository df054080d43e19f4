"""A week of asynchronous invocations, timers and retries in virtual time, with a seed: platforms die, disks fill,
functions fail; what must hold is looked at all the while."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from fuyun.base import clock
from fuyun.domain.deliveries import FINISHED
from fuyun.domain.errors import FunctionRaised, FunctionTimedOut, StorageFull, Throttled, Unavailable
from fuyun.domain.functions import Asynchronous
from fuyun.domain.tenants import Quotas
from fuyun.domain.triggers import TimerTrigger, Trigger
from fuyun.testing.hosts import FakeCall
from tests.services.events import Events, play

WEEK_S = 7 * 86400.0
SHARE = 3
FAILURES = (FunctionRaised, FunctionTimedOut, Throttled, Unavailable)


class Week:
    """What is done to the event path, and what was seen."""

    def __init__(self, events: Events) -> None:
        self.e = events
        self.rng = events.random
        self.inside: Counter[str] = Counter()
        self.runs: Counter[str] = Counter()  # by delivery
        self.answered: Counter[str] = Counter()
        self.accepted: list[str] = []
        self.restarts = 0
        events.handler = self._call

    def _call(self, call: FakeCall) -> None:
        fields = dict(call.head.headers)
        id_, function = fields["fuyun-delivery"], call.head.function
        self.runs[id_] += 1
        self.inside[function] += 1
        assert self.inside[function] <= SHARE, "more at once than its share"
        asyncio.get_running_loop().call_later(self.rng.expovariate(1 / 0.2), self._end, call, id_)

    def _end(self, call: FakeCall, id_: str) -> None:
        self.inside[call.head.function] -= 1
        if call.cancelled:  # its platform died; nobody hears
            call._leave()
        elif self.rng.random() < 0.3:
            call.fail(self.rng.choice(FAILURES)("bad luck"))
        else:
            self.answered[id_] += 1
            call.answer()

    async def callers(self) -> None:
        """Accept something every few minutes, some of it for later, some of it twice."""
        keys: dict[str, str] = {}
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / 900))
            name = self.rng.choice(("f", "g"))
            fields: dict[str, Any] = {"max_age_s": 30 * 86400.0}
            if self.rng.random() < 0.3:
                fields["at_s"] = clock.wall_s() + self.rng.uniform(0, 86400)
            key = self.rng.choice(("", "", f"k{self.rng.randrange(500)}"))
            try:
                id_ = await self.e.accept(name, {"n": len(self.accepted)}, key=key, key_window_s=1e9, **fields)
            except StorageFull:
                continue
            if key:
                assert keys.setdefault(f"{name}/{key}", id_) == id_, "one key, two deliveries"
            self.accepted.append(id_)

    async def disasters(self) -> None:
        """Kill the platform, or fill its disk for a while."""
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / 8000))
            if self.rng.random() < 0.5:
                self.e.database.failing = StorageFull("the disk is full")
                await asyncio.sleep(self.rng.uniform(1, 300))
                self.e.database.failing = None
            else:
                await self.e.restart()
                self.restarts += 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [2])
def test_a_week(seed: int) -> None:
    async def scene(e: Events) -> None:
        week = Week(e)
        e.platform.quotas["default"] = Quotas(deliveries=10**6)
        terms = Asynchronous(concurrency=SHARE)
        hourly = (Trigger(timer=TimerTrigger(every_s=3600, missed="all")),)
        await e.platform.deploy(
            "f", asynchronous=terms, triggers=hourly, timeout_s=3600.0, idle_timeout_s=1.0, max_instances=50
        )
        await e.platform.deploy("g", asynchronous=terms, timeout_s=3600.0, idle_timeout_s=1.0, max_instances=50)
        await e.path.changed()
        began_s = clock.wall_s()
        callers = e.scope_of_test.start(week.callers(), "callers")
        disasters = e.scope_of_test.start(week.disasters(), "disasters")
        await asyncio.sleep(WEEK_S)
        for task in (callers, disasters):
            task.cancel()
        e.database.failing = None
        await e.restart()
        await asyncio.sleep(2 * 86400 + 1800)
        found = await e.list()
        by_id = {one.id: one for one in found}
        assert len(week.accepted) > 400
        assert week.restarts > 20
        assert set(week.accepted) <= set(by_id), "something accepted is gone"
        left = [one for one in found if one.state not in FINISHED]
        assert left == [], "something has no outcome"
        for one in found:
            ran = week.runs[one.id]
            assert one.attempts >= ran, "it ran unseen"
            assert (one.state == "succeeded") <= (week.answered[one.id] >= 1), "a success that was none"
            if one.state == "failed":
                assert one.failures == one.max_attempts
            else:
                assert one.failures < one.max_attempts
        ticks = [one for one in found if one.origin == "trigger f/timer"]
        first, last = int(began_s // 3600) + 1, int(clock.wall_s() // 3600)
        assert len(ticks) == last - first + 1, "a tick was lost, or came twice"
        duplicates = sum(week.answered.values()) - sum(1 for one in found if one.state == "succeeded")
        assert duplicates < week.restarts * 10 + 60, "only what was cut off is done again"
        assert e.deliverer.gauges() == []

    play(scene, seed)
