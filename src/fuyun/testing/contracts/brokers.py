"""What every broker's driver keeps: `ports.brokers`, clause by clause."""

from __future__ import annotations

import asyncio
import json
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, TypeVar

import pytest

from fuyun.base.tasks import Scope
from fuyun.domain.brokers import address_of
from fuyun.domain.errors import Unavailable
from fuyun.domain.triggers import BrokerTrigger
from fuyun.ports.brokers import Broker, Consumer, Received, Settlement, Source

#: Seconds until a message is taken not to come.
_QUIET_S = 0.3
_LONG_S = 20.0
T = TypeVar("T")


class Place:
    """A thing in a real broker that messages go to: subclass it. `kind` is the trigger's."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def trigger(self) -> BrokerTrigger:
        """What takes its messages."""

    @abstractmethod
    async def publish(self, *bodies: bytes) -> None:
        """Put messages into it, durably, in this order."""

    @abstractmethod
    async def restart(self) -> None:
        """Kill the broker and start it on what it has on the disk."""

    def source(self, start: str = "end", most: int = 100, name: str = "fuyun_0123456789ab_default_f_t") -> Source:
        """The trigger's source."""
        trigger = self.trigger
        return Source(
            name=name, trigger=trigger, address=address_of(self.kind, trigger.url), start=start, most=most,
            namespace="default",
        )  # fmt: skip


def play(scene: Callable[[], Awaitable[T]]) -> T:
    """Run a scene, for so long at most."""

    async def main() -> T:
        async with asyncio.timeout(_LONG_S * 2):
            return await scene()

    return asyncio.run(main())


async def take(consumer: Consumer, count: int) -> list[Received]:
    """So many messages."""
    found: list[Received] = []
    async with asyncio.timeout(_LONG_S):
        while len(found) < count:
            found += await consumer.receive(count - len(found), _LONG_S)
    return found


async def settle(consumer: Consumer, found: Sequence[Received]) -> None:
    """All of them are done with."""
    await consumer.settle([Settlement(one.receipt) for one in found])


def bodies(found: Sequence[Received]) -> list[Any]:
    """Their data, which is JSON."""
    return [json.loads(one.event.data) for one in found]


def numbers(first: int, last: int) -> list[bytes]:
    """Messages."""
    return [str(number).encode() for number in range(first, last + 1)]


async def opened(broker: Broker, place: Place) -> Consumer:
    """A consumer, as soon as the broker is there."""
    async with asyncio.timeout(_LONG_S):
        while True:
            try:
                return await broker.open(place.source())
            except Unavailable:
                await asyncio.sleep(0.05)


