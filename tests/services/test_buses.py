"""Buses: rules that match, events that are taken, replays that go on after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from fuyun.base.tasks import Scope
from fuyun.domain.bus import Bus, Replay, Rule
from fuyun.domain.errors import BadRequest, Conflict, Forbidden, NotFound, PayloadTooLarge, Unavailable
from fuyun.domain.events import Event, Target
from fuyun.domain.tenants import Principal
from fuyun.domain.transforms import Transform
from fuyun.drivers.bus.archive import SqlBusArchive
from fuyun.drivers.bus.store import SqlBuses
from fuyun.drivers.catalog.tenants import SqlTenants
from fuyun.drivers.sql.outbox import outbox
from fuyun.drivers.sql.sqlite import Database
from fuyun.services import buses as module
from fuyun.services.buses import Buses
from fuyun.services.tenants import PLATFORM, Tenants

pytestmark = pytest.mark.anyio


@dataclass
class World:
    """A service over SQLite, and what it handed on. `broken` makes handing on fail."""

    buses: Buses
    database: Database
    sent: list[tuple[str, str, list[str]]] = field(default_factory=list)
    broken: list[Exception] = field(default_factory=list)

    async def posted(self) -> list[tuple[str, int]]:
        """Ids and hops of the events in the outbox."""
        query = select(outbox).order_by(outbox.c.number)
        rows = await self.database.read(lambda connection: connection.execute(query).all())
        return [(row.event.id, row.event.hops) for row in rows]

    async def replayed(self, state: str) -> Replay:
        """The newest replay, once it is `state`."""
        async with asyncio.timeout(30):
            while True:
                newest = (await self.buses.list_replays("default", "orders"))[0]
                if newest.state == state:
                    return newest
                await asyncio.sleep(0.005)


@asynccontextmanager
async def world(root: Path) -> AsyncIterator[World]:
    database = await Database.open(root / "fuyun.db")
    try:
        tenants = await Tenants.open(SqlTenants(database), root / "secret.key")
        found: list[World] = []

        async def send(namespace: str, target: Target, events: Sequence[Event]) -> None:
            if found[0].broken:
                raise found[0].broken.pop()
            found[0].sent.append((namespace, target.text, [event.id for event in events]))

        found.append(World(Buses(SqlBuses(database), SqlBusArchive(database), tenants, send), database))
        async with Scope("test", lambda _: None) as scope:
            await found[0].buses.open()
            await found[0].buses.start(scope)
            yield found[0]
    finally:
        await database.close()


def bus(**fields: Any) -> Bus:
    return Bus(**({"namespace": "default", "name": "orders", "created_s": 1.0} | fields))


def rule(name: str = "paid", **fields: Any) -> Rule:
    known = {"namespace": "default", "bus": "orders", "target": "queue:ship", "created_s": 1.0}
    return Rule(**(known | {"name": name} | fields))


def event(id_: str = "e-1", **fields: Any) -> Event:
    return Event(**({"id": id_, "source": "/shop", "type": "order.paid", "time_s": 1.0, "data": b'{"n": 7}'} | fields))


async def test_rules_take_what_passes_and_change_it(tmp_path: Path) -> None:
    async with world(tmp_path) as found:
        buses = found.buses
        await buses.put_bus(PLATFORM, bus())
        change = Transform(values={"n": "$.data.n"}, template={"order": "{n}"})
        await buses.put_rule(PLATFORM, rule("a", filter={"type": {"prefix": "order."}}, transform=change))
        await buses.put_rule(PLATFORM, rule("b", filter={"data.n": 8}, target="topic:eight"))
        await buses.put_rule(PLATFORM, rule("c", enabled=False))
        await buses.put_rule(PLATFORM, rule("d", target="function:f:live"))
        first, second = buses.match("default", "orders", event())
        assert first.event is not None
        assert (first.origin, first.target.text, first.event.data) == ("rule orders/a", "queue:ship", b'{"order":7}')
        assert (second.origin, second.target.text, second.event) == ("rule orders/d", "function:f:live", event())
        await buses.delete_rule(PLATFORM, "default", "orders", "d")
        assert buses.match("default", "orders", event(type="x")) == []
        assert buses.match("other", "orders", event()) == []
    async with world(tmp_path) as found:
        assert [one.origin for one in found.buses.match("default", "orders", event())] == ["rule orders/a"]
        await found.buses.delete_bus(PLATFORM, "default", "orders")
        assert found.buses.match("default", "orders", event()) == []


async def test_an_event_that_a_transform_fails_on_goes_on_as_it_is(tmp_path: Path) -> None:
    async with world(tmp_path) as found:
        await found.buses.put_bus(PLATFORM, bus())
        change = Transform(values={"all": "$.data"}, template=["{all}"] * 50)
        await found.buses.put_rule(PLATFORM, rule(transform=change))
        large = event(data=b'"' + b"x" * 100_000 + b'"')
        [taken] = found.buses.match("default", "orders", large)
        assert taken.event == large


async def test_publishing_is_whole_and_bounded(tmp_path: Path) -> None:
    async with world(tmp_path) as found:
        buses = found.buses
        await buses.put_bus(PLATFORM, bus())
        with pytest.raises(PayloadTooLarge):
            await buses.publish(
                PLATFORM, "default", "orders", [event("1"), event("2", data=b'"' + b"x" * 2**20 + b'"')]
            )
        with pytest.raises(BadRequest):
            await buses.publish(PLATFORM, "default", "orders", [event("1"), event("2", data=b"{")])
        with pytest.raises(NotFound):
            await buses.publish(PLATFORM, "default", "order", [event()])
        viewer = Principal(key_id="k", namespace="default", role="viewer")
        with pytest.raises(Forbidden):
            await buses.publish(viewer, "default", "orders", [event()])
        assert await found.posted() == []
        await buses.publish(PLATFORM, "default", "orders", [event("1"), event("2")])
        assert await found.posted() == [("1", 0), ("2", 0)]


async def test_what_is_wrong_with_a_rule_is_named(tmp_path: Path) -> None:
    async with world(tmp_path) as found:
        await found.buses.put_bus(PLATFORM, bus())
        for wrong, said in (
            (rule(filter={"type": {"prefx": "x"}}), "did you mean 'prefix'"),
            (rule(target="lambda:f"), "'lambda:f' is no target"),
            (rule(target="bus:orders"), "to that bus again"),
            (rule(transform=Transform(values={"n": "data.n"}, template="{n}")), "not a JSONPath query"),
            (rule(transform=Transform(template="{n}")), "{n} has no value"),
            (rule("Bad"), "'Bad' is not a valid rule name"),
        ):
            with pytest.raises(BadRequest) as refused:
                await found.buses.put_rule(PLATFORM, wrong)
            assert said in refused.value.detail
        with pytest.raises(NotFound) as missing:
            await found.buses.put_rule(PLATFORM, rule(bus="order"))
        assert missing.value.hint == "did you mean 'orders'?"


def replay(**fields: Any) -> Replay:
    known = {"id": "", "namespace": "default", "bus": "orders", "since_s": 0.0, "until_s": 1e11, "created_s": 0.0}
    return Replay(**(known | fields))


async def test_a_replay_goes_to_a_target_in_order_and_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REPLAYED", 2)
    monkeypatch.setattr(module, "_AGAIN_S", 0.0)
    async with world(tmp_path) as found:
        await found.buses.put_bus(PLATFORM, bus(archive_s=1e6))
        for count in range(5):
            await found.buses.publish(PLATFORM, "default", "orders", [event(f"e-{count}", type=f"t-{count % 2}")])
        found.broken += [Unavailable("busy")] * 3
        await found.buses.begin_replay(PLATFORM, replay(target="queue:again", filter={"type": "t-0"}))
        await found.replayed("done")
        assert found.sent == [("default", "queue:again", [f"e-{count}"]) for count in (0, 2, 4)]
        assert (await found.replayed("done")).sent == 3
        again = replay(id="1" * 32, target="queue:late", position=2)
        await SqlBusArchive(found.database).put_replay(again)
    async with world(tmp_path) as found:  # as after a crash in the middle of a replay
        await found.replayed("done")
        assert [ids for _, _, ids in found.sent] == [["e-2", "e-3"], ["e-4"]]


async def test_a_replay_to_the_rules_is_published_again(tmp_path: Path) -> None:
    async with world(tmp_path) as found:
        await found.buses.put_bus(PLATFORM, bus(archive_s=1e6))
        await found.buses.publish(PLATFORM, "default", "orders", [event("1"), event("2")])
        await found.buses.begin_replay(PLATFORM, replay())
        await found.replayed("done")
        assert await found.posted() == [("1", 0), ("2", 0), ("1", 1), ("2", 1)]
        archived = await found.buses.list_archive("default", "orders", 0.0, 1e11, 0, 10)
        assert len(archived) == 2, "what is replayed is not archived again"


async def test_a_replay_whose_target_is_gone_says_so_and_a_stopped_one_stops(tmp_path: Path) -> None:
    async with world(tmp_path) as found:
        buses = found.buses
        await buses.put_bus(PLATFORM, bus())
        with pytest.raises(Conflict):
            await buses.begin_replay(PLATFORM, replay())
        await buses.put_bus(PLATFORM, bus(archive_s=1e6))
        await buses.publish(PLATFORM, "default", "orders", [event()])
        with pytest.raises(BadRequest):
            await buses.begin_replay(PLATFORM, replay(since_s=5.0, until_s=5.0))
        found.broken.append(NotFound("there is no queue 'gone'"))
        await buses.begin_replay(PLATFORM, replay(target="queue:gone"))
        await found.replayed("failed")
        assert (await buses.list_replays("default", "orders"))[0].error == "there is no queue 'gone'"
        found.broken += [Unavailable("busy")] * 1000
        made = await buses.begin_replay(PLATFORM, replay(target="queue:busy"))
        assert (await buses.stop_replay(PLATFORM, "default", "orders", made.id)).state == "stopped"
        with pytest.raises(Conflict):
            await buses.stop_replay(PLATFORM, "default", "orders", made.id)
        with pytest.raises(NotFound):
            await buses.stop_replay(PLATFORM, "default", "orders", "0" * 32)
        assert found.sent == []
