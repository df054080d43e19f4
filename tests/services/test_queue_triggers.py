"""Queue triggers, in virtual time: batches, order, retries by class, partial failures, bisecting, dead letters."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from fuyun.decide.batches import named_failures
from fuyun.domain.errors import BadRequest, FunctionRaised, FuyunError, Throttled, Unavailable
from fuyun.domain.events import Event
from fuyun.domain.queues import Outgoing
from fuyun.domain.triggers import QueueTrigger, Trigger
from fuyun.services.tenants import PLATFORM
from fuyun.testing.hosts import FakeCall
from tests.services.messages import Messages, ids_of, numbered, record, run


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
