"""What every store of queues and topics keeps: `ports.queues.QueueStore` and `ports.topics.TopicStore`."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fuyun.decide.leases import ABSENT, EXPIRED, SUPERSEDED
from fuyun.domain.errors import (
    BadRequest,
    Conflict,
    NotFound,
    PayloadTooLarge,
    PreconditionFailed,
    QuotaExceeded,
)
from fuyun.domain.events import Event
from fuyun.domain.queues import MOVE_AT_ONCE, Message, Outgoing, QueueSpec, Sent, Settling
from fuyun.domain.tenants import Namespace, Quotas
from fuyun.ports.queues import QueueStore
from fuyun.ports.tenants import TenantStore
from fuyun.ports.topics import TopicStore
from fuyun.testing.contracts.samples import NOW_S, entry

PLENTY = Quotas()


@dataclass(frozen=True)
class Places:
    """The ports of one place. `outbox` gives the ids of the events of a topic that wait there for others."""

    queues: QueueStore
    topics: TopicStore
    tenants: TenantStore

    async def create(self, name: str = "q", **spec: Any) -> None:
        """A queue of the namespace `default`."""
        await self.queues.put("default", name, QueueSpec(**spec), PLENTY, NOW_S)

    async def send(self, *ids: str, to: str = "q", at_s: float = NOW_S, **rest: Any) -> list[Sent]:
        """Send messages of these ids."""
        return await self.queues.send("default", to, [outgoing(id_, **rest) for id_ in ids], PLENTY, at_s)

    async def receive(
        self, most: int = 10, *, of: str = "q", at_s: float = NOW_S, seconds: float | None = None
    ) -> list[Message]:
        """What is given out."""
        return list((await self.queues.receive("default", of, most, seconds, at_s)).messages)

    async def settle(
        self, *receipts: str, of: str = "q", at_s: float = NOW_S, hold_s: float | None = None
    ) -> dict[str, str]:
        """Receipt -> why nothing was done for it."""
        settlings = [Settling(receipt=receipt, hold_s=hold_s) for receipt in receipts]
        return (await self.queues.settle("default", of, settlings, at_s)).refused

    async def held(self, name: str = "q") -> list[str]:
        """Ids of all that a queue holds, in its order."""
        return [message.id for message in await self.queues.peek("default", name, 10**6)]


def outgoing(id_: str, data: bytes = b"1", attributes: dict[str, str] | None = None, **rest: Any) -> Outgoing:
    """A message of that id."""
    event = Event(
        id=id_, source="/default/queue/q", type="test", time_s=NOW_S, data=data, extensions=attributes or {},
        hops=3, trail="first",
    )  # fmt: skip
    return Outgoing(event=event, **rest)


class PlacesContract(ABC):
    """What a suite over `Places` needs."""

    @abstractmethod
    def open(self, folder: Path) -> AbstractAsyncContextManager[Places]:
        """The stores kept in `folder`; opening the same folder again finds what was written before."""


@pytest.mark.anyio
class QueueStoreContract(PlacesContract):
    """Subclass it with `open`."""

    async def test_a_message_is_kept_whole(self, tmp_path: Path) -> None:
        sent = outgoing("m", b'"\xf0\x9f\x98\x80"', {"kind": "x"})
        async with self.open(tmp_path) as places:
            await places.create()
            await places.queues.send("default", "q", [sent], PLENTY, NOW_S)
        async with self.open(tmp_path) as places:
            [seen] = await places.queues.peek("default", "q", 10)
            [got] = await places.receive(at_s=NOW_S + 1)
        assert seen == Message(event=sent.event, sent_s=NOW_S, receives=0)
        assert (got.event, got.sent_s, got.receives, got.lease_until_s) == (sent.event, NOW_S, 1, NOW_S + 31)

    async def test_a_lease_is_its_holders_until_it_runs_out(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            await places.create(visibility_s=10)
            await places.send("m")
            [first] = await places.receive()
            assert await places.receive(at_s=NOW_S + 9.9) == []
            assert await places.settle(first.receipt, at_s=NOW_S + 10) == {first.receipt: EXPIRED}
            [second] = await places.receive(at_s=NOW_S + 10, seconds=5)
            assert (second.id, second.receives, second.lease_until_s) == ("m", 2, NOW_S + 15)
            assert await places.settle(first.receipt, at_s=NOW_S + 11) == {first.receipt: SUPERSEDED}
        async with self.open(tmp_path) as places:
            assert await places.settle(second.receipt, at_s=NOW_S + 14) == {}
            assert await places.settle(second.receipt, at_s=NOW_S + 14) == {second.receipt: ABSENT}
            assert await places.held() == []

    async def test_a_lease_is_extended_or_given_back(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            await places.create(visibility_s=10)
            await places.send("m")
            [got] = await places.receive()
            assert await places.settle(got.receipt, at_s=NOW_S + 5, hold_s=100) == {}
            assert await places.receive(at_s=NOW_S + 104) == []
            settled = await places.queues.settle("default", "q", [Settling(receipt=got.receipt, hold_s=0)], NOW_S + 104)
            assert (settled.refused, settled.ready) == ({}, 1)
            assert await places.settle(got.receipt, at_s=NOW_S + 104) == {got.receipt: EXPIRED}
            [again] = await places.receive(at_s=NOW_S + 104)
            assert again.receives == 2

    async def test_a_batch_is_settled_as_far_as_it_can_be(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            await places.create()
            await places.create("other")
            await places.send("a", "b")
            a, b = [message.receipt for message in await places.receive()]
            assert await places.settle(a, of="other") == {a: ABSENT}, "a receipt is good at its own queue"
            assert await places.settle(a, "999-1", a) == {"999-1": ABSENT, a: ABSENT}, "twice is once"
            for bad in ("", "1", "1-", "x-1", "1-1-1", "0-1", "99999999999999999999-1"):
                with pytest.raises(BadRequest):
                    await places.settle(b, bad)
            assert await places.held() == ["b"], "what is no receipt refuses the whole batch"

    async def test_one_receiver_has_a_message(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            await places.create()
            await places.send(*(f"m{count}" for count in range(40)))
            batches = await asyncio.gather(*(places.receive(3) for _ in range(20)))
            got = [message.id for batch in batches for message in batch]
            assert sorted(got) == sorted(set(got)) == sorted(f"m{count}" for count in range(40))

    async def test_delays(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            await places.create(delay_s=10)
            await places.send("slow")
            await places.send("slower", delay_s=20.0)
            await places.send("now", delay_s=0.0)
            assert [message.id for message in await places.receive()] == ["now"]
            got = await places.queues.receive("default", "q", 10, None, NOW_S)
            assert (got.messages, got.next_due_s) == ((), NOW_S + 10)
            assert [message.id for message in await places.receive(at_s=NOW_S + 20)] == ["slow", "slower"]

    async def test_a_group_is_in_order_with_one_message_out(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            await places.create(fifo=True, visibility_s=10)
            await places.send("a1", "a2", "a3", group="a")
            await places.send("b1", "b2", group="b")
            a1, b1 = await places.receive()
            assert (a1.id, a1.group, b1.id, b1.group) == ("a1", "a", "b1", "b")
            assert await places.receive() == []
            assert await places.settle(a1.receipt) == {}
            [a2] = await places.receive()
            assert a2.id == "a2"
        async with self.open(tmp_path) as places:
            later = await places.receive(at_s=NOW_S + 10)
            assert [message.id for message in later] == ["a2", "b1"], "what was not acknowledged comes again, first"
            assert await places.settle(*(one.receipt for one in later), at_s=NOW_S + 11) == {}
            assert {message.id for message in await places.receive(at_s=NOW_S + 11)} == {"a3", "b2"}

    async def test_a_queue_with_order_delays_all_alike(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            await places.create(fifo=True, delay_s=10)
            await places.send("1", "2", group="a")
            assert await places.receive(at_s=NOW_S + 9) == []
            [one] = await places.receive(at_s=NOW_S + 10)
            await places.settle(one.receipt, at_s=NOW_S + 10)
            assert [message.id for message in await places.receive(at_s=NOW_S + 10)] == ["2"]
            with pytest.raises(BadRequest, match="delayed alone"):
                await places.send("3", group="a", delay_s=1.0)
            with pytest.raises(BadRequest, match="names no group"):
                await places.send("3")
            await places.create("plain")
            with pytest.raises(BadRequest, match="names a group"):
                await places.send("3", group="a", to="plain")

    async def test_a_deduplication_id_is_taken_once_in_its_window(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            await places.create(deduplication_s=60)
            assert await places.send("a", deduplication="d") == [Sent(id="a")]
            [got] = await places.receive()
            await places.settle(got.receipt)
            assert await places.send("b", deduplication="d", at_s=NOW_S + 59) == [Sent(id="a", duplicate=True)]
            assert await places.send("c", deduplication="e", at_s=NOW_S + 59) == [Sent(id="c")]
            assert await places.send("d", deduplication="d", at_s=NOW_S + 60) == [Sent(id="d")]
            twice = await places.send("e", "f", deduplication="g", at_s=NOW_S + 60)
            assert twice == [Sent(id="e"), Sent(id="e", duplicate=True)]
            assert await places.held() == ["c", "d", "e"]

    async def test_what_is_given_out_too_often_is_given_up(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            await places.create("dead")
            await places.create(dead_letter="dead", max_receives=2, visibility_s=10)
            await places.send("bad", "good")
            for round_ in range(2):
                for message in await places.receive(at_s=NOW_S + 10 * round_):
                    if message.id == "good":
                        await places.settle(message.receipt, at_s=NOW_S + 10 * round_)
            got = await places.queues.receive("default", "q", 10, None, NOW_S + 20)
            assert (got.messages, got.given_up) == ((), ("dead", 1))
            [dead] = await places.queues.peek("default", "dead", 10)
            assert (dead.id, dead.origin, dead.receives, dead.sent_s) == ("bad", "q", 0, NOW_S + 20)
            assert dead.event.time_s == NOW_S
            assert await places.held() == []
            assert await places.queues.move("default", "dead", "", NOW_S + 30) == {"q": 1}
            [again] = await places.receive(at_s=NOW_S + 30)
            assert (again.id, again.receives, again.origin) == ("bad", 1, "")

    async def test_a_group_goes_on_behind_what_was_given_up(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            await places.create("dead", fifo=True)
            await places.create(fifo=True, dead_letter="dead", max_receives=1, visibility_s=10)
            await places.send("1", "2", group="a")
            assert [message.id for message in await places.receive()] == ["1"]
            assert [message.id for message in await places.receive(at_s=NOW_S + 10)] == ["2"]
            assert [(message.id, message.group) for message in await places.queues.peek("default", "dead", 9)] == [
                ("1", "a")
            ]
            assert await places.queues.move("default", "dead", "", NOW_S + 11) == {"q": 1}
            assert await places.held() == ["2", "1"]

    async def test_messages_move_where_they_are_told(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            for name in ("q", "r"):
                await places.create(name)
            await places.create("ordered", fifo=True)
            await places.send("held")
            [held] = await places.receive()
            await places.send(*(f"m{count}" for count in range(MOVE_AT_ONCE + 1)))
            assert await places.queues.move("default", "q", "", NOW_S) == {}, "nothing was given up here"
            assert await places.queues.move("default", "q", "r", NOW_S) == {"r": MOVE_AT_ONCE}
            assert await places.queues.move("default", "q", "r", NOW_S) == {"r": 1}
            assert await places.queues.move("default", "q", "r", NOW_S) == {}
            assert await places.held() == ["held"]
            assert await places.settle(held.receipt) == {}
            with pytest.raises(BadRequest, match="keeps an order"):
                await places.queues.move("default", "q", "ordered", NOW_S)
            with pytest.raises(NotFound):
                await places.queues.move("default", "q", "none", NOW_S)

    async def test_what_is_too_old_is_not_given_out(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            await places.create(retention_s=60, visibility_s=100)
            await places.send("held")
            [held] = await places.receive()
            await places.send("old")
            await places.send("new", at_s=NOW_S + 30)
            assert [message.id for message in await places.receive(at_s=NOW_S + 60)] == ["new"]
            assert await places.held() == ["held", "new"]
            assert await places.queues.clear("default", "q", NOW_S, NOW_S + 60, held=False) == 0
            assert await places.settle(held.receipt, at_s=NOW_S + 60) == {}, "what is held is left to its holder"

    async def test_clearing_leaves_what_was_sent_later(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            await places.create(fifo=True)
            await places.send("1", "2", group="a")
            [one] = await places.receive()
            await places.send("3", group="a", at_s=NOW_S + 1)
            assert await places.queues.clear("default", "q", NOW_S, NOW_S + 1, held=True, entry=entry("purge")) == 2
            assert [message.id for message in await places.receive(at_s=NOW_S + 1)] == ["3"]
            assert await places.settle(one.receipt, at_s=NOW_S + 1) == {one.receipt: ABSENT}
            assert [told.action for told in await places.tenants.audit(None)] == ["purge"]

    async def test_statistics_tell_what_messages_wait_for(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            await places.create()
            await places.send("late", delay_s=60.0)
            await places.send("out", "in")
            await places.receive(1)
            queue, found = await places.queues.get("default", "q", NOW_S + 5)
            assert (found.ready, found.in_flight, found.delayed, found.blocked, found.oldest_s) == (1, 1, 1, 0, 5)
            assert (queue.messages, queue.bytes > 3) == (3, True)
            await places.create("o", fifo=True)
            await places.send("1", "2", "3", to="o", group="g", at_s=NOW_S + 3)
            _, found = await places.queues.get("default", "o", NOW_S + 5)
            assert (found.ready, found.blocked, found.oldest_s) == (1, 2, 2)
            await places.queues.clear("default", "q", NOW_S, NOW_S, held=True)
            queue, found = await places.queues.get("default", "q", NOW_S)
            assert (queue.messages, queue.bytes, found.ready, found.oldest_s) == (0, 0, 0, 0)

    async def test_queues_are_made_changed_listed_and_deleted(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            queues, put = places.queues, places.queues.put
            await places.tenants.create_namespace(Namespace(name="acme", created_s=NOW_S))
            made = await put("default", "q", QueueSpec(), PLENTY, NOW_S, expected_revision=0, entry=entry("put"))
            assert (made.revision, made.created_s, made.spec) == (1, NOW_S, QueueSpec())
            with pytest.raises(PreconditionFailed):
                await put("default", "q", QueueSpec(), PLENTY, NOW_S, expected_revision=0)
            changed = await put("default", "q", QueueSpec(visibility_s=5), PLENTY, NOW_S + 1, expected_revision=1)
            assert (changed.revision, changed.created_s, changed.spec.visibility_s) == (2, NOW_S, 5)
            with pytest.raises(Conflict, match="fifo"):
                await put("default", "q", QueueSpec(fifo=True), PLENTY, NOW_S)
            await places.create("p")
            await put("acme", "r", QueueSpec(), PLENTY, NOW_S)
            assert [queue.name for queue in await queues.list_queues("default")] == ["p", "q"]
            assert [queue.name for queue in await queues.list_queues("default", "p", 1)] == ["q"]
            every = await queues.list_queues("*")
            assert [(queue.namespace, queue.name) for queue in every] == [
                ("acme", "r"),
                ("default", "p"),
                ("default", "q"),
            ]
            assert [queue.name for queue in await queues.list_queues("*", "acme/r", 1)] == ["p"]
            await places.send("m")
            await queues.delete("default", "q", entry("delete"))
            await places.create()
            assert await places.held() == [], "a new queue begins empty"
            assert [told.action for told in await places.tenants.audit(None)] == ["put", "delete"]
            await places.tenants.delete_namespace("acme")
            assert [queue.name for queue in await queues.list_queues("*")] == ["p", "q"]

    async def test_what_others_rely_on_stays(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            with pytest.raises(BadRequest, match="no queue 'dead'"):
                await places.create(dead_letter="dead")
            await places.create("dead")
            with pytest.raises(BadRequest, match="keeps an order"):
                await places.create("o", fifo=True, dead_letter="dead")
            await places.create(dead_letter="dead")
            with pytest.raises(Conflict, match="gives messages up"):
                await places.queues.delete("default", "dead")
            await places.queues.delete("default", "q")
            await places.queues.delete("default", "dead")

    async def test_quotas_and_sizes_refuse_all_of_it(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            await places.create(message_bytes=200)
            await places.create("p")
            with pytest.raises(QuotaExceeded):
                await places.queues.put("default", "r", QueueSpec(), Quotas(queues=2), NOW_S)
            with pytest.raises(PayloadTooLarge):
                await places.queues.send(
                    "default", "q", [outgoing("a"), outgoing("b", b'"%s"' % (b"x" * 200))], PLENTY, NOW_S
                )
            await places.send("a", to="p")
            for quotas in (Quotas(queue_messages=2), Quotas(queue_bytes=100)):
                with pytest.raises(QuotaExceeded):
                    await places.queues.send("default", "q", [outgoing("b"), outgoing("c")], quotas, NOW_S)
            assert await places.held() == []
            assert await places.queues.send("default", "q", [outgoing("b")], Quotas(queue_messages=2), NOW_S)

    async def test_what_is_absent_is_not_found(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as places:
            queues = places.queues
            for missing in (
                queues.get("default", "none", NOW_S),
                queues.delete("default", "none", entry("no")),
                queues.send("default", "none", [outgoing("a")], PLENTY, NOW_S),
                queues.receive("nowhere", "none", 1, None, NOW_S),
                queues.settle("default", "none", [Settling(receipt="1-1")], NOW_S),
                queues.peek("default", "none", 1),
                queues.move("default", "none", "", NOW_S),
                queues.clear("default", "none", NOW_S, NOW_S, held=True, entry=entry("no")),
            ):
                with pytest.raises(NotFound):
                    await missing
            assert await places.tenants.audit(None) == []
