"""The driver of MQTT keeps its port's contract on Mosquitto."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from aiomqtt import Client, ProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fuyun.domain.triggers import MqttTrigger
from fuyun.drivers.brokers.mqtt import MqttBroker
from fuyun.ports.brokers import Broker, Received
from fuyun.testing.contracts.brokers import BrokerContract, Place, play, settle, take
from fuyun.testing.contracts.brokers import bodies as data_of
from tests.brokers import MosquittoServer, running
from tests.services.brokering import everything_killed

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoServer]:
    with running(MosquittoServer(tmp_path_factory.mktemp("mosquitto"))) as server:
        yield server


class MqttPlace(Place):
    kind = "mqtt"

    def __init__(self, server: MosquittoServer, **trigger: Any) -> None:
        self.server = server
        self.topic = f"house/{next(_numbers)}/kitchen"
        self.made = MqttTrigger(**{"url": server.url, "topics": (self.topic.replace("kitchen", "+"),), **trigger})

    @property
    def trigger(self) -> MqttTrigger:
        return self.made

    async def publish(self, *bodies: bytes, qos: int = 1, topic: str = "", **options: Any) -> None:
        async with Client("127.0.0.1", self.server.port, protocol=ProtocolVersion.V5) as client:
            for body in bodies:
                await client.publish(topic or self.topic, body, qos=qos, **options)

    async def restart(self) -> None:
        await asyncio.to_thread(self.server.save)
        self.server.kill()
        await asyncio.to_thread(self.server.start)


class _Sessions(BrokerContract):
    marked = False  # the client does not tell of the flag
    single = False  # acknowledgements keep the order of the messages

    def broker(self) -> Broker:
        return MqttBroker()

    async def forgotten(self, place: Place) -> None:
        consumer = await MqttBroker().open(place.source())
        assert await consumer.receive(9, 0.3) == [], "the session that had them is gone"
        await consumer.close()


class TestVersion5(_Sessions):
    @pytest.fixture
    def place(self, server: MosquittoServer) -> MqttPlace:
        return MqttPlace(server)


class TestVersion311(_Sessions):
    @pytest.fixture
    def place(self, server: MosquittoServer) -> MqttPlace:
        return MqttPlace(server, version="3.1.1")


def test_messages_reach_an_outcome_whatever_is_killed(server: MosquittoServer) -> None:
    everything_killed(MqttPlace(server), exact=False)


def test_messages_of_every_quality_and_what_they_say_of_themselves(server: MosquittoServer) -> None:
    async def scene() -> None:
        told = Properties(PacketTypes.PUBLISH)
        told.ContentType = "text/plain"
        told.UserProperty = ("Trace-Id", "t1")
        told.CorrelationData = b"c\xff"
        consumer = await MqttBroker().open(place.source())
        for qos in (0, 1, 2):
            await place.publish(b"hot", qos=qos, properties=told)
        found = await take(consumer, 3)
        assert [one.event.extensions["qos"] for one in found] == ["0", "1", "1"]
        one = found[-1].event
        assert (one.content_type, one.subject, one.extensions["traceid"]) == ("text/plain", place.topic, "t1")
        assert one.extensions["correlationdata"] == "c\\xff"
        await settle(consumer, found)
        await consumer.close()

    place = MqttPlace(server)
    play(scene)


def test_acknowledgements_keep_the_order_of_the_messages(server: MosquittoServer) -> None:
    """What is settled before those that came first is acknowledged after them: until then it comes again."""

    async def scene() -> None:
        consumer = await MqttBroker().open(place.source())
        await place.publish(b"1", b"2", b"3")
        found = await take(consumer, 3)
        await settle(consumer, found[1:])
        await consumer.close()
        consumer = await MqttBroker().open(place.source())
        again = await take(consumer, 3)
        assert data_of(again) == [1, 2, 3]
        await settle(consumer, again[::-1])
        await consumer.close()
        consumer = await MqttBroker().open(place.source())
        assert await consumer.receive(9, 0.3) == []
        await consumer.close()

    place = MqttPlace(server)
    play(scene)


def test_a_shared_subscription_is_shared(server: MosquittoServer) -> None:
    async def scene() -> None:
        names = [f"fuyun_{letter * 12}_default_f_t" for letter in "ab"]
        consumers = [await MqttBroker().open(place.source(name=name)) for name in names]
        await place.publish(*(b"%d" % number for number in range(20)))
        found: list[list[Received]] = [[], []]
        async with asyncio.timeout(20):
            while len(found[0]) + len(found[1]) < 20:
                for consumer, mine in zip(consumers, found):
                    mine += await consumer.receive(99, 0.05)
        assert sorted(data_of(found[0] + found[1])) == list(range(20))
        assert all(found)
        for consumer, mine in zip(consumers, found):
            await settle(consumer, mine)
            await consumer.close()

    place = MqttPlace(server)
    place.made = MqttTrigger(url=server.url, topics=(f"$share/workers/{place.topic}",))
    play(scene)


def test_what_is_retained_comes_once(server: MosquittoServer) -> None:
    async def scene() -> None:
        await place.publish(b"1", retain=True)
        for expected in ([1], []):
            consumer = await MqttBroker().open(place.source())
            found = await consumer.receive(9, 0.5)
            assert data_of(found) == expected
            await settle(consumer, found)
            await consumer.close()

    place = MqttPlace(server)
    play(scene)