class BrokerContract:
    """Subclass it with `broker` and a fixture `place`. `ordered`: what comes again comes before what is new. `marked`:
    it says that it was given out before. `single`: a message is settled apart from those before it."""

    ordered = True
    marked = True
    single = True

    @abstractmethod
    def broker(self) -> Broker:
        """A new driver, as after a start of the platform."""

    def test_messages_come_in_order_and_what_is_settled_does_not_come_again(self, place: Place) -> None:
        async def scene() -> None:
            broker = self.broker()
            consumer = await broker.open(place.source())
            await place.publish(*numbers(1, 5))
            found = await take(consumer, 5)
            assert bodies(found) == [1, 2, 3, 4, 5]
            assert not any(one.again for one in found)
            assert len({one.sequence for one in found}) == 5
            await settle(consumer, found)
            assert await consumer.receive(9, _QUIET_S) == []
            await consumer.close()
            consumer = await self.broker().open(place.source())
            await place.publish(b"6")
            assert bodies(await take(consumer, 1)) == [6]
            await consumer.close()

        play(scene)

    def test_at_most_as_many_as_were_asked_for_and_others_later(self, place: Place) -> None:
        async def scene() -> None:
            consumer = await self.broker().open(place.source())
            await place.publish(*numbers(1, 7))
            seen: list[Received] = []
            while len(seen) < 7:
                found = await consumer.receive(3, _LONG_S)
                assert 0 < len(found) <= 3
                seen += found
            assert bodies(seen) == [1, 2, 3, 4, 5, 6, 7]
            await settle(consumer, seen)
            await consumer.close()

        play(scene)

    def test_what_was_not_settled_comes_again_and_first(self, place: Place) -> None:
        async def scene() -> None:
            consumer = await self.broker().open(place.source())
            await place.publish(*numbers(1, 4))
            first = await take(consumer, 4)
            done = [first[0], first[2]] if self.single else first[:2]
            left = [one for one in first if one not in done]
            await settle(consumer, done)
            await consumer.close()
            await place.publish(b"5")
            consumer = await self.broker().open(place.source())
            second = await take(consumer, 3)
            wanted = [*bodies(left), 5]
            assert bodies(second) == wanted if self.ordered else sorted(bodies(second)) == wanted
            assert [one.again for one in second if json.loads(one.event.data) != 5] == [self.marked] * 2
            if first[0].lasting:
                assert [one.sequence for one in second[:2]] == [one.sequence for one in left]
            await settle(consumer, second)
            assert await consumer.receive(9, _QUIET_S) == []
            await consumer.close()

        play(scene)

    def test_whoever_is_killed_loses_nothing(self, place: Place) -> None:
        """A consumer whose process is gone: nobody closes it."""

        async def scene() -> None:
            lost = await self.broker().open(place.source())
            await place.publish(*numbers(1, 4))
            await settle(lost, (await take(lost, 4))[:2])
            await lost.lag()  # its settlements are with the broker
            self.vanish(lost)
            await place.publish(b"5")
            consumer = await self.broker().open(place.source())
            found = await take(consumer, 3)
            assert bodies(found) == [3, 4, 5] if self.ordered else sorted(bodies(found)) == [3, 4, 5]
            await settle(consumer, found)
            await consumer.close()
            await lost.close()

        play(scene)

    def vanish(self, consumer: Consumer) -> None:
        """Its process is killed: whatever that means to its connection."""

    def test_the_broker_is_killed_and_comes_back(self, place: Place) -> None:
        async def scene() -> None:
            broker = self.broker()
            consumer = await broker.open(place.source())
            await place.publish(*numbers(1, 4))
            first = await take(consumer, 4)
            await settle(consumer, first[:2])
            await consumer.lag()
            await place.restart()
            await place.publish(b"5")
            held = first[2:]
            async with asyncio.timeout(_LONG_S):
                while {*bodies(held)} < {3, 4, 5}:
                    try:
                        held += await consumer.receive(9, _QUIET_S)
                        await consumer.lag()
                    except Unavailable:  # what was held comes again
                        held = []
                        await consumer.close()
                        await asyncio.sleep(0.05)
                        consumer = await opened(broker, place)
            await settle(consumer, held)
            await consumer.lag()
            await consumer.close()
            consumer = await opened(broker, place)
            await place.publish(b"6")
            while bodies(found := await take(consumer, 1)) != [6]:
                assert found[0].again or not self.marked, (
                    "a broker that is killed may forget that it heard of a settlement, and says so"
                )
                await settle(consumer, found)
            await consumer.close()

        play(scene)

    def test_data_is_json_or_bytes(self, place: Place) -> None:
        async def scene() -> None:
            consumer = await self.broker().open(place.source())
            await place.publish(b'{"a": [1, "\xc3\xa4"]}', b"plain text", b"\xff\x00", b'"\xff"', b"")
            found = await take(consumer, 5)
            assert [(one.event.is_json, one.event.data) for one in found] == [
                (True, b'{"a": [1, "\xc3\xa4"]}'), (False, b"plain text"), (False, b"\xff\x00"), (False, b'"\xff"'),
                (False, b""),
            ]  # fmt: skip
            for one in found:
                assert place.source().address.shown in one.event.source
                assert one.event.type.startswith(f"{place.kind}.")
                assert one.event.id
                assert one.event.subject
            await settle(consumer, found)
            await consumer.close()

        play(scene)

    def test_a_wait_that_is_cancelled_loses_nothing(self, place: Place) -> None:
        async def scene() -> None:
            broker = self.broker()
            consumer = await broker.open(place.source())
            for number in range(1, 4):
                async with Scope("test", lambda error: None) as scope:
                    waiting = scope.start(consumer.receive(9, _LONG_S), "receive")
                    await asyncio.sleep(0.05)
                    sending = scope.start(place.publish(str(number).encode()), "publish")
                    await asyncio.sleep(0.001 * number)
                    waiting.cancel()
                    got = await asyncio.gather(waiting, return_exceptions=True)
                    await sending
                await consumer.close()
                consumer = await broker.open(place.source())
                found = await take(consumer, 1)
                assert bodies(found) == [number], got
                await settle(consumer, found)
            await consumer.close()

        play(scene)

    def test_a_short_look_is_no_trouble(self, place: Place) -> None:
        async def scene() -> None:
            consumer = await self.broker().open(place.source())
            for wait_ms in range(1, 9):
                assert await consumer.receive(9, wait_ms / 1000) == []
            await place.publish(b"1")
            found = await take(consumer, 1)
            await settle(consumer, found)
            await consumer.close()

        play(scene)

    def test_lag_tells_what_waits(self, place: Place) -> None:
        async def scene() -> None:
            consumer = await self.broker().open(place.source(most=1))
            await place.publish(*numbers(1, 6))
            found = await take(consumer, 1)
            lag = await consumer.lag()
            assert lag is None or lag == 5
            await settle(consumer, found)
            for _ in range(5):
                found = await take(consumer, 1)
                await settle(consumer, found)
            lag = await consumer.lag()
            assert lag is None or lag == 0
            await consumer.keep([])
            await consumer.close()

        play(scene)

    def test_a_broker_that_is_away_is_told_of_without_the_password(self, place: Place) -> None:
        async def scene() -> None:
            here = place.source()
            url = here.trigger.url.replace("127.0.0.1", "somebody:hidden-word@127.0.0.1").replace(
                f":{here.address.port}", ":1"
            )
            away = Source(
                name=here.name, trigger=here.trigger, address=address_of(place.kind, url), start="end", most=1,
                password="hidden-too",
            )  # fmt: skip
            for work in (self.broker().open(away), *self.forgetting(away)):
                async with asyncio.timeout(_LONG_S):
                    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1") as told:
                        await work
                assert "hidden" not in told.value.detail + told.value.hint + repr(away)

        play(scene)

    def forgetting(self, source: Source) -> list[Awaitable[None]]:
        """What asks the broker to forget: nothing where nothing is kept there."""
        return [self.broker().forget(source)]

    def test_forgotten_it_begins_anew(self, place: Place) -> None:
        async def scene() -> None:
            broker = self.broker()
            consumer = await broker.open(place.source())
            await place.publish(*numbers(1, 2))
            await take(consumer, 2)
            await consumer.close()
            await broker.forget(place.source())
            await broker.forget(place.source())  # and nothing is wrong with once more
            await self.forgotten(place)

        play(scene)

    @abstractmethod
    async def forgotten(self, place: Place) -> None:
        """Check that nothing of the trigger is left in the broker."""
