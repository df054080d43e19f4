"""Streams and groups beside a model in memory: whatever is done in whatever order, both hold the same."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fuyun.domain.errors import BadRequest, Conflict
from fuyun.domain.streams import START, Appended, Appending, Position, StreamSpec, at_offset, partition_of
from fuyun.domain.tenants import Quotas
from fuyun.drivers.catalog.tables import namespaces
from fuyun.drivers.streams.groups import SqlGroups
from fuyun.drivers.streams.store import SqlStreams
from fuyun.testing.contracts.samples import NOW_S
from fuyun.testing.contracts.streams import record
from fuyun.testing.databases import InlineDatabase

assert namespaces is not None  # its table is one of those that a database in memory has
T = TypeVar("T")
_count = itertools.count()


@functools.cache
def shared() -> InlineDatabase:
    """One for all examples: statements are compiled once."""
    return InlineDatabase(0.0)


PARTITIONS, KEPT_S = 2, 20.0
KEYS = st.sampled_from("abcd")
GROUPS = st.sampled_from(["g", "h"])
NUMBERS = st.integers(0, PARTITIONS - 1)


class StreamMachine(RuleBasedStateMachine):
    """A versioned stream of two partitions that keeps its records for twenty seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        database: Any = shared()
        self.name = f"s{next(_count)}"
        self.streams, self.groups = SqlStreams(database), SqlGroups(database)
        self.now_s = NOW_S
        self.kept: list[list[tuple[int, str, str, int, float]]] = [[] for _ in range(PARTITIONS)]
        self.ends = [0] * PARTITIONS
        self.versions: dict[str, int] = {}
        self.producers: dict[str, tuple[int, list[Appended]]] = {}
        self.cursors: dict[tuple[str, int], tuple[int, int]] = {}  # offset, epoch
        self.texts = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.run(self.streams.delete("default", self.name))
        self.loop.close()

    @initialize()
    def create(self) -> None:
        spec = StreamSpec(partitions=PARTITIONS, versioned=True, retention_s=KEPT_S)
        self.run(self.streams.put("default", self.name, spec, Quotas(), self.now_s))

    @rule(seconds=st.integers(1, 15))
    def pass_time(self, seconds: int) -> None:
        self.now_s += seconds

    @rule(
        wanted=st.lists(st.tuples(KEYS, st.sampled_from([None, 0, 1])), min_size=1, max_size=4),
        producer=st.sampled_from(["", "p", "q"]), sequence=st.integers(1, 3),
    )  # fmt: skip
    def append(self, wanted: list[tuple[str, int | None]], producer: str, sequence: int) -> None:
        """`None` expects nothing, 0 what the key is at, 1 something else."""
        versions = dict(self.versions)
        records: list[Appending] = []
        made: list[Appended] = []
        ends = list(self.ends)
        wrong = False
        for key, off in wanted:
            at = versions.get(key, 0)
            self.texts += 1
            records.append(record(str(self.texts), key, expected=None if off is None else at + off))
            wrong = wrong or off == 1
            versions[key] = at + 1
            number = partition_of(key, PARTITIONS)
            made.append(Appended(partition=number, offset=ends[number], version=at + 1))
            ends[number] += 1
        last, answer = self.producers.get(producer, (0, []))
        work = self.streams.append(
            "default", self.name, records, Quotas(), self.now_s, producer=producer, sequence=sequence
        )
        if producer and sequence == last:
            assert self.run(work) == answer
        elif wrong or (producer and sequence < last):
            try:
                self.run(work)
            except Conflict:
                return
            raise AssertionError("it was taken")
        else:
            assert self.run(work) == made
            self.versions, self.ends = versions, ends
            for one, place in zip(records, made, strict=True):
                kept = (place.offset, one.key, one.event.data.decode(), place.version, self.now_s)
                self.kept[place.partition].append(kept)
            if producer:
                self.producers[producer] = (sequence, made)

    @rule(most=st.integers(1, 5))
    def trim(self, most: int) -> None:
        while self.run(self.streams.trim(self.now_s, most)):
            pass
        self.kept = [[one for one in kept if one[4] >= self.now_s - KEPT_S] for kept in self.kept]

    def start(self, number: int) -> int:
        return self.kept[number][0][0] if self.kept[number] else self.ends[number]

    @rule(group=GROUPS, number=NUMBERS)
    def claim(self, group: str, number: int) -> None:
        found = self.run(self.groups.claim("default", self.name, group, number, "me", START, self.now_s))
        # What trimming has not removed yet is kept.
        offset, epoch = self.cursors.get((group, number), (found.offset, 0))
        assert (found.offset, found.epoch) == (offset, epoch + 1)
        assert found.offset <= self.start(number) or (group, number) in self.cursors
        self.cursors[group, number] = (found.offset, epoch + 1)

    @rule(group=GROUPS, number=NUMBERS, stale=st.booleans(), step=st.integers(-1, 3))
    def commit(self, group: str, number: int, stale: bool, step: int) -> None:
        if (group, number) not in self.cursors:
            return
        offset, epoch = self.cursors[group, number]
        to = max(0, offset + step)
        work = self.groups.commit("default", self.name, group, number, epoch - stale, to, self.now_s)
        refused: tuple[type[Exception], ...] = (Conflict,) if stale else (BadRequest,)
        if stale or not offset <= to <= self.ends[number]:
            try:
                self.run(work)
            except refused:
                return
            raise AssertionError("it was committed")
        self.run(work)
        self.cursors[group, number] = (to, epoch)

    @rule(group=GROUPS, to=st.sampled_from(["start", "end"]))
    def reset(self, group: str, to: Any) -> None:
        for found in self.run(self.groups.reset("default", self.name, group, Position(where=to), self.now_s)):
            _, epoch = self.cursors.get((group, found.partition), (0, 0))
            assert found.epoch == epoch + 1
            end = self.ends[found.partition]
            assert found.offset <= self.start(found.partition) if to == "start" else found.offset == end
            self.cursors[group, found.partition] = (found.offset, epoch + 1)

    @rule(number=NUMBERS, back_s=st.integers(0, 30))
    def read_from_a_time(self, number: int, back_s: int) -> None:
        at = Position(where="time", value=self.now_s - back_s)
        found = self.run(self.streams.read("default", self.name, number, at, 1000)).records
        assert all(one.at_s >= at.value for one in found)
        newer = [one[0] for one in self.kept[number] if one[4] >= at.value]
        assert [one.offset for one in found][-len(newer) or len(found) :] == newer

    @rule(key=KEYS, after=st.integers(0, 5))
    def read_a_key(self, key: str, after: int) -> None:
        found = self.run(self.streams.read_key("default", self.name, key, after, 1000))
        known = [one[3] for one in self.kept[partition_of(key, PARTITIONS)] if one[1] == key and one[3] > after]
        numbers = [one.version for one in found]
        assert numbers[len(numbers) - len(known) :] == known
        assert numbers == sorted(set(numbers))

    @invariant()
    def holds_the_same(self) -> None:
        for number in range(PARTITIONS):
            found = self.run(self.streams.read("default", self.name, number, at_offset(self.start(number)), 1000))
            records = [(one.offset, one.key, one.event.data.decode(), one.version, one.at_s) for one in found.records]
            assert records == self.kept[number]
            assert found.end == self.ends[number]
        cursors = self.run(self.groups.list_cursors("default", self.name))
        assert {(name, one.partition): (one.offset, one.epoch) for name, one in cursors} == self.cursors
        stream, parts = self.run(self.streams.get("default", self.name))
        assert stream.bytes == sum(part.bytes for part in parts)
        assert all((part.bytes == 0) == (part.start == part.end) for part in parts)


TestStreams = StreamMachine.TestCase
TestStreams.settings = settings(max_examples=12, stateful_step_count=20, deadline=None, derandomize=True)
