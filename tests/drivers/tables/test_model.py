"""Tables beside a model in memory: whatever is done in whatever order, both hold the same, and so does their feed."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fuyun.domain.errors import Conflict
from fuyun.domain.streams import START
from fuyun.domain.tables import Change, Condition, Index, Query, TableSpec
from fuyun.domain.tenants import Quotas
from fuyun.drivers.catalog.tables import namespaces
from fuyun.drivers.streams.store import SqlStreams
from fuyun.drivers.tables.store import SqlTables
from fuyun.testing.contracts.samples import NOW_S
from fuyun.testing.databases import InlineDatabase

assert namespaces is not None  # its table is one of those that a database in memory has
T = TypeVar("T")
_count = itertools.count()


@functools.cache
def shared() -> InlineDatabase:
    """One for all examples: statements are compiled once."""
    return InlineDatabase(0.0)


SPEC = TableSpec(
    partition_key="p", sort_key="s", ttl="until", feed_partitions=2,
    indexes=(Index(name="by-color", partition_key="color", sort_key="n"),),
)  # fmt: skip
KEYS = st.tuples(st.sampled_from(["x", "y"]), st.sampled_from([-1, 0, 0.5, "a"]))
CHANGES = st.tuples(
    KEYS, st.sampled_from(["put", "update", "delete", "check"]), st.sampled_from(["red", "blue", None]),
    st.sampled_from([None, 5, 50]), st.sampled_from([None, "exists", "absent", "version", "stale", "red"]),
)  # fmt: skip
Doc = dict[str, Any]


class TableMachine(RuleBasedStateMachine):
    """A table with an index and a time to live."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        database: Any = shared()
        self.name = f"t{next(_count)}"
        self.tables, self.streams = SqlTables(database), SqlStreams(database)
        self.now_s = NOW_S
        self.held: dict[tuple[Any, Any], Doc] = {}  # expired ones, too, until they are removed
        self.changes = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.run(self.tables.delete("default", self.name))
        self.loop.close()

    @initialize()
    def create(self) -> None:
        self.run(self.tables.put("default", self.name, SPEC, Quotas(), self.now_s))

    def live(self, held: dict[tuple[Any, Any], Doc]) -> dict[tuple[Any, Any], Doc]:
        return {key: one for key, one in held.items() if one.get("until", self.now_s + 1) > self.now_s}

    @rule(seconds=st.integers(1, 10))
    def pass_time(self, seconds: int) -> None:
        self.now_s += seconds

    @rule(wanted=st.lists(CHANGES, min_size=1, max_size=4, unique_by=lambda one: one[0]))
    def write(self, wanted: list[tuple[tuple[Any, Any], str, Any, Any, Any]]) -> None:
        held, sent, holds = dict(self.held), [], True
        found = self.run(self.tables.find_items("default", self.name, [_key(one[0]) for one in wanted], self.now_s))
        for (key, kind, color, until, demand), item in zip(wanted, found, strict=True):
            version = item.version if item is not None else 0
            condition, fits = self._demand(demand, self.live(held).get(key), version)
            holds = holds and fits
            fields: Doc = {**({"color": color} if color else {}), **({"until": self.now_s + until} if until else {})}
            if kind == "put":
                sent.append(Change(put={**_key(key), "n": 1, **fields}, condition=condition))
                held[key] = {**_key(key), "n": 1, **fields}
            elif kind == "update":
                sent.append(Change(update=_key(key), set=fields, add={"n": 1}, condition=condition))
                before = self.live(held).get(key, _key(key))
                held[key] = {**before, **fields, "n": before.get("n", 0) + 1}
            elif kind == "delete":
                sent.append(Change(delete=_key(key), condition=condition))
                held.pop(key, None)
            else:
                sent.append(Change(check=_key(key), condition=condition))
                if key not in self.live(held):
                    held.pop(key, None)
        work = self.tables.write("default", self.name, sent, Quotas(), self.now_s)
        if holds:
            self.run(work)
            self.held = held
            return
        try:
            self.run(work)
        except Conflict:
            return
        raise AssertionError("it was taken")

    def _demand(self, demand: Any, item: Doc | None, version: int) -> tuple[Condition | None, bool]:
        match demand:
            case "exists":
                return Condition(exists=True), item is not None
            case "absent":
                return Condition(exists=False), item is None
            case "version":
                return Condition(version=version), True
            case "stale":
                return Condition(version=version + 1), False
            case "red":
                return Condition(match={"color": "red"}), item is not None and item.get("color") == "red"
        return None, True

    @rule(most=st.integers(1, 3))
    def sweep(self, most: int) -> None:
        while self.run(self.tables.sweep(self.now_s, most))[0]:
            pass
        self.held = self.live(self.held)

    @rule(limit=st.integers(1, 4), descending=st.booleans())
    def query_the_index(self, limit: int, descending: bool) -> None:
        for color in ("red", "blue"):
            known = [one for one in self.live(self.held).values() if one.get("color") == color]
            found = self.ask(index="by-color", partition=color, limit=limit, descending=descending)
            numbers = [one["n"] for one in found]
            assert numbers == sorted(numbers, reverse=descending)
            assert _sorted(found) == _sorted(known)

    def ask(self, **fields: Any) -> list[Doc]:
        query, found = Query(**fields), []
        while True:
            page = self.run(self.tables.query("default", self.name, query, self.now_s))
            found += [one.item for one in page.items]
            if not page.after:
                return found
            query = msgspec.structs.replace(query, after=page.after)

    @invariant()
    def holds_the_same(self) -> None:
        assert _sorted(self.ask(limit=3)) == _sorted(self.live(self.held).values())

    @invariant()
    def the_feed_leads_to_the_same(self) -> None:
        replayed: dict[str, Doc] = {}
        versions: list[int] = []
        for number in range(2):
            for record in self.run(
                self.streams.read("default", f"table.{self.name}", number, START, 10**6, 2**40)
            ).records:
                told = msgspec.json.decode(record.event.data)
                assert told.get("old") == replayed.get(record.key), "each tells what was there before"
                versions.append(told["version"])
                replayed.pop(record.key, None)
                if "new" in told:
                    replayed[record.key] = told["new"]
        assert _sorted(replayed.values()) == _sorted(self.held.values())
        assert sorted(versions) == list(range(1, len(versions) + 1)), "every change has a version of its own"
        table = self.run(self.tables.get("default", self.name))
        assert (table.items, table.bytes == 0) == (len(self.held), not self.held)


def _key(key: tuple[Any, Any]) -> Doc:
    return {"p": key[0], "s": key[1]}


def _sorted(items: Any) -> list[str]:
    return sorted(msgspec.json.encode(dict(sorted(one.items()))).decode() for one in items)


TestTables = TableMachine.TestCase
TestTables.settings = settings(max_examples=12, stateful_step_count=20, deadline=None, derandomize=True)
