"""Receivers wait without asking again, and nothing that comes for them is missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fuyun.base import clock
from fuyun.base.tasks import Scope
from fuyun.domain.errors import BadRequest, Forbidden, NotFound
from fuyun.domain.queues import Message, Outgoing, QueueSpec, Settling
from fuyun.domain.tenants import Principal, Quotas
from fuyun.domain.topics import SubscriptionSpec
from fuyun.drivers.catalog.tenants import SqlTenants
from fuyun.drivers.queues.store import SqlQueues
from fuyun.drivers.queues.topics import SqlTopics
from fuyun.drivers.sql.sqlite import Database
from fuyun.services.queues import Queues
from fuyun.services.tenants import PLATFORM, Tenants
from fuyun.services.topics import Topics
from fuyun.testing.contracts.queues import outgoing

pytestmark = pytest.mark.anyio

LONG_S = 60.0


class Services:
    """The services over a database, and how often it was asked."""

    def __init__(self, database: Database, tenants: Tenants) -> None:
        self.database = database
        self.tenants = tenants
        self.queues = Queues(SqlQueues(database), tenants)
        self.topics = Topics(SqlTopics(database), self.queues, tenants)

    async def create(self, name: str = "q", **spec: object) -> None:
        await self.queues.put_queue(PLATFORM, "default", name, QueueSpec(**spec))  # type: ignore[arg-type]

    async def send(self, *ids: str, to: str = "q", **rest: object) -> None:
        await self.queues.send("default", to, [outgoing(id_, **rest) for id_ in ids])  # type: ignore[arg-type]

    async def receive(self, most: int = 1, *, of: str = "q", wait_s: float = LONG_S) -> list[str]:
        return [message.id for message in await self.queues.receive("default", of, most, wait_s=wait_s)]

    async def settle(self, message: Message, hold_s: float | None = None) -> None:
        await self.queues.settle("default", "q", [Settling(receipt=message.receipt, hold_s=hold_s)])

    async def idle(self, count: int = 1, of: str = "q") -> None:
        """Wait until so many receivers wait, each with nothing under way in the store."""
        line = self.queues.lines._lines
        await until(
            lambda: ("default", of) in line and sum(t._wake is not None for t in line["default", of].tickets) == count
        )


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Services]:
    database = await Database.open(folder / "fuyun.db")
    try:
        yield Services(database, await Tenants.open(SqlTenants(database), folder / "secret.key"))
    finally:
        await database.close()


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with opened(tmp_path) as found:
        await found.create()
        yield found


@pytest.fixture
async def scope() -> AsyncIterator[Scope]:
    async with Scope("test", lambda error: None) as found:
        yield found


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_message_finds_the_one_who_waits_longest(services: Services, scope: Scope) -> None:
    first = scope.start(services.receive(), "first")
    await services.idle(1)
    second = scope.start(services.receive(), "second")
    await services.idle(2)
    asked = services.database.counts.writes
    await services.send("a")
    assert await first == ["a"]
    await services.idle(1)
    assert not second.done()
    await services.send("b")
    assert await second == ["b"]
    assert services.database.counts.writes - asked <= 6, "two sends, two receives, at most two looks in vain"
    assert len(services.queues.lines) == 0, "nobody waits, and nothing is kept for it"


async def test_one_send_wakes_as_many_as_it_has_messages_for(services: Services, scope: Scope) -> None:
    waiting = [scope.start(services.receive(), "r") for _ in range(3)]
    await services.idle(3)
    await services.send("a", "b", "c")
    assert sorted(await asyncio.gather(*waiting)) == [["a"], ["b"], ["c"]]


async def test_who_takes_all_it_may_passes_the_word_on(services: Services, scope: Scope) -> None:
    waiting = [scope.start(services.receive(), "r") for _ in range(2)]
    await services.idle(2)
    store = SqlQueues(services.database)
    await store.send("default", "q", [outgoing("a"), outgoing("b")], Quotas(), clock.wall_s())
    services.queues.lines.wake("default", "q", 1)
    assert sorted(await asyncio.gather(*waiting)) == [["a"], ["b"]]


async def test_what_comes_while_a_receiver_looks_is_not_missed(services: Services) -> None:
    for round_ in range(20):
        got, _ = await asyncio.gather(services.receive(), services.send(str(round_)))
        assert got == [str(round_)]


async def test_a_delayed_message_comes_when_it_is_due(services: Services, scope: Scope) -> None:
    waiting = scope.start(services.receive(), "r")
    await services.idle()
    sent_s = clock.wall_s()
    await services.send("a", delay_s=0.05)
    assert await waiting == ["a"]
    assert clock.wall_s() >= sent_s + 0.05


async def test_a_lease_that_runs_out_finds_who_waits(services: Services, scope: Scope) -> None:
    await services.send("a")
    [first] = await services.queues.receive("default", "q")
    waiting = scope.start(services.receive(), "r")
    await services.idle()
    until_s = clock.wall_s() + 0.05
    await services.settle(first, 0.05)
    assert await waiting == ["a"]
    assert clock.wall_s() >= until_s


async def test_a_lease_taken_by_one_who_waited_is_known_to_the_others(services: Services, scope: Scope) -> None:
    await services.create("q", visibility_s=1)
    waiting = [scope.start(services.receive(10), "r") for _ in range(2)]
    await services.idle(2)
    await services.send("a")
    assert await asyncio.gather(*waiting) == [["a"], ["a"]], "nobody acknowledged it"


async def test_what_is_returned_or_makes_room_wakes(services: Services, scope: Scope) -> None:
    await services.create("o", fifo=True)
    await services.send("a")
    [got] = await services.queues.receive("default", "q")
    waiting = scope.start(services.receive(), "r")
    await services.idle()
    await services.settle(got, 0.0)
    assert await waiting == ["a"]
    await services.send("1", "2", to="o", group="g")
    [one] = await services.queues.receive("default", "o")
    waiting = scope.start(services.receive(of="o"), "r")
    await services.idle(of="o")
    await services.queues.settle("default", "o", [Settling(receipt=one.receipt)])
    assert await waiting == ["2"]


async def test_dead_letters_wake_those_who_wait_for_them(services: Services, scope: Scope) -> None:
    await services.create("dead")
    await services.create("p", dead_letter="dead", max_receives=1)
    await services.send("a", to="p")
    waiting = scope.start(services.receive(of="dead"), "r")
    await services.idle(of="dead")
    [got] = await services.queues.receive("default", "p")
    await services.queues.settle("default", "p", [Settling(receipt=got.receipt, hold_s=0.0)])
    assert await services.receive(of="p", wait_s=0) == []
    assert await waiting == ["a"]
    assert services.queues.tallies["default", "p"].given_up == 1
    assert await services.queues.redrive(PLATFORM, "default", "dead") == 0, "somebody has it"


async def test_redrive_and_purge_take_more_than_one_transaction(services: Services) -> None:
    await services.create("r")
    for start in range(0, 1100, 100):
        await services.send(*(f"m{start + count}" for count in range(100)))
    assert await services.queues.redrive(PLATFORM, "default", "q", "r") == 1100
    assert (await services.queues.get_queue("default", "q"))[0].messages == 0
    assert await services.queues.purge(PLATFORM, "default", "r") == 1100
    assert (await services.queues.get_queue("default", "r"))[0].messages == 0
    told = [entry.action for entry in await services.tenants.list_audit("default")]
    assert told == ["queue.put", "queue.put", "queue.redrive", "queue.purge"]
    with pytest.raises(BadRequest, match="into itself"):
        await services.queues.redrive(PLATFORM, "default", "q", "q")


async def test_a_receiver_that_has_left_keeps_nothing(services: Services, scope: Scope) -> None:
    left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting = scope.start(services.queues.receive("default", "q", wait_s=LONG_S, left=left), "r")
    await services.idle()
    left.set_result(None)
    assert await waiting == []
    await services.send("a")
    assert await services.queues.receive("default", "q", left=left) == []
    assert (await services.queues.get_queue("default", "q"))[1].ready == 1


async def test_who_waits_is_sent_home_when_the_queue_goes_or_the_platform_stops(
    services: Services, scope: Scope
) -> None:
    gone = scope.start(services.receive(), "r")
    await services.idle()
    await services.queues.delete_queue(PLATFORM, "default", "q")
    with pytest.raises(NotFound):
        await gone
    await services.create()
    waiting = scope.start(services.receive(), "r")
    await services.idle()
    services.queues.close()
    assert await waiting == []
    assert await services.receive() == []


async def test_what_is_too_old_is_swept_away(services: Services) -> None:
    await services.create("o", fifo=True, retention_s=60)
    store = SqlQueues(services.database)
    await store.send("default", "o", [outgoing("1", group="g")], Quotas(), clock.wall_s() - 60)
    await services.send("2", to="o", group="g")
    assert await services.queues.sweep() == 1
    assert await services.receive(of="o", wait_s=0) == ["2"]
    assert services.queues.tallies["default", "o"].expired == 1
    assert {queue.name for queue in services.queues.held} == {"q", "o"}


async def test_topics_wake_receivers(services: Services, scope: Scope) -> None:
    await services.topics.put_topic(PLATFORM, "default", "t")
    await services.topics.subscribe(PLATFORM, "default", "t", "s", SubscriptionSpec(target="queue:q"))
    waiting = scope.start(services.receive(), "r")
    await services.idle()
    published = await services.topics.publish("default", "t", [outgoing("a")])
    assert (published.queues, await waiting) == ({"q": 1}, ["a"])


async def test_roles_bound_changes(services: Services) -> None:
    viewer = Principal(key_id="k", namespace="default", role="viewer")
    other = Principal(key_id="k", namespace="acme", role="admin")
    for who in (viewer, other):
        for change in (
            services.queues.put_queue(who, "default", "p", QueueSpec()),
            services.queues.delete_queue(who, "default", "q"),
            services.queues.redrive(who, "default", "q"),
            services.queues.purge(who, "default", "q"),
            services.topics.put_topic(who, "default", "t"),
            services.topics.delete_topic(who, "default", "t"),
            services.topics.subscribe(who, "default", "t", "s", SubscriptionSpec(target="queue:q")),
            services.topics.unsubscribe(who, "default", "t", "s"),
        ):
            with pytest.raises(Forbidden):
                await change


async def test_words_that_are_near_are_offered(services: Services) -> None:
    await services.create("orders")
    with pytest.raises(NotFound) as found:
        await services.queues.get_queue("default", "order")
    assert found.value.hint == "did you mean 'orders'?"


async def test_batches_have_bounds(services: Services) -> None:
    nothing: list[Outgoing] = []
    for wrong in (
        services.queues.send("default", "q", nothing),
        services.queues.send("default", "q", [outgoing("a")] * 101),
        services.queues.receive("default", "q", 0),
        services.queues.receive("default", "q", 101),
        services.queues.receive("default", "q", wait_s=61.0),
        services.queues.receive("default", "q", visibility_s=0.5),
        services.queues.settle("default", "q", []),
        services.queues.settle("default", "q", [Settling(receipt="1-1", hold_s=-1.0)]),
        services.topics.publish("default", "t", nothing),
    ):
        with pytest.raises(BadRequest):
            await wrong
