"""The driver of NATS JetStream keeps its port's contract on a real server."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import nats
import pytest

from fuyun.domain.errors import Unavailable
from fuyun.domain.triggers import NatsTrigger
from fuyun.drivers.brokers.nats import NatsBroker
from fuyun.ports.brokers import Broker, Settlement
from fuyun.testing.contracts.brokers import BrokerContract, Place, numbers, play, settle, take
from fuyun.testing.contracts.brokers import bodies as data_of
from tests.brokers import NatsServer, running
from tests.services.brokering import everything_killed

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with running(NatsServer(tmp_path_factory.mktemp("nats"))) as server:
        yield server


class NatsPlace(Place):
    kind = "nats"

    def __init__(self, server: NatsServer, **trigger: Any) -> None:
        self.server = server
        self.name = f"orders{next(_numbers)}"
        self.made = NatsTrigger(url=server.url, stream=self.name, ack_wait_s=2.0, **trigger)

    @property
    def trigger(self) -> NatsTrigger:
        return self.made

    async def make(self) -> None:
        """The stream."""
        client = await nats.connect(self.server.url)
        await client.jetstream().add_stream(name=self.name, subjects=[f"{self.name}.>"])
        await client.close()

    async def publish(self, *bodies: bytes) -> None:
        client = await nats.connect(self.server.url)
        try:
            for body in bodies:
                await client.jetstream().publish(f"{self.name}.placed", body, headers={"X-Trace": "t1"})
        finally:
            await client.close()

    async def restart(self) -> None:
        self.server.kill()
        await asyncio.to_thread(self.server.start)


@pytest.fixture
def place(server: NatsServer) -> NatsPlace:
    place = NatsPlace(server)
    asyncio.run(place.make())
    return place


class TestJetStream(BrokerContract):
    def broker(self) -> Broker:
        return NatsBroker()

    async def forgotten(self, place: Place) -> None:
        assert isinstance(place, NatsPlace)
        client = await nats.connect(place.server.url)
        assert await client.jetstream().consumers_info(place.name) == []
        await client.close()


def test_messages_reach_an_outcome_whatever_is_killed(place: NatsPlace) -> None:
    everything_killed(place)


@pytest.mark.parametrize(
    ("start", "seen"),
    [("start", [1, 2, 3, 4]), ("end", [4]), ("sequence:3", [3, 4]), ("2020-01-01T00:00:00Z", [1, 2, 3, 4])],
)
def test_it_begins_where_it_is_told(place: NatsPlace, start: str, seen: list[int]) -> None:
    async def scene() -> None:
        await place.publish(*numbers(1, 3))
        consumer = await NatsBroker().open(place.source(start=start))
        await place.publish(b"4")
        found = await take(consumer, len(seen))
        assert data_of(found) == seen
        assert found[-1].event.extensions == {"sequence": "4", "xtrace": "t1"}
        await settle(consumer, found)
        await consumer.close()

    play(scene)


def test_what_is_given_up_is_terminated_and_told_of(place: NatsPlace) -> None:
    async def scene() -> None:
        client = await nats.connect(place.server.url)
        told = await client.subscribe(f"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.{place.name}.>")
        await client.flush()
        consumer = await NatsBroker().open(place.source())
        await place.publish(b"1")
        [one] = await take(consumer, 1)
        await consumer.settle([Settlement(one.receipt, refused=True)])
        assert b'"stream_seq":1' in (await told.next_msg(5)).data
        await consumer.close()
        await client.close()

    play(scene)


def test_a_stream_that_is_not_there_is_named(server: NatsServer) -> None:
    async def scene() -> None:
        with pytest.raises(Unavailable, match="stream not found") as told:
            await NatsBroker().open(NatsPlace(server).source())
        assert told.value.hint

    play(scene)


def test_messages_that_are_worked_on_for_long_are_nobody_elses(place: NatsPlace) -> None:
    async def scene() -> None:
        consumer = await NatsBroker().open(place.source())
        await place.publish(b"1")
        [one] = await take(consumer, 1)
        for _ in range(6):
            await consumer.keep([one.receipt])
            assert await consumer.receive(1, 0.5) == []
        await settle(consumer, [one])
        await consumer.close()

    play(scene)
