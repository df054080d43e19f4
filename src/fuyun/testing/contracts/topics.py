"""What every store of topics keeps: `ports.topics.TopicStore`, clause by clause."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from pathlib import Path
from typing import Any

import pytest

from fuyun.domain.errors import Conflict, NotFound, PayloadTooLarge, QuotaExceeded
from fuyun.domain.tenants import Quotas
from fuyun.domain.topics import MOST_SUBSCRIPTIONS, Subscription, SubscriptionSpec, Topic
from fuyun.testing.contracts.queues import PLENTY, Places, PlacesContract, outgoing
from fuyun.testing.contracts.samples import NOW_S, entry


@pytest.mark.anyio
class TopicStoreContract(PlacesContract):
    """Subclass it with `open`."""

    @abstractmethod
    async def waiting(self, places: Places, topic: str) -> list[str]:
        """Ids of the topic's events that are in the outbox."""

    async def test_queues_have_it_when_it_is_published(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            await self.furnish(places)
            await subscribe(places, "all", "queue:q")
            await subscribe(places, "some", "queue:r", kind=["a", "b"], source={"prefix": "/default/"})
            await subscribe(places, "f", "function:f")
            sent = [outgoing("1", attributes={"kind": "a"}), outgoing("2", attributes={"kind": "c"}), outgoing("3")]
            published = await places.topics.publish("default", "t", sent, PLENTY, NOW_S)
            assert (published.ids, published.queues) == (("1", "2", "3"), {"q": 3, "r": 1})
        async with self.open(tmp_path) as places:
            assert (await places.held(), await places.held("r")) == (["1", "2", "3"], ["1"])
            assert await self.waiting(places, "t") == ["1", "2", "3"]

    async def test_a_queue_with_order_gets_a_group(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            await self.furnish(places)
            await places.create("o", fifo=True)
            for name in ("q", "o"):
                await subscribe(places, name, f"queue:{name}")
            await places.topics.publish("default", "t", [outgoing("1"), outgoing("2", group="g")], PLENTY, NOW_S)
            assert [message.group for message in await places.queues.peek("default", "o", 9)] == ["t", "g"]
            assert [message.group for message in await places.queues.peek("default", "q", 9)] == ["", ""]

    async def test_what_one_queue_refuses_no_queue_gets(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            await self.furnish(places)
            await places.create("small", message_bytes=10)
            await subscribe(places, "a", "queue:q")
            await subscribe(places, "b", "queue:small")
            with pytest.raises(PayloadTooLarge, match="small"):
                await places.topics.publish("default", "t", [outgoing("1")], PLENTY, NOW_S)
            with pytest.raises(QuotaExceeded):
                await places.topics.publish("default", "t", [outgoing("1")], Quotas(queue_messages=0), NOW_S)
            assert (await places.held(), await self.waiting(places, "t")) == ([], [])

    async def test_topics_and_subscriptions_come_and_go(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            await self.furnish(places)
            topics = places.topics
            changed = await topics.put(
                Topic(namespace="default", name="t", created_s=NOW_S + 9, description="x"), PLENTY
            )
            assert (changed.created_s, changed.description) == (NOW_S, "x")
            await topics.put(Topic(namespace="default", name="s", created_s=NOW_S), PLENTY, entry("put"))
            assert [topic.name for topic in await topics.list_topics("default")] == ["s", "t"]
            assert [topic.name for topic in await topics.list_topics("default", "s", 1)] == ["t"]
            with pytest.raises(QuotaExceeded):
                await topics.put(Topic(namespace="default", name="u", created_s=NOW_S), Quotas(topics=2))
            await subscribe(places, "one", "queue:q")
            await subscribe(places, "one", "queue:r")
            [one] = await topics.list_subscriptions("default", "t")
            assert one.spec.target == "queue:r", "a subscription of the same name is replaced"
            assert await topics.list_subscriptions("*") == [one]
            with pytest.raises(Conflict, match="subscription 'one'"):
                await places.queues.delete("default", "r")
            await topics.unsubscribe("default", "t", "one", entry("end"))
            await places.queues.delete("default", "r")
            await topics.delete("default", "s", entry("delete"))
            assert [told.action for told in await places.tenants.audit(None)] == ["put", "end", "delete"]

    async def test_subscriptions_have_their_number(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            await self.furnish(places)
            await asyncio.gather(*(subscribe(places, f"s{count}", "queue:q") for count in range(MOST_SUBSCRIPTIONS)))
            with pytest.raises(QuotaExceeded):
                await subscribe(places, "more", "queue:q")
            await subscribe(places, "s0", "queue:r")

    async def test_what_is_absent_is_not_found(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            await self.furnish(places)
            topics = places.topics
            for missing in (
                topics.get("default", "none"),
                topics.delete("default", "none", entry("no")),
                topics.list_subscriptions("default", "none"),
                topics.unsubscribe("default", "none", "s"),
                topics.unsubscribe("default", "t", "none", entry("no")),
                topics.publish("default", "none", [outgoing("1")], PLENTY, NOW_S),
                subscribe(places, "s", "queue:none"),
                subscribe(places, "s", "queue:q", topic="none"),
            ):
                with pytest.raises(NotFound):
                    await missing
            assert await places.tenants.audit(None) == []

    async def furnish(self, places: Places) -> None:
        """A topic `t`, queues `q` and `r`."""
        await places.topics.put(Topic(namespace="default", name="t", created_s=NOW_S), PLENTY)
        for name in ("q", "r"):
            await places.create(name)


async def subscribe(places: Places, name: str, target: str, topic: str = "t", **filter_: Any) -> None:
    """Subscribe to a topic of the namespace `default`."""
    spec = SubscriptionSpec(target=target, filter=filter_ or None)
    made = Subscription(namespace="default", topic=topic, name=name, spec=spec, created_s=NOW_S)
    await places.topics.subscribe(made)
