"""The driver of RabbitMQ keeps its port's contract on a real server."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import aio_pika
import pytest

from fuyun.domain.errors import Unavailable
from fuyun.domain.triggers import RabbitmqTrigger
from fuyun.drivers.brokers.rabbitmq import RabbitmqBroker
from fuyun.ports.brokers import Broker, Consumer, Settlement, Source
from fuyun.testing.contracts.brokers import BrokerContract, Place, play, settle, take
from tests.brokers import RabbitServer, running
from tests.services.brokering import everything_killed

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    with running(RabbitServer(tmp_path_factory.mktemp("rabbit"))) as server:
        yield server


class RabbitPlace(Place):
    kind = "rabbitmq"

    def __init__(self, server: RabbitServer, **arguments: Any) -> None:
        self.server = server
        self.name = f"orders{next(_numbers)}"
        self.arguments = arguments

    @property
    def trigger(self) -> RabbitmqTrigger:
        return RabbitmqTrigger(url=self.server.url, queue=self.name)

    async def make(self) -> None:
        """The queue."""
        async with await aio_pika.connect(self.server.url) as connection:
            channel = await connection.channel()
            await channel.declare_queue(self.name, durable=True, arguments=self.arguments)

    async def publish(self, *bodies: bytes, **properties: Any) -> None:
        async with await aio_pika.connect(self.server.url) as connection:
            channel = await connection.channel()
            for body in bodies:
                message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, **properties)
                await channel.default_exchange.publish(message, routing_key=self.name)

    async def restart(self) -> None:
        self.server.kill()
        await asyncio.to_thread(self.server.start)


def placed(server: RabbitServer, **arguments: Any) -> RabbitPlace:
    place = RabbitPlace(server, **arguments)
    asyncio.run(place.make())
    return place


class _Queues(BrokerContract):
    #: Below, with messages flowing: this broker takes ten seconds to start.
    test_the_broker_is_killed_and_comes_back = None  # type: ignore[assignment]

    def broker(self) -> Broker:
        return RabbitmqBroker()

    def vanish(self, consumer: Consumer) -> None:
        transport: Any = consumer._connection.transport  # type: ignore[attr-defined]
        transport.connection._writer_task.cancel()

    def forgetting(self, source: Source) -> list[Any]:
        return []

    async def forgotten(self, place: Place) -> None:
        consumer = await RabbitmqBroker().open(place.source())
        found = await take(consumer, 2)
        assert len(found) == 2, "they are in their queue"
        await consumer.close()


class TestClassicQueues(_Queues):
    @pytest.fixture
    def place(self, server: RabbitServer) -> RabbitPlace:
        return placed(server)


class TestQuorumQueues(_Queues):
    ordered = False  # what comes back is behind the others

    @pytest.fixture
    def place(self, server: RabbitServer) -> RabbitPlace:
        return placed(server, **{"x-queue-type": "quorum"})


def test_messages_reach_an_outcome_whatever_is_killed(server: RabbitServer) -> None:
    everything_killed(placed(server), exact=False, kills=1)


def test_properties_and_headers_are_attributes(server: RabbitServer) -> None:
    async def scene() -> None:
        consumer = await RabbitmqBroker().open(place.source())
        await place.publish(
            b"<a/>", content_type="text/xml", message_id="m-1", type="order", correlation_id="c",
            headers={"X-Retry-Count": 3, "nested": {"a": [1]}, "source": "shop"},
        )  # fmt: skip
        [one] = await take(consumer, 1)
        assert (one.event.id, one.event.content_type, one.event.subject) == ("m-1", "text/xml", place.name)
        found = one.event.extensions
        assert (found["amqptype"], found["correlationid"], found["xretrycount"]) == ("order", "c", "3")
        assert found["nested"] == '{"a":[1]}'
        assert "source" not in found
        await settle(consumer, [one])
        await consumer.close()

    place = placed(server)
    play(scene)


def test_what_is_given_up_goes_to_the_queues_dead_letters(server: RabbitServer) -> None:
    async def scene() -> None:
        consumer = await RabbitmqBroker().open(place.source())
        await place.publish(b"1")
        [one] = await take(consumer, 1)
        await consumer.settle([Settlement(one.receipt, refused=True)])
        others = await RabbitmqBroker().open(dead.source())
        assert [found.event.data for found in await take(others, 1)] == [b"1"]
        await others.close()
        await consumer.close()

    dead = placed(server)
    place = placed(server, **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.name})
    play(scene)


def test_a_queue_that_is_not_there_is_named_and_one_that_goes_is_noticed(server: RabbitServer) -> None:
    async def scene() -> None:
        with pytest.raises(Unavailable, match="no queue"):
            await RabbitmqBroker().open(RabbitPlace(server).source())
        consumer = await RabbitmqBroker().open(place.source())
        async with await aio_pika.connect(server.url) as connection:
            await (await connection.channel()).queue_delete(place.name)
        with pytest.raises(Unavailable, match="no queue"):
            await consumer.lag()
        await consumer.close()

    place = placed(server)
    play(scene)
