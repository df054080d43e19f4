"""The driver of Redis keeps its port's contract on a real server."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from redis.asyncio import Redis

from fuyun.domain.triggers import RedisTrigger
from fuyun.drivers.brokers.redis import RedisBroker
from fuyun.ports.brokers import Broker
from fuyun.testing.contracts.brokers import BrokerContract, Place
from tests.brokers import RedisServer, running
from tests.services.brokering import everything_killed

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running(RedisServer(tmp_path_factory.mktemp("redis"))) as server:
        yield server


class RedisPlace(Place):
    kind = "redis"

    def __init__(self, server: RedisServer, **trigger: Any) -> None:
        self.server = server
        self.made = RedisTrigger(url=server.url, **trigger)

    @property
    def trigger(self) -> RedisTrigger:
        return self.made

    async def ask(self, *command: str | bytes) -> Any:
        async with Redis(port=self.server.port) as client:
            return await client.execute_command(*command)

    async def publish(self, *bodies: bytes) -> None:
        async with Redis(port=self.server.port) as client:
            for body in bodies:
                if self.made.list:
                    await client.rpush(self.made.list, body)
                else:
                    await client.xadd(self.made.stream, {"data": body})

    async def restart(self) -> None:
        self.server.kill()
        await asyncio.to_thread(self.server.start)


class TestStreams(BrokerContract):
    def broker(self) -> Broker:
        return RedisBroker()

    @pytest.fixture
    def place(self, server: RedisServer) -> RedisPlace:
        return RedisPlace(server, stream=f"orders-{next(_numbers)}", field="data")

    async def forgotten(self, place: Place) -> None:
        assert isinstance(place, RedisPlace)
        assert await place.ask("XINFO", "GROUPS", place.made.stream) == []


class TestLists(BrokerContract):
    def broker(self) -> Broker:
        return RedisBroker()

    @pytest.fixture(params=["left", "right"])
    def place(self, server: RedisServer, request: pytest.FixtureRequest) -> RedisPlace:
        return _ListPlace(server, list=f"jobs-{next(_numbers)}", pop=request.param)

    async def forgotten(self, place: Place) -> None:
        assert isinstance(place, RedisPlace)
        [name] = await place.ask("KEYS", f"*{place.made.list}*")
        assert name.decode() == place.made.list, "the list of what was taken is gone"
        left = await place.ask("LRANGE", place.made.list, "0", "-1")
        assert left == ([b"1", b"2"] if place.made.pop == "left" else [b"2", b"1"])


class _ListPlace(RedisPlace):
    async def publish(self, *bodies: bytes) -> None:
        for body in bodies:
            await self.ask("RPUSH" if self.made.pop == "left" else "LPUSH", self.made.list, body)


def test_entries_reach_an_outcome_whatever_is_killed(server: RedisServer) -> None:
    everything_killed(RedisPlace(server, stream="flow", field="data"))


def test_elements_reach_an_outcome_whatever_is_killed(server: RedisServer) -> None:
    everything_killed(RedisPlace(server, list="flow-list"), exact=False)
