"""What every store of buses keeps: `ports.bus`, clause by clause."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fuyun.domain.bus import Bus, Replay, Rule
from fuyun.domain.errors import Conflict, NotFound, PreconditionFailed, QuotaExceeded
from fuyun.domain.events import Event
from fuyun.domain.tenants import Namespace, Quotas
from fuyun.domain.transforms import Transform
from fuyun.ports.bus import BusArchive, BusStore
from fuyun.ports.tenants import TenantStore
from fuyun.testing.contracts.samples import NOW_S, entry


@dataclass(frozen=True)
class BusStores:
    """What the suite needs. `posted()`: (namespace, kind, origin, event id) of all that is in the outbox, in order."""

    buses: BusStore
    archive: BusArchive
    tenants: TenantStore
    posted: Callable[[], Awaitable[list[tuple[str, str, str, str]]]]


def bus(name: str = "orders", namespace: str = "default", **fields: Any) -> Bus:
    """A bus that is nowhere."""
    return Bus(namespace=namespace, name=name, created_s=NOW_S, **fields)


def rule(name: str = "paid", of: str = "orders", **fields: Any) -> Rule:
    """A rule that is nowhere."""
    known = {"filter": {"type": "order.paid"}, "target": "queue:ship", "created_s": NOW_S}
    return Rule(**{"namespace": "default", "bus": of, "name": name, **known, **fields})


def event(id_: str = "e-1", **fields: Any) -> Event:
    """An event."""
    return Event(**{"id": id_, "source": "/shop", "type": "order.paid", "time_s": NOW_S, "data": b"{}", **fields})


def replay(id_: str = "r1", of: str = "orders", **fields: Any) -> Replay:
    """A replay of everything."""
    known = {"since_s": 0.0, "until_s": NOW_S * 2, "created_s": NOW_S, "target": "queue:again"}
    return Replay(**{"id": id_, "namespace": "default", "bus": of, **known, **fields})


def ids_of(events: Sequence[Event]) -> list[str]:
    """Their ids."""
    return [one.id for one in events]


@pytest.mark.anyio
class BusStoreContract(ABC):
    """Subclass it with `open`."""

    @abstractmethod
    def open(self, folder: Path) -> AbstractAsyncContextManager[BusStores]:
        """The stores over what is in `folder`."""

    async def test_buses_are_as_many_as_the_namespace_may_have(self, tmp_path: Path) -> None:
        few = Quotas(buses=2)
        async with self.open(tmp_path) as stores:
            await stores.tenants.create_namespace(Namespace(name="acme", created_s=NOW_S))
            for name in ("a", "b"):
                await stores.buses.put_bus(bus(name), quotas=few)
            with pytest.raises(QuotaExceeded) as refusal:
                await stores.buses.put_bus(bus("c"), entry("no"), quotas=few)
            assert refusal.value.fields["quota"] == "buses"
            assert [one.name for one in await stores.buses.list_buses("default")] == ["a", "b"]
            assert (await stores.buses.put_bus(bus("b"), quotas=few)).revision == 2, "what is there may be changed"
            await stores.buses.put_bus(bus("c", "acme"), quotas=few)

    async def test_a_bus_is_kept_and_changed_by_its_revision(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            made = await stores.buses.put_bus(bus(archive_s=60.0, description="ü"), entry("bus.create"), expect=0)
            assert made == bus(archive_s=60.0, description="ü", revision=1)
            with pytest.raises(Conflict):
                await stores.buses.put_bus(bus(), entry("no"), expect=0)
            changed = await stores.buses.put_bus(bus(), entry("bus.put"), expect=1)
            assert (changed.revision, changed.archive_s) == (2, 0.0)
            with pytest.raises(PreconditionFailed) as refused:
                await stores.buses.put_bus(bus(), entry("no"), expect=1)
            assert refused.value.fields["etag"] == '"2"'
            with pytest.raises(NotFound):
                await stores.buses.put_bus(bus("other"), entry("no"), expect=1)
            assert (await stores.buses.put_bus(bus())).revision == 3
            assert [one.action for one in await stores.tenants.audit(None)] == ["bus.create", "bus.put"]
        async with self.open(tmp_path) as stores:
            assert (await stores.buses.get_bus("default", "orders")).revision == 3

    async def test_lists_are_paged_and_a_namespace_has_its_own(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.tenants.create_namespace(Namespace(name="acme", created_s=NOW_S))
            for name in ("b", "a", "c"):
                await stores.buses.put_bus(bus(name))
            await stores.buses.put_bus(bus("a", "acme"))
            await stores.buses.put_rule(rule(of="a", namespace="acme"), 10)
            assert [one.name for one in await stores.buses.list_buses("default")] == ["a", "b", "c"]
            assert [one.name for one in await stores.buses.list_buses("default", "a", 1)] == ["b"]
            everything = await stores.buses.list_buses("*", "acme/a", 2)
            assert [(one.namespace, one.name) for one in everything] == [("default", "a"), ("default", "b")]
            assert await stores.buses.list_buses("nowhere") == []
            await stores.tenants.delete_namespace("acme")
            assert await stores.buses.list_rules("*", "*") == []

    async def test_a_rule_is_kept_whole(self, tmp_path: Path) -> None:
        made = rule(
            filter={"any": [{"type": {"prefix": "ä"}}, {"data.n": {"numeric": [">", 1]}}]}, enabled=False,
            transform=Transform(values={"id": "$.data.id"}, template={"n": [1, None, "{id}"]}), description="why",
        )  # fmt: skip
        async with self.open(tmp_path) as stores:
            await stores.buses.put_bus(bus())
            assert await stores.buses.put_rule(made, 10, expect=0) == made
            other = await stores.buses.put_rule(rule("a"), 10)
        async with self.open(tmp_path) as stores:
            assert await stores.buses.list_rules("default", "orders") == [other, made]
            assert await stores.buses.list_rules("*", "*") == [other, made]
            await stores.buses.delete_rule("default", "orders", "a", entry("rule.delete"))
            assert await stores.buses.list_rules("default", "orders") == [made]

    async def test_a_bus_has_so_many_rules_and_no_more(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.buses.put_bus(bus())
            for name in ("a", "b"):
                await stores.buses.put_rule(rule(name), 2)
            with pytest.raises(QuotaExceeded):
                await stores.buses.put_rule(rule("c"), 2, entry("no"))
            assert (await stores.buses.put_rule(rule("b", target="topic:t"), 2)).revision == 2
            assert [one.name for one in await stores.buses.list_rules("default", "orders")] == ["a", "b"]
            assert await stores.tenants.audit(None) == []

    async def test_what_is_published_is_in_the_outbox_and_the_archive(self, tmp_path: Path) -> None:
        sent = [
            event("e-1"),
            event("e-2", type="order.made", data=b"\xff", content_type="image/png", hops=2, trail="t"),
        ]
        async with self.open(tmp_path) as stores:
            await stores.buses.put_bus(bus(archive_s=60.0))
            await stores.buses.put_bus(bus("plain"))
            await stores.archive.publish("default", "orders", sent, NOW_S)
            await stores.archive.publish("default", "plain", [event("e-3")], NOW_S)
            await stores.archive.publish("default", "plain", [], NOW_S)
            with pytest.raises(NotFound):
                await stores.archive.publish("default", "absent", [event("e-4")], NOW_S)
        async with self.open(tmp_path) as stores:
            assert await stores.posted() == [
                ("default", "bus", "orders", "e-1"), ("default", "bus", "orders", "e-2"),
                ("default", "bus", "plain", "e-3"),
            ]  # fmt: skip
            kept = await stores.archive.read("default", "orders", 0.0, NOW_S + 1)
            assert [one.event for one in kept] == sent
            assert await stores.archive.read("default", "plain", 0.0, NOW_S + 1) == []

    async def test_the_archive_is_read_by_time_and_number_and_forgets(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.buses.put_bus(bus(archive_s=100.0))
            for count in range(5):
                await stores.archive.publish("default", "orders", [event(f"e-{count}")], NOW_S + count)
            found = await stores.archive.read("default", "orders", NOW_S + 1, NOW_S + 4)
            assert ids_of([one.event for one in found]) == ["e-1", "e-2", "e-3"]
            assert [one.at_s for one in found] == [NOW_S + 1, NOW_S + 2, NOW_S + 3]
            later = await stores.archive.read("default", "orders", 0.0, NOW_S + 9, found[0].number, 2)
            assert ids_of([one.event for one in later]) == ["e-2", "e-3"]
            assert await stores.archive.prune(NOW_S + 103, 2) == 2
            assert await stores.archive.prune(NOW_S + 103, 2) == 1
            assert await stores.archive.prune(NOW_S + 103, 2) == 0
            left = await stores.archive.read("default", "orders", 0.0, NOW_S + 9)
            assert ids_of([one.event for one in left]) == ["e-3", "e-4"]

    async def test_types_are_counted_with_the_last_as_a_sample(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.buses.put_bus(bus())
            await stores.archive.publish("default", "orders", [event("1"), event("2", type="a")], NOW_S)
            await stores.archive.publish("default", "orders", [event("3", data=b"[1]")], NOW_S + 5)
            first, second = await stores.archive.list_types("default", "orders")
            assert (first.type, first.count, first.sample.id) == ("a", 1, "2")
            assert (second.type, second.count, second.first_s, second.last_s) == ("order.paid", 2, NOW_S, NOW_S + 5)
            assert second.sample == event("3", data=b"[1]")
            assert await stores.archive.list_types("default", "orders", "a", 5) == [second]
            with pytest.raises(NotFound):
                await stores.archive.list_types("default", "absent")

    async def test_a_replay_goes_on_where_it_was_and_stays_stopped(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.buses.put_bus(bus())
            await stores.archive.put_replay(replay(), entry("replay"))
            await stores.archive.repeat(replay(sent=2, position=7), [event("e-1"), event("e-2")])
        async with self.open(tmp_path) as stores:
            assert await stores.archive.list_replays("*", "*") == [replay(sent=2, position=7)]
            assert [one[3] for one in await stores.posted()] == ["e-1", "e-2"]
            stopped = replay(sent=2, position=7, state="stopped")
            await stores.archive.put_replay(stopped)
            await stores.archive.repeat(replay(sent=3, position=8), [event("e-3")])
            assert await stores.archive.list_replays("default", "orders") == [stopped]
            assert await stores.archive.list_replays("*", "*") == []
            assert len(await stores.posted()) == 2
            await stores.archive.put_replay(replay("r2"))
            assert [one.id for one in await stores.archive.list_replays("default", "orders")] == ["r2", "r1"]
            with pytest.raises(NotFound):
                await stores.archive.put_replay(replay("r3", "absent"))

    async def test_a_deleted_bus_takes_all_of_it_but_what_was_published(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.buses.put_bus(bus(archive_s=60.0))
            await stores.buses.put_rule(rule(), 10)
            await stores.archive.publish("default", "orders", [event()], NOW_S)
            await stores.archive.put_replay(replay())
            await stores.buses.delete_bus("default", "orders", entry("bus.delete"))
            for missing in (
                stores.buses.get_bus("default", "orders"),
                stores.buses.delete_bus("default", "orders", entry("no")),
                stores.buses.list_rules("default", "orders"),
                stores.buses.put_rule(rule(), 10),
                stores.buses.delete_rule("default", "orders", "paid"),
                stores.archive.list_replays("default", "orders"),
            ):
                with pytest.raises(NotFound):
                    await missing
            assert len(await stores.posted()) == 1
            await stores.buses.put_bus(bus(archive_s=60.0))
            assert await stores.archive.read("default", "orders", 0.0, NOW_S + 1) == []
            assert await stores.archive.list_types("default", "orders") == []
            assert await stores.buses.list_rules("default", "orders") == []
            with pytest.raises(NotFound):
                await stores.buses.delete_rule("default", "orders", "paid")

    async def test_values_come_back_as_they_were(self, tmp_path: Path) -> None:
        odd = event("\U0001f600", subject="a b", extensions={"x": "ü"}, data=msgspec.json.encode({"n": 1.5}))
        async with self.open(tmp_path) as stores:
            await stores.buses.put_bus(bus(archive_s=1e7))
            await stores.archive.publish("default", "orders", [odd], NOW_S)
        async with self.open(tmp_path) as stores:
            [found] = await stores.archive.read("default", "orders", 0.0, NOW_S + 1)
            assert found.event == odd
