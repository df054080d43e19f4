"""From zero to a hundred on a burst and back; two hundred idle instances at once."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from tests.leaks import state_of
from tests.running import Platform
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow_lane, pytest.mark.timeout(180)]

MIB = 1024 * 1024
HOLD = """
import secrets
import time

me = ""


def handler(event, context):
    global me
    me = me or secrets.token_hex(8)
    time.sleep(event.get("hold_s", 0))
    return me
"""


async def ask_together(platform: Platform, name: str, count: int, hold_s: float) -> list[httpx.Response]:
    """`count` invocations at once through the API."""
    url = f"{platform.api}/v1/namespaces/default/functions/{name}/invoke"
    limits = httpx.Limits(max_connections=count, max_keepalive_connections=0)
    headers = {"authorization": f"Bearer {platform.key}"}
    async with httpx.AsyncClient(headers=headers, limits=limits, trust_env=False, verify=False, timeout=90.0) as http:
        return list(await asyncio.gather(*(http.post(url, json={"hold_s": hold_s}) for _ in range(count))))


def test_zero_to_a_hundred_and_back(platform: Platform) -> None:
    platform.deploy("burst", HOLD, idle_timeout_s=1.0, memory_bytes=64 * MIB, max_instances=100)
    wait_until(lambda: not platform.instances_of("burst"), "zero instances", 20)
    answers = asyncio.run(ask_together(platform, "burst", 100, 4.0))
    assert [answer.status_code for answer in answers] == [200] * 100
    assert len({answer.json() for answer in answers}) == 100, "every request had an instance to itself"
    pids = [one["pid"] for one in platform.instances_of("burst")]
    wait_until(lambda: not platform.instances_of("burst"), "scale to zero", 30)
    wait_until(lambda: not any(state_of(pid) for pid in pids), "their processes to be gone", 10)
    platform.remove("burst")


def test_two_hundred_idle_instances(platform: Platform) -> None:
    platform.deploy("crowd", HOLD, memory_bytes=64 * MIB, max_instances=200, min_instances=200)
    wait_until(lambda: len(platform.instances_of("crowd")) == 200, "200 instances", 120, every_s=0.5)
    crowd = platform.instances_of("crowd")
    assert all(one["private_bytes"] > 0 for one in crowd)
    private = sorted(one["private_bytes"] for one in crowd)
    print(f"200 idle instances: {sum(private) / MIB:.0f} MiB private, median {private[100] / MIB:.2f} MiB each")
    assert private[100] < 8 * MIB
    began = time.monotonic()
    assert platform.invoke("crowd", {}).status_code == 200
    assert time.monotonic() - began < 1.0, "a warm call among two hundred"
    platform.remove("crowd")
    wait_until(lambda: not platform.instances_of("crowd"), "the crowd to leave", 30)


def test_more_than_it_may_is_throttled_not_lost(platform: Platform) -> None:
    platform.deploy("narrow", HOLD, max_instances=2)
    answers = asyncio.run(ask_together(platform, "narrow", 12, 0.3))
    platform.remove("narrow")
    assert {answer.status_code for answer in answers} <= {200, 429}
    assert sum(answer.status_code == 200 for answer in answers) >= 2
    assert len({answer.json() for answer in answers if answer.status_code == 200}) <= 2
    for answer in answers:
        assert answer.status_code == 200 or int(answer.headers["retry-after"]) >= 1
