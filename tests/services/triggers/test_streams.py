"""Triggers of streams and tables, in virtual time: order, batches, retries, dead letters, and who holds a partition."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fuyun.base import clock
from fuyun.domain.errors import FunctionRaised, StorageFull, Throttled
from fuyun.domain.events import MOST_HOPS
from fuyun.domain.streams import START, NewRecord
from fuyun.domain.tables import Change
from fuyun.ports.deliveries import DeliveryQuery
from fuyun.services.tenants import PLATFORM
from fuyun.testing.hosts import FakeCall
from tests.services.streaming import Streaming, event, play

GROUP = "trigger.f.stream"


def raised() -> FunctionRaised:
    return FunctionRaised("ValueError: no")


def test_records_come_in_batches_in_order_and_the_cursor_follows() -> None:
    async def scene(s: Streaming) -> None:
        await s.create()
        await s.append("before")
        await s.deploy(batch_size=3)
        await s.append(*range(7), key="k")
        await asyncio.sleep(1)
        assert s.data() == [[0, 1, 2], [3, 4, 5], [6]]
        first = s.seen[0][0]
        assert (first["type"], first["partitionkey"], first["source"]) == (
            "fuyun.stream.record", "k", "/default/stream/s",
        )  # fmt: skip
        assert first["sequence"] == "00-000000000000001"
        assert await s.offsets() == {GROUP: [8]}
        [gauge] = s.pollers.gauges()
        assert (gauge.lag, gauge.age_s) == (0, 0.0)
        assert s.batches.outcomes == {("default", "f", "succeeded"): 7}

    play(scene)


def test_it_begins_where_its_policy_says() -> None:
    async def scene(s: Streaming) -> None:
        await s.create()
        await s.append("old")
        await asyncio.sleep(100)
        await s.append("newer")
        await s.deploy("all", start="start")
        await s.deploy("none", start="end")
        await s.deploy("some", start="2027-01-15T08:00:50Z")  # virtual time begins at 08:00:00
        await asyncio.sleep(1)
        assert s.data() in ([["old", "newer"], ["newer"]], [["newer"], ["old", "newer"]])

    play(scene)


def test_a_window_fills_a_batch_and_ends_it() -> None:
    async def scene(s: Streaming) -> None:
        await s.create()
        await s.deploy(batch_size=4, batch_window_s=10.0)
        await asyncio.sleep(1)
        for value in range(6):
            await s.append(value)
            await asyncio.sleep(1)
        assert s.data() == [[0, 1, 2, 3]], "a full one goes at once"
        await asyncio.sleep(10)
        assert s.data() == [[0, 1, 2, 3], [4, 5]]

    play(scene)


def test_a_filter_leaves_records_out_and_the_cursor_passes_them() -> None:
    async def scene(s: Streaming) -> None:
        await s.create()
        await s.deploy(filter={"data.n": {"numeric": [">", 2]}})
        await s.append(*({"n": n} for n in range(6)))
        await asyncio.sleep(1)
        assert s.data() == [[{"n": 3}, {"n": 4}, {"n": 5}]]
        await s.append({"n": 0})
        await asyncio.sleep(1)
        assert await s.offsets() == {GROUP: [7]}

    play(scene)


def test_a_failure_holds_its_partition_back_and_no_other() -> None:
    async def scene(s: Streaming) -> None:
        await s.create(partitions=2)
        failures = [4]

        def handler(call: FakeCall) -> None:
            if "bad" in s.record(call) and failures[0] > 0:
                failures[0] -= 1
                call.fail(raised())
            else:
                call.answer()

        s.events.handler = handler
        await s.deploy(max_attempts=10, batch_size=1)
        await s.streams.send("default", "s", "", [event("bad", subject="a"), event("next", subject="a")])
        await s.streams.send("default", "s", "", [event("fine", subject="d")])  # a and d are in different partitions
        await asyncio.sleep(0.4)
        assert sorted(map(str, s.data())) == ["['bad']", "['fine']"]
        assert await s.offsets() == {GROUP: [0, 1]} or await s.offsets() == {GROUP: [1, 0]}
        await asyncio.sleep(60)
        assert [batch for batch in s.data() if batch != ["fine"]] == [["bad"]] * 5 + [["next"]]

    play(scene)


def test_what_is_given_up_is_a_dead_letter_before_the_cursor_moves() -> None:
    async def scene(s: Streaming) -> None:
        await s.create()
        s.events.handler = lambda call: call.fail(raised())
        await s.deploy(max_attempts=2, batch_size=2)
        await s.append("a", "b")
        await asyncio.sleep(30)
        assert await s.offsets() == {GROUP: [2]}
        dead = await s.events.list(states=("failed",))
        assert [(one.target, one.error, one.origin) for one in dead] == [
            ("function:f", "function_raised", "trigger f/stream")
        ] * 2
        s.events.handler = s.take_all
        query = DeliveryQuery(namespace="default", states=("failed",))
        assert len(await s.events.store.redrive(query, clock.wall_s())) == 2
        await s.restart()
        await asyncio.sleep(1)
        assert sorted(s.data()) == [["a"], ["b"]], "driven again, each is a batch of one"

    play(scene)


def test_a_dead_letter_target_is_told_what_and_why() -> None:
    async def scene(s: Streaming) -> None:
        await s.create()
        s.events.handler = lambda call: call.fail(raised())
        await s.deploy(max_attempts=1, dead_letter="queue:dead")
        await s.append({"n": 1}, key="k")
        await asyncio.sleep(10)
        [(namespace, name, told)] = s.events.sent
        data = json.loads(told.data)
        assert (namespace, name, told.type) == ("default", "dead", "fuyun.delivery.failed")
        assert (data["error"]["code"], data["request"]["data"]) == ("function_raised", {"n": 1})

    play(scene)


def test_bisecting_finds_the_record_that_fails() -> None:
    async def scene(s: Streaming) -> None:
        await s.create()
        taken: list[Any] = []

        def handler(call: FakeCall) -> None:
            batch = s.record(call)
            if 5 in batch:
                return call.fail(raised())
            taken.extend(batch)
            call.answer()

        s.events.handler = handler
        await s.deploy(batch_size=8, bisect=True, max_attempts=3)
        await s.append(*range(8))
        await asyncio.sleep(120)
        assert taken == [0, 1, 2, 3, 4, 6, 7]
        dead = await s.events.list(states=("failed",))
        assert len(dead) == 1
        assert await s.offsets() == {GROUP: [8]}

    play(scene)


def test_a_part_of_a_batch_may_fail() -> None:
    """What stands before the first that failed is done; that one and what is behind it come again."""

    async def scene(s: Streaming) -> None:
        await s.create()
        tries = [0]

        def handler(call: FakeCall) -> None:
            batch = s.record(call)
            if 2 in batch and tries[0] < 2:
                tries[0] += 1
                named = next(one for one in s.seen[-1] if one["data"] == 2)
                return call.answer(
                    {"batchItemFailures": [{"itemIdentifier": named["sequence" if tries[0] == 1 else "id"]}]}
                )
            call.answer({"batchItemFailures": []})

        s.events.handler = handler
        await s.deploy(batch_size=4, max_attempts=3)
        await s.append(*range(4))
        await asyncio.sleep(60)
        assert s.data() == [[0, 1, 2, 3], [2, 3], [2, 3]]
        assert (await s.offsets(), await s.events.list()) == ({GROUP: [4]}, [])

    play(scene)


def test_throttles_do_not_count_as_attempts() -> None:
    async def scene(s: Streaming) -> None:
        await s.create()
        left = [9]

        def handler(call: FakeCall) -> None:
            left[0] -= 1
            call.fail(Throttled("busy")) if left[0] > 0 else s.take_all(call)

        s.events.handler = handler
        await s.deploy(max_attempts=1)
        await s.append("a")
        await asyncio.sleep(600)
        assert (s.data(), await s.events.list()) == ([["a"]], [])

    play(scene)


def test_lanes_of_one_partition_keep_the_order_of_each_key() -> None:
    async def scene(s: Streaming) -> None:
        await s.create()
        inside: list[FakeCall] = []
        s.events.handler = inside.append
        await s.deploy(batch_size=2, parallelism=4)
        pairs = [(f"{key}{turn}", key) for turn in range(2) for key in "abcdefgh"]
        await s.streams.append_new("default", "s", [NewRecord(data=text, key=key) for text, key in pairs])
        await asyncio.sleep(0.1)
        assert len(inside) > 1, "several batches at once"
        assert await s.offsets() == {GROUP: [0]}
        order: list[str] = []
        while inside:
            call = inside.pop(0)
            order += s.record(call)
            call.answer()
            await asyncio.sleep(0.1)
        assert all(order.index(f"{key}0") < order.index(f"{key}1") for key in "abcdefgh")
        assert await s.offsets() == {GROUP: [16]}

    play(scene)


def test_a_reset_plays_records_again_and_the_old_holder_cannot_commit() -> None:
    async def scene(s: Streaming) -> None:
        await s.create()
        inside: list[FakeCall] = []
        s.events.handler = inside.append
        await s.deploy()
        await s.append("a", "b")
        await asyncio.sleep(1)
        await s.streams.reset(PLATFORM, "default", "s", GROUP, START)
        s.events.handler = s.take_all
        inside[0].answer()
        await asyncio.sleep(1)
        assert (s.data(), await s.offsets()) == ([["a", "b"]], {GROUP: [2]}), "its commit was refused"
        await s.streams.reset(PLATFORM, "default", "s", GROUP, START)
        await s.append("c")
        await asyncio.sleep(1)
        assert s.data() == [["a", "b"], ["a", "b", "c"]]

    play(scene)


def test_a_restart_in_the_middle_repeats_the_batch() -> None:
    async def scene(s: Streaming) -> None:
        await s.create()
        inside: list[FakeCall] = []
        s.events.handler = inside.append
        await s.deploy(batch_size=2)
        await s.append(*range(4))
        await asyncio.sleep(1)
        await s.restart()
        s.events.handler = s.take_all
        await asyncio.sleep(1)
        assert s.data() == [[0, 1], [2, 3]]

    play(scene)


def test_paused_and_changed_triggers_end_their_batch_first() -> None:
    async def scene(s: Streaming) -> None:
        await s.create()
        inside: list[FakeCall] = []
        s.events.handler = inside.append
        await s.deploy(batch_size=1)
        await s.append("a", "b", "c")
        await asyncio.sleep(1)
        s.events.path.bindings.pause(("default", "f", "stream"), True)
        await asyncio.sleep(1)
        inside.pop().answer()
        await asyncio.sleep(1)
        assert (inside, await s.offsets()) == ([], {GROUP: [1]})
        s.events.path.bindings.pause(("default", "f", "stream"), False)
        await asyncio.sleep(1)
        await s.deploy(batch_size=10)
        s.events.handler = s.take_all
        await asyncio.sleep(1)
        assert s.data() == [], "the batch of one is inside still"
        inside.pop().answer()
        await asyncio.sleep(1)
        assert (s.data(), await s.offsets()) == ([["c"]], {GROUP: [3]})

    play(scene)


def test_streams_may_come_after_their_triggers_and_go_before_them() -> None:
    async def scene(s: Streaming) -> None:
        await s.deploy(start="start")
        await asyncio.sleep(1)
        await s.create()
        await s.append("a")
        await asyncio.sleep(1)
        await s.streams.delete(PLATFORM, "default", "s")
        await asyncio.sleep(100)
        assert s.pollers.gauges() == []
        await s.create(partitions=2)
        await s.append("b", key="a")
        await s.append("b", key="d")
        await asyncio.sleep(1)
        assert s.data() == [["a"], ["b"], ["b"]]

    play(scene)


def test_a_full_disk_holds_the_cursor_until_there_is_room() -> None:
    async def scene(s: Streaming) -> None:
        await s.create()
        await s.deploy()
        await s.append("a")
        s.events.database.failing = StorageFull("full")
        await asyncio.sleep(10)
        assert s.data()
        s.events.database.failing = None
        await asyncio.sleep(10)
        assert set(map(str, s.data())) == {"['a']"}
        assert await s.offsets() == {GROUP: [1]}

    play(scene)


def test_a_circle_is_cut_off() -> None:
    async def scene(s: Streaming) -> None:
        await s.create()
        await s.deploy()
        await s.streams.send("default", "s", "", [event("far", hops=MOST_HOPS, trail="0"), event("near")])
        await asyncio.sleep(1)
        assert s.data() == [["near"]]
        [dead] = await s.events.list()
        assert (dead.state, dead.error, dead.trail) == ("failed", "loop_detected", "0")

    play(scene)


def test_changes_of_a_table_arrive_in_the_order_of_each_key() -> None:
    async def scene(s: Streaming) -> None:
        await s.create_table(ttl="until")
        await s.deploy(table=True, source="t", filter={"type": {"anything-but": "fuyun.table.none"}})
        for n in range(3):
            for key in ("a", "b", "c"):
                await s.write(Change(update={"id": key}, set={"n": n}))
        await s.write(Change(delete={"id": "a"}))
        await s.write(Change(update={"id": "b"}, set={"until": 0}))
        await s.tables.sweep()
        await asyncio.sleep(1)
        told: dict[str, list[Any]] = {}
        for batch in s.seen:
            for one in batch:
                kind = one["type"].rpartition(".")[2]
                told.setdefault(one["data"]["key"]["id"], []).append((kind, one["data"].get("new", {}).get("n")))
        grown = [("insert", 0), ("update", 1), ("update", 2)]
        assert told == {"a": [*grown, ("delete", None)], "b": [*grown, ("update", 2), ("delete", None)], "c": grown}

    play(scene)
