"""Queue triggers, in virtual time: batches, order, retries by class, partial failures, bisecting, dead letters."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from fuyun.decide.batches import named_failures
from fuyun.domain.errors import BadRequest, FunctionRaised, FuyunError, StorageFull, Throttled, Unavailable
from fuyun.domain.events import MOST_HOPS, Event, target_of
from fuyun.domain.queues import Outgoing
from fuyun.domain.topics import SubscriptionSpec
from fuyun.domain.triggers import QueueTrigger, Trigger
from fuyun.services.tenants import PLATFORM
from fuyun.testing.hosts import FakeCall
from tests.services.messages import Messages, ids_of, numbered, run


def record(m: Messages) -> list[list[str]]:
    """Answer every call; the ids of each."""
    seen: list[list[str]] = []

    def handler(call: FakeCall) -> None:
        seen.append(ids_of(call))
        call.answer(None)

    m.e.handler = handler
    return seen


def test_messages_come_in_batches_and_are_done_with() -> None:
    async def scene(m: Messages) -> None:
        seen = record(m)
        await m.create()
        await m.send(*numbered(25))
        await m.bind(batch_size=10)
        await asyncio.sleep(1)
        assert seen == [numbered(25)[:10], numbered(25)[10:20], numbered(25)[20:]]
        assert await m.count() == 0
        progress = m.triggers.progress["default", "f", "queue"]
        assert (progress.done, progress.running, progress.failed) == (25, 0, 0)
        await m.send("late")
        await asyncio.sleep(0.1)
        assert seen[-1] == ["late"]

    run(scene)


def test_a_batch_is_an_array_of_events_that_knows_its_trail() -> None:
    async def scene(m: Messages) -> None:
        calls: list[FakeCall] = []
        m.e.handler = lambda call: (calls.append(call), call.answer(None))  # type: ignore[func-returns-value]
        await m.create()
        await m.send("a", data=b'{"n": 1}', attributes={"kind": "x"})
        await m.bind()
        await asyncio.sleep(1)
        [event] = json.loads(calls[0].body)
        assert (event["id"], event["data"], event["kind"], event["fuyunhops"]) == ("a", {"n": 1}, "x", 4)
        fields = dict(calls[0].head.headers)
        assert (fields["fuyun-hops"], fields["fuyun-trail"], fields["fuyun-attempt"]) == ("4", "first", "1")

    run(scene)


def test_a_window_waits_for_more_until_the_batch_is_full() -> None:
    async def scene(m: Messages) -> None:
        seen = record(m)
        await m.create()
        await m.bind(batch_size=4, batch_window_s=5)
        await m.send("a")
        await asyncio.sleep(2)
        await m.send("b", "c")
        await asyncio.sleep(2.5)
        assert seen == []
        await asyncio.sleep(1)
        assert seen == [["a", "b", "c"]]
        await m.send(*numbered(4))
        await asyncio.sleep(0.1)
        assert seen[1:] == [numbered(4)], "a full one does not wait"

    run(scene)


def test_no_more_batches_run_at_once_than_the_policy_says() -> None:
    async def scene(m: Messages) -> None:
        m.e.handler = None
        await m.create()
        await m.send(*numbered(9))
        await m.bind(batch_size=2, parallelism=3)
        await asyncio.sleep(1)
        inside = [call for instance in m.e.platform.host.instances for call in instance.calls]
        assert sorted(len(ids_of(call)) for call in inside) == [2, 2, 2]
        assert m.triggers.progress["default", "f", "queue"].running == 6
        for call in inside:
            call.answer(None)
        await asyncio.sleep(1)
        assert (await m.statistics()).in_flight == 3

    run(scene)


def test_a_lease_is_extended_while_the_function_runs() -> None:
    async def scene(m: Messages) -> None:
        m.e.handler = None
        await m.create(visibility_s=3)
        await m.send("a")
        await m.bind(function="f")
        await asyncio.sleep(25)
        assert await m.receive() == []
        [call] = [call for instance in m.e.platform.host.instances for call in instance.calls]
        call.answer(None)
        await asyncio.sleep(1)
        assert await m.count() == 0

    run(scene)


@pytest.mark.parametrize("dialect", ["ours", "lambda"])
def test_the_answer_names_what_is_not_done(dialect: str) -> None:
    async def scene(m: Messages) -> None:
        seen: list[list[str]] = []

        def handler(call: FakeCall) -> None:
            ids = ids_of(call)
            seen.append(ids)
            bad = [id_ for id_ in ids if id_ in ("m1", "m3")] if len(seen) == 1 else []
            ours = {"failed": bad}
            call.answer(ours if dialect == "ours" else {"batchItemFailures": [{"itemIdentifier": id_} for id_ in bad]})

        m.e.handler = handler
        await m.create()
        await m.send(*numbered(5))
        await m.bind()
        await asyncio.sleep(10)
        assert seen == [numbered(5), ["m1", "m3"]]
        assert await m.count() == 0

    run(scene)


def test_an_answer_about_something_else_fails_all() -> None:
    async def scene(m: Messages) -> None:
        calls = 0

        def handler(call: FakeCall) -> None:
            nonlocal calls
            calls += 1
            call.answer({"failed": ["never heard of"]} if calls == 1 else None)

        m.e.handler = handler
        await m.create()
        await m.send("a", "b")
        await m.bind()
        await asyncio.sleep(10)
        assert (calls, await m.count()) == (2, 0)

    run(scene)


def poisoned(m: Messages, bad: str, error: type[FuyunError] = FunctionRaised) -> list[list[str]]:
    """Fail every batch that holds `bad`."""
    seen: list[list[str]] = []

    def handler(call: FakeCall) -> None:
        seen.append(ids_of(call))
        if bad in seen[-1]:
            call.fail(error("no"))
        else:
            call.answer(None)

    m.e.handler = handler
    return seen


def test_bisecting_leaves_what_fails_alone_and_the_rest_is_done_at_once() -> None:
    async def scene(m: Messages) -> None:
        seen = poisoned(m, "m5")
        await m.create()
        await m.send(*numbered(8))
        await m.bind(batch_size=8, bisect=True, max_attempts=3)
        await asyncio.sleep(0.5)
        assert [len(ids) for ids in seen] == [8, 4, 4, 2, 1, 1, 2]
        assert await m.held() == ["m5"]
        await asyncio.sleep(60)
        assert seen.count(["m5"]) == 3
        assert await m.count() == 0
        [dead] = await m.e.list(states=("failed",))
        assert (dead.origin, dead.error, dead.target) == ("trigger f/queue", "function_raised", "function:f")

    run(scene)


def test_what_is_given_up_goes_where_the_policy_says() -> None:
    async def scene(m: Messages) -> None:
        poisoned(m, "bad")
        await m.create()
        await m.create("dead")
        await m.send("bad", "good")
        await m.bind(batch_size=1, max_attempts=2, dead_letter="queue:dead")
        await asyncio.sleep(60)
        [message] = await m.queues.receive("default", "dead")
        told = json.loads(message.event.data)
        assert (message.event.type, message.event.subject) == ("fuyun.delivery.failed", "bad")
        assert (told["attempts"], told["error"]["code"], told["request"]["id"]) == (2, "function_raised", "bad")
        assert (await m.count(), await m.e.list()) == (0, [])

    run(scene)


def test_a_dead_letter_that_cannot_be_sent_stays_with_the_function() -> None:
    async def scene(m: Messages) -> None:
        poisoned(m, "bad")
        await m.create()
        await m.send("bad")
        await m.bind(max_attempts=1, dead_letter="queue:nowhere")
        await asyncio.sleep(10)
        assert [dead.error for dead in await m.e.list(states=("failed",))] == ["function_raised"]

    run(scene)


def test_a_queue_with_dead_letters_gives_up_itself() -> None:
    async def scene(m: Messages) -> None:
        seen = poisoned(m, "bad")
        await m.create("dead")
        await m.create(dead_letter="dead", max_receives=5)
        await m.send("bad")
        await m.bind(max_attempts=2)
        await asyncio.sleep(600)
        assert (len(seen), await m.held("dead"), await m.e.list()) == (5, ["bad"], [])
        assert await m.queues.redrive(PLATFORM, "default", "dead") == 1
        record(m)
        await asyncio.sleep(1)
        assert (await m.count(), await m.count("dead")) == (0, 0)

    run(scene)


@pytest.mark.parametrize("error", [Throttled("busy"), Unavailable("no room")])
def test_what_is_not_the_functions_fault_does_not_count(error: FuyunError) -> None:
    async def scene(m: Messages) -> None:
        calls = 0

        def handler(call: FakeCall) -> None:
            nonlocal calls
            calls += 1
            if calls <= 8:
                call.fail(error)
            else:
                call.answer(None)

        m.e.handler = handler
        await m.create("dead")
        await m.create(visibility_s=2, dead_letter="dead", max_receives=1)
        await m.send("a")
        await m.bind(max_attempts=1)
        await asyncio.sleep(300)
        assert (calls, await m.count(), await m.count("dead")) == (9, 0, 0)

    run(scene)


def test_a_client_error_is_not_tried_again() -> None:
    async def scene(m: Messages) -> None:
        seen = poisoned(m, "bad", BadRequest)
        await m.create()
        await m.send("bad")
        await m.bind()
        await asyncio.sleep(60)
        assert seen == [["bad"]]
        assert [dead.error for dead in await m.e.list(states=("failed",))] == ["bad_request"]

    run(scene)


def test_a_batch_that_is_too_large_is_halved() -> None:
    async def scene(m: Messages) -> None:
        seen = record(m)
        await m.create()
        await m.queues.send("default", "q", [_large(id_) for id_ in numbered(3)])
        await m.send("small")
        await m.deploy("f", Trigger(queue=QueueTrigger(queue="q")), payload_bytes=3000)
        await asyncio.sleep(1)
        assert seen == [["m0"], ["m1"], ["m2", "small"]]
        assert await m.count() == 0

    run(scene)


def _large(id_: str) -> Outgoing:
    event = Event(id=id_, source="/s", type="t", time_s=0.0, data=b'"%s"' % (b"x" * 2000))
    return Outgoing(event=event)


def test_groups_stay_in_order_whatever_fails() -> None:
    async def scene(m: Messages) -> None:
        dice = random.Random(7)
        done: dict[str, list[int]] = {}
        inside: set[str] = set()

        def handler(call: FakeCall) -> None:
            groups = [id_.partition(".")[0] for id_ in ids_of(call)]
            assert not inside & set(groups), "one of a group at a time"
            inside.update(groups)
            asyncio.get_running_loop().call_later(dice.random() * 3, end, call, groups)

        def end(call: FakeCall, groups: list[str]) -> None:
            inside.difference_update(groups)
            ids = ids_of(call)
            if dice.random() < 0.2:
                call.fail(FunctionRaised("no"))
                return
            failed = [id_ for id_ in ids if dice.random() < 0.2]
            for id_ in ids:
                if id_ not in failed:
                    group, _, number = id_.partition(".")
                    done.setdefault(group, []).append(int(number))
            call.answer({"failed": failed})

        m.e.handler = handler
        await m.create(fifo=True, visibility_s=5)
        for number in range(6):
            for group in "abc":
                await m.send(f"{group}.{number}", group=group)
        await m.bind(batch_size=2, parallelism=3, max_attempts=100)
        await asyncio.sleep(3600)
        assert done == {group: list(range(6)) for group in "abc"}
        assert await m.count() == 0

    run(scene)


def test_a_filter_drops_what_the_trigger_does_not_want() -> None:
    async def scene(m: Messages) -> None:
        seen = record(m)
        await m.create()
        await m.send("a", attributes={"kind": "x"})
        await m.send("b", attributes={"kind": "y"})
        await m.bind(filter={"kind": "y"})
        await asyncio.sleep(1)
        assert (seen, await m.count(), m.triggers.progress["default", "f", "queue"].dropped) == ([["b"]], 0, 1)

    run(scene)


def test_a_trigger_pauses_and_goes_on() -> None:
    async def scene(m: Messages) -> None:
        seen = record(m)
        await m.create()
        await m.bind()
        await m.send("a")
        await asyncio.sleep(1)
        m.e.bindings.pause(("default", "f", "queue"), True)
        await m.send("b")
        await asyncio.sleep(100)
        assert (seen, (await m.statistics()).ready) == ([["a"]], 1)
        m.e.bindings.pause(("default", "f", "queue"), False)
        await asyncio.sleep(1)
        assert seen == [["a"], ["b"]]

    run(scene)


def test_a_trigger_waits_for_its_queue_and_its_alias() -> None:
    async def scene(m: Messages) -> None:
        seen = record(m)
        await m.bind(alias="live")
        await asyncio.sleep(1)
        assert "no queue 'q'" in m.triggers.progress["default", "f", "queue"].problem
        await m.create()
        await m.send("a")
        await asyncio.sleep(1)
        assert (seen, m.triggers.progress["default", "f", "queue"].problem) == ([], "")
        assert (await m.statistics()).in_flight == 1, "nothing is thrown away for an alias that is to come"
        await m.bind()
        await asyncio.sleep(120)
        assert seen == [["a"]]
        await m.queues.delete_queue(PLATFORM, "default", "q")
        await asyncio.sleep(1)
        await m.create()
        await m.send("b")
        await asyncio.sleep(1)
        assert seen == [["a"], ["b"]]

    run(scene)


def test_a_kill_gives_out_again_what_was_under_way() -> None:
    async def scene(m: Messages) -> None:
        m.e.handler = None
        await m.create(visibility_s=30)
        await m.send("a")
        await m.bind()
        await asyncio.sleep(5)
        await m.restart()
        seen = record(m)
        await asyncio.sleep(20)
        assert seen == []
        await asyncio.sleep(20)
        assert (seen, await m.count()) == ([["a"]], 0)

    run(scene)


def test_a_stop_lets_what_runs_end_and_takes_nothing_more() -> None:
    async def scene(m: Messages) -> None:
        m.e.handler = None
        await m.create()
        await m.send("a")
        await m.bind(batch_size=1)
        await asyncio.sleep(1)
        stopping = m.scope.start(m.triggers.drain(60.0), "drain")
        await m.send("b")
        await asyncio.sleep(1)
        [call] = [call for instance in m.e.platform.host.instances for call in instance.calls]
        call.answer(None)
        await stopping
        assert (await m.held(), (await m.statistics()).ready) == (["b"], 1)

    run(scene)


def test_a_full_disk_loses_nothing() -> None:
    async def scene(m: Messages) -> None:
        seen = record(m)
        await m.create(visibility_s=10)
        await m.bind()
        await m.send("a", "b")
        m.e.database.failing = StorageFull("full")
        await asyncio.sleep(60)
        m.e.database.failing = None
        await asyncio.sleep(60)
        assert {id_ for ids in seen for id_ in ids} == {"a", "b"}
        assert await m.count() == 0

    run(scene)


def test_a_circle_is_cut_off() -> None:
    async def scene(m: Messages) -> None:
        seen = record(m)
        await m.create()
        event = Event(id="round", source="/s", type="t", time_s=0.0, hops=MOST_HOPS, trail="first")
        await m.queues.send("default", "q", [Outgoing(event=event)])
        await m.bind()
        await asyncio.sleep(10)
        assert (seen, await m.count()) == ([], 0)
        [dead] = await m.e.list(states=("failed",))
        assert (dead.error, dead.trail) == ("loop_detected", "first")

    run(scene)


def test_topics_reach_triggers_subscriptions_and_queues() -> None:
    async def scene(m: Messages) -> None:
        seen = record(m)
        await m.create()
        await m.topics.put_topic(PLATFORM, "default", "t")
        await m.deploy("g")
        await m.bind_topic(filter={"kind": "x"})
        for name, target, wanted in (("q", "queue:q", None), ("g", "function:g", {"kind": "y"})):
            spec = SubscriptionSpec(target=target, filter=wanted)
            await m.topics.subscribe(PLATFORM, "default", "t", name, spec)
        await m.topics.publish("default", "t", [_event("1", "x"), _event("2", "y"), _event("3", "z")])
        assert await m.held() == ["1", "2", "3"]
        await asyncio.sleep(1)
        assert sorted(seen) == [["1"], ["2"]]
        told = {one.origin: one.target for one in await m.e.list()}
        assert told == {"trigger f/topic": "function:f", "subscription t/g": "function:g"}
        await m.restart()
        await m.topics.publish("default", "t", [_event("4", "y")])
        await asyncio.sleep(1)
        assert ["4"] in seen, "subscriptions are known to the next platform"
        await m.topics.unsubscribe(PLATFORM, "default", "t", "g")
        await m.topics.publish("default", "t", [_event("5", "y")])
        await asyncio.sleep(1)
        assert ["5"] not in seen

    run(scene)


def _event(id_: str, kind: str) -> Outgoing:
    event = Event(id=id_, source="/s", type="t", time_s=0.0, extensions={"kind": kind})
    return Outgoing(event=event)


def test_queues_and_topics_are_targets() -> None:
    async def scene(m: Messages) -> None:
        await m.create()
        await m.create("o", fifo=True)
        await m.topics.put_topic(PLATFORM, "default", "t")
        await m.topics.subscribe(PLATFORM, "default", "t", "s", SubscriptionSpec(target="queue:q"))
        event = Event(id="e", source="/default/bucket/photos", type="t", time_s=0.0)
        for target in ("queue:q", "queue:o", "topic:t"):
            await m.e.targets.send("default", target_of(target), [event])
        assert await m.held() == ["e", "e"]
        [ordered] = await m.queues.peek("default", "o")
        assert ordered.group == "/default/bucket/photos"

    run(scene)


def test_what_answers_mean() -> None:
    ids = ("a", "b")
    cases: list[tuple[Any, set[str]]] = [
        (None, set()), ("text", set()), ([1], set()), ({}, set()), ({"failed": []}, set()),
        ({"failed": ["a"]}, {"a"}), ({"failed": "a"}, set()), ({"failed": ["c"]}, {"a", "b"}),
        ({"failed": [1]}, {"a", "b"}), ({"batchItemFailures": [{"itemIdentifier": "b"}]}, {"b"}),
        ({"batchItemFailures": ["b"]}, {"a", "b"}), ({"batchItemFailures": []}, set()),
    ]  # fmt: skip
    for answer, failed in cases:
        assert named_failures(json.dumps(answer).encode(), ids) == failed, answer
    assert named_failures(b"\xff", ids) == named_failures(b"", ids) == named_failures(b"[" * 10_000, ids) == set()
