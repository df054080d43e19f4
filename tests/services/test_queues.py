"""Receivers wait without asking again, and nothing that comes for them is missed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fuyun.base import clock
from fuyun.domain.errors import BadRequest, Forbidden, NotFound
from fuyun.domain.queues import Outgoing, QueueSpec, Settling
from fuyun.domain.tenants import Principal, Quotas
from fuyun.domain.topics import SubscriptionSpec
from fuyun.drivers.queues.store import SqlQueues
from fuyun.services.tenants import PLATFORM
from fuyun.testing.contracts.queues import outgoing
from fuyun.testing.times import START_S
from tests.services.messages import Messages, virtual

LONG_S = 60.0


def _store(m: Messages) -> SqlQueues:
    database: Any = m.e.database
    return SqlQueues(database)


@virtual
async def test_a_message_finds_the_one_who_waits_longest(m: Messages) -> None:
    await m.create()
    first = m.scope.start(m.receive(wait_s=LONG_S), "first")
    await asyncio.sleep(1)
    second = m.scope.start(m.receive(wait_s=LONG_S), "second")
    await asyncio.sleep(1)
    asked = m.e.database.writes
    await m.send("a")
    assert await first == ["a"]
    await asyncio.sleep(1)
    assert not second.done()
    await m.send("b")
    assert await second == ["b"]
    assert m.e.database.writes - asked <= 6, "two sends, two receives, at most two looks in vain"
    assert len(m.queues.lines) == 0, "nobody waits, and nothing is kept for it"


@virtual
async def test_one_send_wakes_as_many_as_it_has_messages_for(m: Messages) -> None:
    await m.create()
    waiting = [m.scope.start(m.receive(wait_s=LONG_S), "r") for _ in range(3)]
    await asyncio.sleep(1)
    await m.send("a", "b", "c")
    assert sorted(await asyncio.gather(*waiting)) == [["a"], ["b"], ["c"]]


@virtual
async def test_who_takes_all_it_may_passes_the_word_on(m: Messages) -> None:
    await m.create()
    waiting = [m.scope.start(m.receive(wait_s=LONG_S), "r") for _ in range(2)]
    await asyncio.sleep(1)
    store = _store(m)
    await store.send("default", "q", [outgoing("a"), outgoing("b")], Quotas(), clock.wall_s())
    m.queues.lines.wake("default", "q", 1)
    assert sorted(await asyncio.gather(*waiting)) == [["a"], ["b"]]


@virtual
async def test_what_comes_while_a_receiver_looks_is_not_missed(m: Messages) -> None:
    await m.create()
    for round_ in range(20):
        got, _ = await asyncio.gather(m.receive(wait_s=LONG_S), m.send(str(round_)))
        assert got == [str(round_)]


@virtual
async def test_a_delayed_message_comes_when_it_is_due(m: Messages) -> None:
    await m.create()
    waiting = m.scope.start(m.receive(wait_s=LONG_S), "r")
    await asyncio.sleep(1)
    sent_s = clock.wall_s()
    await m.send("a", delay_s=20.0)
    assert await waiting == ["a"]
    assert clock.wall_s() >= sent_s + 20


@virtual
async def test_a_lease_that_runs_out_finds_who_waits(m: Messages) -> None:
    await m.create()
    await m.send("a")
    [first] = await m.queues.receive("default", "q")
    waiting = m.scope.start(m.receive(wait_s=LONG_S), "r")
    await asyncio.sleep(1)
    until_s = clock.wall_s() + 20
    await m.settle(first, 20.0)
    assert await waiting == ["a"]
    assert clock.wall_s() >= until_s


@virtual
async def test_a_lease_taken_by_one_who_waited_is_known_to_the_others(m: Messages) -> None:
    await m.create(visibility_s=10)
    waiting = [m.scope.start(m.receive(10, wait_s=LONG_S), "r") for _ in range(2)]
    await asyncio.sleep(1)
    await m.send("a")
    assert await asyncio.gather(*waiting) == [["a"], ["a"]], "nobody acknowledged it"


@virtual
async def test_what_is_returned_or_makes_room_wakes(m: Messages) -> None:
    await m.create()
    await m.create("o", fifo=True)
    await m.send("a")
    [got] = await m.queues.receive("default", "q")
    waiting = m.scope.start(m.receive(wait_s=LONG_S), "r")
    await asyncio.sleep(1)
    await m.settle(got, 0.0)
    assert await waiting == ["a"]
    await m.send("1", "2", to="o", group="g")
    [one] = await m.queues.receive("default", "o")
    waiting = m.scope.start(m.receive(of="o", wait_s=LONG_S), "r")
    await asyncio.sleep(1)
    await m.queues.settle("default", "o", [Settling(receipt=one.receipt)])
    assert await waiting == ["2"]


@virtual
async def test_dead_letters_wake_those_who_wait_for_them(m: Messages) -> None:
    await m.create()
    await m.create("dead")
    await m.create("p", dead_letter="dead", max_receives=1)
    await m.send("a", to="p")
    waiting = m.scope.start(m.receive(of="dead", wait_s=LONG_S), "r")
    await asyncio.sleep(1)
    [got] = await m.queues.receive("default", "p")
    await m.queues.settle("default", "p", [Settling(receipt=got.receipt, hold_s=0.0)])
    assert await m.receive(of="p") == []
    assert await waiting == ["a"]
    assert m.queues.tallies["default", "p"].given_up == 1
    assert await m.queues.redrive(PLATFORM, "default", "dead") == 0, "somebody has it"


@virtual
async def test_redrive_and_purge_take_more_than_one_transaction(m: Messages) -> None:
    await m.create()
    await m.create("r")
    for start in range(0, 1100, 100):
        await m.send(*(f"m{start + count}" for count in range(100)))
    assert await m.queues.redrive(PLATFORM, "default", "q", "r") == 1100
    assert (await m.queues.get_queue("default", "q"))[0].messages == 0
    assert await m.queues.purge(PLATFORM, "default", "r") == 1100
    assert (await m.queues.get_queue("default", "r"))[0].messages == 0
    assert [(entry.action, entry.detail) for entry in m.tenants.noted] == [("queue.redrive", "1100 messages")]
    with pytest.raises(BadRequest, match="into itself"):
        await m.queues.redrive(PLATFORM, "default", "q", "q")


@virtual
async def test_a_receiver_that_has_left_keeps_nothing(m: Messages) -> None:
    await m.create()
    left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting = m.scope.start(m.queues.receive("default", "q", wait_s=LONG_S, left=left), "r")
    await asyncio.sleep(1)
    left.set_result(None)
    assert await waiting == []
    await m.send("a")
    assert await m.queues.receive("default", "q", left=left) == []
    assert (await m.queues.get_queue("default", "q"))[1].ready == 1


@virtual
async def test_who_waits_is_sent_home_when_the_queue_goes_or_the_platform_stops(m: Messages) -> None:
    await m.create()
    deleting = asyncio.get_running_loop().call_later(
        1, lambda: m.scope.start(m.queues.delete_queue(PLATFORM, "default", "q"), "delete")
    )
    with pytest.raises(NotFound):
        await m.receive(wait_s=LONG_S)
    assert clock.wall_s() < deleting.when() + 1 - 1000 + START_S
    await m.create()
    waiting = m.scope.start(m.receive(wait_s=LONG_S), "r")
    await asyncio.sleep(1)
    m.queues.close()
    assert await waiting == []
    assert await m.receive(wait_s=LONG_S) == []


@virtual
async def test_what_is_too_old_is_swept_away(m: Messages) -> None:
    await m.create()
    await m.create("o", fifo=True, retention_s=60)
    store = _store(m)
    await store.send("default", "o", [outgoing("1", group="g")], Quotas(), clock.wall_s() - 60)
    await m.send("2", to="o", group="g")
    assert await m.queues.sweep() == 1
    assert await m.receive(of="o") == ["2"]
    assert m.queues.tallies["default", "o"].expired == 1
    assert {queue.name for queue in m.queues.held} == {"q", "o"}


@virtual
async def test_topics_wake_receivers(m: Messages) -> None:
    await m.create()
    await m.topics.put_topic(PLATFORM, "default", "t")
    await m.topics.subscribe(PLATFORM, "default", "t", "s", SubscriptionSpec(target="queue:q"))
    waiting = m.scope.start(m.receive(wait_s=LONG_S), "r")
    await asyncio.sleep(1)
    published = await m.topics.publish("default", "t", [outgoing("a")])
    assert (published.queues, await waiting) == ({"q": 1}, ["a"])


@virtual
async def test_roles_bound_changes(m: Messages) -> None:
    await m.create()
    viewer = Principal(key_id="k", namespace="default", role="viewer")
    other = Principal(key_id="k", namespace="acme", role="admin")
    for who in (viewer, other):
        for change in (
            m.queues.put_queue(who, "default", "p", QueueSpec()),
            m.queues.delete_queue(who, "default", "q"),
            m.queues.redrive(who, "default", "q"),
            m.queues.purge(who, "default", "q"),
            m.topics.put_topic(who, "default", "t"),
            m.topics.delete_topic(who, "default", "t"),
            m.topics.subscribe(who, "default", "t", "s", SubscriptionSpec(target="queue:q")),
            m.topics.unsubscribe(who, "default", "t", "s"),
        ):
            with pytest.raises(Forbidden):
                await change


@virtual
async def test_words_that_are_near_are_offered(m: Messages) -> None:
    await m.create()
    await m.create("orders")
    with pytest.raises(NotFound) as found:
        await m.queues.get_queue("default", "order")
    assert found.value.hint == "did you mean 'orders'?"


@virtual
async def test_batches_have_bounds(m: Messages) -> None:
    await m.create()
    nothing: list[Outgoing] = []
    for wrong in (
        m.queues.send("default", "q", nothing),
        m.queues.send("default", "q", [outgoing("a")] * 101),
        m.queues.receive("default", "q", 0),
        m.queues.receive("default", "q", 101),
        m.queues.receive("default", "q", wait_s=61.0),
        m.queues.receive("default", "q", visibility_s=0.5),
        m.queues.settle("default", "q", []),
        m.queues.settle("default", "q", [Settling(receipt="1-1", hold_s=-1.0)]),
        m.topics.publish("default", "t", nothing),
    ):
        with pytest.raises(BadRequest):
            await wrong
