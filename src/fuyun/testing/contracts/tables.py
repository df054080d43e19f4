"""What every store of tables keeps: `ports.tables.TableStore`, clause by clause."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fuyun.domain.errors import (
    BadRequest,
    Conflict,
    FuyunError,
    NotFound,
    PayloadTooLarge,
    PreconditionFailed,
    QuotaExceeded,
)
from fuyun.domain.streams import START, Record
from fuyun.domain.tables import Change, Changed, Condition, Index, Item, Query, TableSpec
from fuyun.domain.tenants import Namespace, Quotas
from fuyun.ports.streams import StreamStore
from fuyun.ports.tables import TableStore
from fuyun.ports.tenants import TenantStore
from fuyun.testing.contracts.samples import NOW_S, entry

QUOTAS = Quotas()
SPEC = TableSpec(
    partition_key="shop", sort_key="at", ttl="gone_s", feed_partitions=2,
    indexes=(Index(name="by-state", partition_key="state", sort_key="at"), Index(name="by-who", partition_key="who")),
)  # fmt: skip


@dataclass(frozen=True)
class TableStores:
    """The stores of one data directory."""

    tables: TableStore
    streams: StreamStore
    tenants: TenantStore

    async def write(self, *changes: Change, now_s: float = NOW_S, **fields: Any) -> tuple[Changed, ...]:
        """Change default/t."""
        return (await self.tables.write("default", "t", changes, QUOTAS, now_s, **fields)).changed

    async def put(self, *items: dict[str, Any]) -> None:
        """Put items into default/t, each by itself."""
        for item in items:
            await self.write(Change(put=item))

    async def find(self, now_s: float = NOW_S, **key: Any) -> Item | None:
        """An item of default/t."""
        return (await self.tables.find_items("default", "t", [key], now_s))[0]

    async def ask(self, now_s: float = NOW_S, **fields: Any) -> list[Any]:
        """`at` of the items of a query, page by page."""
        found: list[Any] = []
        query = Query(**fields)
        while True:
            page = await self.tables.query("default", "t", query, now_s)
            found += [one.item["at"] for one in page.items]
            if not page.after:
                return found
            query = msgspec.structs.replace(query, after=page.after)

    async def feed(self) -> list[tuple[str, dict[str, Any]]]:
        """Kind and data of the changes of default/t, partition by partition."""
        records: list[Record] = []
        for number in range(2):
            records += (await self.streams.read("default", "table.t", number, START, 10**6, 2**40)).records
        return [(one.event.type.rpartition(".")[2], msgspec.json.decode(one.event.data)) for one in records]


@pytest.mark.anyio
class TableStoreContract(ABC):
    """Subclass it with `open`."""

    @abstractmethod
    def open(self, folder: Path) -> AbstractAsyncContextManager[TableStores]:
        """The stores kept in `folder`; opening the same folder again finds what was written before."""

    async def test_a_table_is_made_with_its_feed_changed_and_deleted(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            made = await stores.tables.put("default", "t", SPEC, QUOTAS, NOW_S, entry=entry("make"))
            assert (made.spec, made.revision, made.items, made.bytes) == (SPEC, 1, 0, 0)
            feed, parts = await stores.streams.get("default", "table.t")
            assert (feed.spec.retention_s, len(parts)) == (86400.0, 2)
            for name in ("b", "a", "c"):
                await stores.tables.put("default", name, TableSpec(), QUOTAS, NOW_S)
            longer = msgspec.structs.replace(SPEC, feed_retention_s=0.0, description="x")
            changed = await stores.tables.put("default", "t", longer, QUOTAS, NOW_S, expected_revision=1)
            assert changed.revision == 2
            assert (await stores.streams.get("default", "table.t"))[0].spec.retention_s == 0
        async with self.open(tmp_path) as stores:
            assert await stores.tables.get("default", "t") == changed
            assert [one.name for one in await stores.tables.list_tables("default", "a", 2)] == ["b", "c"]
            await stores.put({"shop": "s", "at": 1, "state": "x"})
            await stores.tables.delete("default", "t", entry("drop"))
            for missing in (
                stores.tables.get("default", "t"), stores.streams.get("default", "table.t"),
                stores.tables.delete("default", "t", entry("no")), stores.write(Change(check={"shop": "s", "at": 1})),
            ):  # fmt: skip
                with pytest.raises(NotFound):
                    await missing
            assert [one.action for one in await stores.tenants.audit(None)] == ["make", "drop"]
            await stores.tables.put("default", "t", SPEC, QUOTAS, NOW_S)
            assert (await stores.find(shop="s", at=1), await stores.ask(), await stores.feed()) == (None, [], [])
            assert (await stores.tables.sweep(NOW_S))[0] == 2
            assert (await stores.tables.sweep(NOW_S))[0] == 0

    async def test_what_may_not_be_changes_nothing(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            tables = stores.tables
            await tables.put("default", "t", SPEC, QUOTAS, NOW_S)
            await stores.put({"shop": "s", "at": 1})
            large = {"shop": "s", "at": 2, "x": "x" * 500_000}
            narrow = Quotas(tables=1, table_bytes=30)
            refusals: list[tuple[Any, type[FuyunError]]] = [
                (tables.put("default", "t", SPEC, QUOTAS, NOW_S, expected_revision=0), PreconditionFailed),
                (tables.put("default", "u", SPEC, narrow, NOW_S, entry=entry("no")), QuotaExceeded),
                (tables.put("default", "t", msgspec.structs.replace(SPEC, sort_key=""), QUOTAS, NOW_S), Conflict),
                (tables.put("default", "t", msgspec.structs.replace(SPEC, indexes=()), QUOTAS, NOW_S), Conflict),
                (tables.write("default", "t", [Change(put={**large, "x": "x" * 40})], narrow, NOW_S), QuotaExceeded),
                (stores.write(Change(put=large)), PayloadTooLarge),
                (stores.write(Change(put={"shop": "s"})), BadRequest),
                (stores.write(Change(put={"shop": "s", "at": True})), BadRequest),
                (stores.write(Change(put={"shop": "s", "at": 2**60})), BadRequest),
                (stores.write(Change(put={"shop": "s", "at": 2, "who": [1]})), BadRequest),
                (stores.write(Change()), BadRequest),
                (stores.write(Change(put={"shop": "s", "at": 2}, delete={"shop": "s", "at": 2})), BadRequest),
                (stores.write(*[Change(delete={"shop": "s", "at": 1})] * 2), BadRequest),
                (stores.write(Change(update={"shop": "s", "at": 1}, set={"at": 2})), BadRequest),
                (stores.write(Change(check={"shop": "s", "at": 1}, condition=Condition(match={"a": {"b": 1}}))),
                 BadRequest),
                (stores.ask(index="none"), NotFound),
                (stores.ask(lower=3), BadRequest),
                (stores.ask(after=("x",)), BadRequest),
            ]  # fmt: skip
            for refused, error in refusals:
                with pytest.raises(error):
                    await refused
            assert (await stores.ask(), len(await stores.feed())) == ([1], 1)
            assert await stores.tenants.audit(None) == []

    async def test_an_item_is_kept_whole_and_its_versions_are_never_given_again(self, tmp_path: Path) -> None:
        item: dict[str, Any] = {
            "shop": "s \U0001f600",
            "at": 1.5,
            "x": [None, True, {"y": "z"}],
            "big": 2**62,
            "small": -0.25,
        }
        async with self.open(tmp_path) as stores:
            await stores.tables.put("default", "t", SPEC, QUOTAS, NOW_S)
            assert await stores.write(Change(put=item)) == (Changed(kind="insert", version=1, item=item),)
        async with self.open(tmp_path) as stores:
            assert await stores.find(NOW_S, shop=item["shop"], at=1.5) == Item(item=item, version=1)
            key = {"shop": item["shop"], "at": 1.5}
            assert [one.kind for one in await stores.write(Change(delete=key))] == ["delete"]
            assert await stores.write(Change(delete=key)) == (Changed(kind="none"),)
            assert (await stores.write(Change(put=item)))[0].version == 3
            table = await stores.tables.get("default", "t")
            assert (table.items, table.bytes > 50) == (1, True)
            await stores.write(Change(delete=key))
            assert (await stores.tables.get("default", "t")).bytes == 0

    async def test_an_update_sets_removes_and_adds(self, tmp_path: Path) -> None:
        key = {"shop": "s", "at": 1}
        async with self.open(tmp_path) as stores:
            await stores.tables.put("default", "t", SPEC, QUOTAS, NOW_S)
            [made] = await stores.write(Change(update=key, set={"a": 1}, add={"n": 2}))
            assert (made.kind, made.item) == ("insert", {**key, "a": 1, "n": 2})
            [made] = await stores.write(Change(update=key, set={"b": [2]}, remove=("a", "none"), add={"n": 0.5}))
            assert (made.kind, made.item) == ("update", {**key, "b": [2], "n": 2.5})
            with pytest.raises(BadRequest, match="nothing can be added"):
                await stores.write(Change(update=key, add={"b": 1}))
            await asyncio.gather(*(stores.write(Change(update=key, add={"n": 1})) for _ in range(20)))
            found = await stores.find(NOW_S, **key)
            assert found is not None
            assert found.item["n"] == 22.5

    async def test_conditions_decide(self, tmp_path: Path) -> None:
        key = {"shop": "s", "at": 1}
        async with self.open(tmp_path) as stores:
            await stores.tables.put("default", "t", SPEC, QUOTAS, NOW_S)
            await stores.put({**key, "stock": 3, "state": "open"})
            for condition, holds in (
                (Condition(exists=True), True), (Condition(exists=False), False), (Condition(version=1), True),
                (Condition(version=2), False), (Condition(match={"state": "open"}), True),
                (Condition(match={"stock": {"numeric": [">", 3]}}), False),
                (Condition(match={"any": [{"state": "shut"}, {"not": {"none": {"exists": True}}}]}), True),
                (Condition(version=1, match={"state": "shut"}), False),
            ):  # fmt: skip
                if holds:
                    [checked] = await stores.write(Change(check=key, condition=condition))
                    assert (checked.kind, checked.version) == ("none", 1)
                else:
                    with pytest.raises(Conflict) as refused:
                        await stores.write(Change(delete=key, condition=condition))
                    assert refused.value.fields == {"place": 0, "found": 1}
            absent = {"shop": "s", "at": 2}
            await stores.write(Change(check=absent, condition=Condition(exists=False, version=0)))
            with pytest.raises(Conflict):
                await stores.write(Change(put=absent, condition=Condition(match={"shop": "s"})))
            tries = [stores.write(Change(put=absent, condition=Condition(exists=False))) for _ in range(10)]
            done = await asyncio.gather(*tries, return_exceptions=True)
            assert sum(isinstance(one, Conflict) for one in done) == 9

    async def test_a_transaction_is_whole(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.tables.put("default", "t", SPEC, QUOTAS, NOW_S)
            await stores.put({"shop": "s", "at": 1, "n": 5}, {"shop": "s", "at": 2, "n": 5})

            def move(amount: int) -> tuple[Change, Change]:
                enough = Condition(match={"n": {"numeric": [">=", amount]}})
                return (
                    Change(update={"shop": "s", "at": 2}, add={"n": amount}),
                    Change(update={"shop": "s", "at": 1}, add={"n": -amount}, condition=enough),
                )

            done = await asyncio.gather(*(stores.write(*move(2)) for _ in range(5)), return_exceptions=True)
            refused = [one for one in done if isinstance(one, Conflict)]
            assert (len(refused), {one.fields["place"] for one in refused}) == (3, {1})
            sums = [(await stores.find(shop="s", at=at)) for at in (1, 2)]
            assert [one and one.item["n"] for one in sums] == [1, 9]
            assert len(await stores.feed()) == 6

    async def test_items_are_in_the_order_of_their_keys(self, tmp_path: Path) -> None:
        order: list[Any] = [-1e300, -2, -0.5, 0, 1e-300, 1, 1.5, 2**53, "A", "a", "aa", "ab", "b", "é", "\U0001f600"]
        async with self.open(tmp_path) as stores:
            await stores.tables.put("default", "t", SPEC, QUOTAS, NOW_S)
            await stores.put(*({"shop": "s", "at": at, "state": "x", "who": "w"} for at in reversed(order)))
            await stores.put({"shop": "r", "at": 7, "state": "y"}, {"shop": "t", "at": 8})
            for limit in (1, 4, 100):
                for index, partition in (("", "s"), ("by-state", "x"), ("by-who", "w")):
                    asked: dict[str, Any] = {"index": index, "partition": partition, "limit": limit}
                    assert await stores.ask(**asked) == order, (index, limit)
                    assert await stores.ask(**asked, descending=True) == order[::-1]
                    if index != "by-who":
                        assert await stores.ask(**asked, lower=0, upper="aa") == order[3:11]
                        assert await stores.ask(**asked, prefix="a") == ["a", "aa", "ab"]
                assert await stores.ask(limit=limit) == [7, *order, 8]
                assert await stores.ask(index="by-state", limit=limit) == [*order, 7], "only what has the attribute"
            assert await stores.ask(partition="none") == []

    async def test_indexes_follow_their_items(self, tmp_path: Path) -> None:
        key = {"shop": "s", "at": 1}
        async with self.open(tmp_path) as stores:
            await stores.tables.put("default", "t", SPEC, QUOTAS, NOW_S)
            await stores.put({**key, "state": "open", "who": "a"})
            await stores.write(Change(update=key, set={"state": "shut"}, remove=("who",)))
            found = [await stores.ask(index=i, partition=p) for i, p in
                     (("by-state", "open"), ("by-state", "shut"), ("by-who", "a"))]  # fmt: skip
            assert found == [[], [1], []]
            await stores.write(Change(delete=key))
            assert await stores.ask(index="by-state", partition="shut") == []

    async def test_the_feed_tells_every_change_in_order(self, tmp_path: Path) -> None:
        key = {"shop": "s", "at": 1}
        async with self.open(tmp_path) as stores:
            await stores.tables.put("default", "t", SPEC, QUOTAS, NOW_S)
            await stores.put({**key, "n": 1})
            written = await stores.tables.write(
                "default", "t", [Change(update=key, add={"n": 1}), Change(put={"shop": "u", "at": 9})], QUOTAS, NOW_S,
                hops=3, trail="first",
            )  # fmt: skip
            await stores.write(Change(delete=key))
            with pytest.raises(Conflict):
                await stores.write(Change(put=key), Change(delete={"shop": "q", "at": 1},
                                                           condition=Condition(exists=True)))  # fmt: skip
            own = [one for one in await stores.feed() if one[1]["key"] == key]
            one, two = {**key, "n": 1}, {**key, "n": 2}
            assert own == [
                ("insert", {"key": key, "new": one, "version": 1}),
                ("update", {"key": key, "old": one, "new": two, "version": 2}),
                ("delete", {"key": key, "old": two, "version": 4}),
            ]
            records: list[Record] = []
            for number in written.grown:
                records += (await stores.streams.read("default", "table.t", number, START)).records
            followed = [one.event for one in records if one.event.hops]
            assert [(event.hops, event.trail, event.source) for event in followed] == [
                (3, "first", "/default/table/t")
            ] * 2

    async def test_what_has_outlived_its_time_is_not_there(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.tables.put("default", "t", SPEC, QUOTAS, NOW_S)
            for at in range(10):
                await stores.put({"shop": "s", "at": at, "gone_s": NOW_S + at, "state": "x"})
            await stores.put({"shop": "s", "at": 99, "gone_s": "never", "state": "x"})
            later = NOW_S + 4
            assert await stores.find(later, shop="s", at=4) is None
            for asked in ({"partition": "s"}, {"index": "by-state", "partition": "x"}, {}):
                assert await stores.ask(later, **asked) == [5, 6, 7, 8, 9, 99]
            [changed] = await stores.write(
                Change(update={"shop": "s", "at": 0}, set={"state": "y"}, condition=Condition(exists=False)),
                now_s=later,
            )
            assert changed.kind == "insert"
            removed, grown = await stores.tables.sweep(later, 3)
            assert (removed, set(grown)) == (3, {("default", "t")})
            assert (await stores.tables.sweep(later, 3))[0] == 1
            assert (await stores.tables.sweep(later, 3)) == (0, {})
            gone = [data for kind, data in await stores.feed() if kind == "delete"]
            assert sorted(data["key"]["at"] for data in gone) == [0, 1, 2, 3, 4]
            assert all(data["expired"] and data["old"]["state"] == "x" for data in gone)
            assert (await stores.tables.get("default", "t")).items == 7

    async def test_a_namespace_takes_its_tables_with_it(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.tenants.create_namespace(Namespace(name="acme", created_s=NOW_S))
            await stores.tables.put("acme", "t", SPEC, QUOTAS, NOW_S)
            await stores.tables.write("acme", "t", [Change(put={"shop": "s", "at": 1})], QUOTAS, NOW_S)
            await stores.tenants.delete_namespace("acme")
            assert (await stores.tables.sweep(NOW_S))[0] == 1
            await stores.tenants.create_namespace(Namespace(name="acme", created_s=NOW_S))
            assert await stores.tables.list_tables("acme") == []
            await stores.tables.put("acme", "t", SPEC, QUOTAS, NOW_S)
