"""Rolling a version out and back under load fails no request, and the weights are kept (promises 4 and 8)."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from tests.running import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.slow_lane, pytest.mark.timeout(300)]

CLIENTS = 8
#: Answers in each phase: enough for weights of 90 to 10 to show.
FEW, MANY = 50, 500


def source(version: int) -> str:
    return f"def handler(event, context):\n    return {{'version': {version}}}\n"


class Load:
    """Clients in a closed loop; every answer is counted under the phase it was asked in."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self.key, self.phase, self.stopping = url, key, "v1", False
        self.answers: Counter[tuple[str, int]] = Counter()
        self.failures: list[str] = []
        self.good: Counter[int] = Counter()  # good answers by client

    async def client(self, number: int = 0) -> None:
        async with httpx.AsyncClient(
            headers={"authorization": f"Bearer {self.key}"}, trust_env=False, verify=False
        ) as http:
            while not self.stopping:
                phase = self.phase
                answer = await http.post(self.url, content=b"{}", timeout=20.0)
                if answer.status_code != 200:
                    self.failures.append(f"{phase}: {answer.status_code} {answer.text[:300]}")
                    continue
                self.good[number] += 1
                if phase == self.phase:
                    self.answers[phase, answer.json()["version"]] += 1

    async def answered(self, phase: str, count: int) -> None:
        """Wait until so many answers were counted under the phase, or one failed."""
        while sum(found for (when, _), found in self.answers.items() if when == phase) < count and not self.failures:
            await asyncio.sleep(0.01)

    async def all_served(self, clients: int = CLIENTS) -> None:
        """Wait until every client has had two good answers more: the later one was asked for after this began."""
        before = self.good.copy()
        async with asyncio.timeout(20):
            while any(self.good[number] < before[number] + 2 for number in range(clients)):
                await asyncio.sleep(0.01)


async def put_alias(http: httpx.AsyncClient, url: str, *weights: tuple[int, float]) -> None:
    body = {"weights": [{"version": version, "weight": weight} for version, weight in weights]}
    answer = await http.put(url, json=body)
    assert answer.is_success, answer.text


def test_rollout_and_rollback_fail_nothing(platform: Platform) -> None:
    first = platform.deploy("rolling", source(1), publish=True, alias="live")
    assert first["number"] == 1
    platform.http.put(
        f"{platform.api}/v1/namespaces/default/functions/rolling/aliases/live",
        json={"weights": [{"version": 1, "weight": 100}]},
    ).raise_for_status()
    second = platform.deploy("rolling", source(2), publish=True)
    assert second["number"] == 2

    load = Load(f"{platform.url('rolling')}:live", platform.key)
    alias = f"{platform.api}/v1/namespaces/default/functions/rolling/aliases/live"

    async def step(phase: str, answers: int) -> None:
        load.phase = phase
        await load.answered(phase, answers)

    async def main() -> None:
        headers: Any = {"authorization": f"Bearer {platform.key}"}
        async with (
            httpx.AsyncClient(headers=headers, trust_env=False, verify=False) as http,
            asyncio.TaskGroup() as clients,
        ):
            for _ in range(CLIENTS):
                clients.create_task(load.client())
            try:
                await step("v1", FEW)
                load.phase = "moving"
                await put_alias(http, alias, (1, 90), (2, 10))
                await step("10", MANY)
                load.phase = "moving"
                await put_alias(http, alias, (2, 100))
                await step("100", FEW)
                load.phase = "moving"
                answer = await http.post(f"{alias}/rollback")
                assert answer.is_success, answer.text
                await step("back", MANY)
            finally:
                load.stopping = True

    asyncio.run(main())
    platform.remove("rolling")

    assert load.failures == []
    assert load.answers["v1", 2] == 0
    assert load.answers["100", 1] == 0
    total = load.answers["10", 1] + load.answers["10", 2]
    spread = 5 * math.sqrt(total * 0.1 * 0.9)  # five standard deviations: once in two million runs
    assert abs(load.answers["10", 2] - 0.1 * total) < spread
    # The rollback went to where the alias was before: 90 to 10.
    total = load.answers["back", 1] + load.answers["back", 2]
    assert abs(load.answers["back", 2] - 0.1 * total) < 5 * math.sqrt(total * 0.1 * 0.9)


def test_deploying_over_a_running_draft_fails_nothing(platform: Platform) -> None:
    platform.deploy("redeployed", source(0))
    load = Load(platform.url("redeployed"), platform.key)

    async def main() -> None:
        async with asyncio.TaskGroup() as clients:
            for _ in range(4):
                clients.create_task(load.client())
            try:
                for number in range(1, 6):
                    await asyncio.to_thread(platform.deploy, "redeployed", source(number))
            finally:
                load.stopping = True

    asyncio.run(main())
    answer = platform.invoke("redeployed", {})
    platform.remove("redeployed")
    assert answer.json() == {"version": 5}
    assert load.failures == []


def test_a_rollout_with_kills_and_reloads_in_the_middle(platform: Platform) -> None:
    """Moves and reloads fail nothing; a kill fails only what was inside, with an error that says so."""
    name = "rolling-on"
    pause = "import time\n\ndef handler(event, context):\n    time.sleep(0.01)\n    return {'version': %d}\n"
    assert platform.deploy(name, pause % 1, publish=True, alias="live")["number"] == 1
    assert platform.deploy(name, pause % 2, publish=True)["number"] == 2
    load = Load(f"{platform.url(name)}:live", platform.key)
    alias = f"{platform.api}/v1/namespaces/default/functions/{name}/aliases/live"

    async def kill() -> None:
        """Kill under load, and wait until nobody feels it any more."""
        known = len(load.failures)
        killed = await asyncio.to_thread(platform.kill_instances, name)
        assert killed > 0
        await load.all_served()
        lost, load.failures[known:] = load.failures[known:], []
        assert len(lost) <= max(killed, CLIENTS), lost  # a caller may meet two that are about to be killed
        for failure in lost:
            assert ": 503 " in failure, failure
            assert '"code":"instance_lost"' in failure or '"code":"unavailable"' in failure, failure

    async def reload(number: int) -> None:
        """A new draft and a new version while the alias serves old ones: routes and pools are made anew."""
        assert (await asyncio.to_thread(platform.deploy, name, pause % number, publish=True))["number"] == number
        await load.all_served()

    async def main() -> None:
        headers = {"authorization": f"Bearer {platform.key}"}
        async with (
            httpx.AsyncClient(headers=headers, trust_env=False, verify=False) as http,
            asyncio.TaskGroup() as clients,
        ):
            for number in range(CLIENTS):
                clients.create_task(load.client(number))

            async def move(*weights: tuple[int, float]) -> None:
                load.phase = f"move to {weights}"
                await put_alias(http, alias, *weights)
                await load.all_served()

            steps: tuple[Callable[[], Awaitable[None]], ...] = (
                lambda: move((1, 50), (2, 50)), kill, lambda: reload(3), lambda: move((2, 100)), kill,
                lambda: move((3, 100)), lambda: reload(4), kill,
            )  # fmt: skip
            try:
                await load.all_served()
                for step in steps:
                    await step()
                load.phase = "back"
                answer = await http.post(f"{alias}/rollback")
                assert answer.is_success, answer.text
                load.phase = "after"
                await load.all_served()
            finally:
                load.stopping = True

    asyncio.run(main())
    platform.remove(name)
    assert load.failures == []
    assert {version for phase, version in load.answers if phase == "after"} == {2}
