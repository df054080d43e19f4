"""Asynchronous invocations: tried, tried again, given up, in turn, and taken over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from fuyun.base import clock
from fuyun.domain.errors import (
    BadRequest,
    Conflict,
    FunctionRaised,
    FunctionTimedOut,
    FuyunError,
    QuotaExceeded,
    StorageFull,
    Unavailable,
)
from fuyun.domain.events import MOST_HOPS
from fuyun.domain.functions import Asynchronous
from fuyun.domain.tenants import Principal, Quotas
from fuyun.ports.deliveries import DeliveryQuery
from fuyun.services.requests import Request
from fuyun.testing.hosts import FakeCall
from tests.services.events import Events, play
from tests.services.platforms import Caller

ADMIN = Principal(key_id="k", namespace="*", role="admin")


def failing(error: Callable[[], FuyunError], times: int = 10**9) -> Callable[[FakeCall], None]:
    """A handler that fails so often, and answers then."""
    left = [times]

    def on_call(call: FakeCall) -> None:
        left[0] -= 1
        if left[0] >= 0:
            call.fail(error())
        else:
            call.answer("done")

    return on_call


def raised() -> FuyunError:
    return FunctionRaised("ValueError: no")


def test_what_was_accepted_runs_and_tells_its_function_who_it_is() -> None:
    async def scene(e: Events) -> None:
        await e.platform.deploy()
        heads: list[Any] = []
        e.handler = lambda call: (heads.append((call.head, call.body)), call.answer(1))  # type: ignore[func-returns-value]
        id_ = await e.accept(body={"a": 1})
        await asyncio.sleep(1)
        found = await e.find(id_)
        assert (found.state, found.attempts, found.error) == ("succeeded", 1, "")
        ((head, body),) = heads
        assert (head.id, head.kind, json.loads(body)) == (found.invocation, "event", {"a": 1})
        assert dict(head.headers) == {"fuyun-delivery": id_, "fuyun-attempt": "1", "fuyun-trail": id_}
        (record,) = e.platform.records.invocations
        assert (record.id, record.status, record.attempt) == (found.invocation, "ok", 1)
        assert e.deliverer.outcomes == {("default", "function:f", "succeeded"): 1}

    play(scene)


def test_the_functions_own_failures_are_tried_again_so_often() -> None:
    async def scene(e: Events) -> None:
        await e.platform.deploy()
        e.handler = failing(raised)
        began_s = clock.wall_s()
        id_ = await e.accept(max_attempts=3)
        await asyncio.sleep(0.2)
        assert (await e.find(id_)).state == "retrying"
        await asyncio.sleep(10)
        found = await e.find(id_)
        assert (found.state, found.attempts, found.failures, found.error) == ("failed", 3, 3, "function_raised")
        assert found.detail == "ValueError: no"
        assert 1.5 <= found.at_s - began_s <= 3.2, "half to all of one and of two seconds"
        records = e.platform.records.invocations
        assert [record.attempt for record in records] == [1, 2, 3]
        assert records[-1].id == found.invocation

    play(scene)


@pytest.mark.parametrize(
    ("error", "state", "attempts"),
    [
        (lambda: BadRequest("no"), "failed", 1),
        (lambda: FunctionTimedOut("late"), "failed", 2),
        (lambda: Unavailable("soon"), "succeeded", 6),
    ],
)
def test_the_class_of_an_error_decides(error: Callable[[], FuyunError], state: str, attempts: int) -> None:
    async def scene(e: Events) -> None:
        await e.platform.deploy()
        e.handler = failing(error, 5)
        id_ = await e.accept(max_attempts=2)
        await asyncio.sleep(600)
        found = await e.find(id_)
        assert (found.state, found.attempts) == (state, attempts)

    play(scene)


def test_what_has_become_too_old_is_a_dead_letter() -> None:
    async def scene(e: Events) -> None:
        await e.platform.deploy()
        e.handler = failing(lambda: Unavailable("soon"))
        id_ = await e.accept(max_age_s=100.0)
        await asyncio.sleep(200)
        found = await e.find(id_)
        assert (found.state, found.error) == ("expired", "unavailable")
        assert found.attempts > 3
        await e.close()
        late = await e.accept(max_age_s=10.0)
        await asyncio.sleep(20)
        await e.restart()
        await asyncio.sleep(1)
        found = await e.find(late)
        assert (found.state, found.error) == ("expired", "")

    play(scene)


def test_a_function_that_is_gone_is_no_reason_to_try_again() -> None:
    async def scene(e: Events) -> None:
        id_ = await e.accept("nobody")
        await asyncio.sleep(1)
        found = await e.find(id_)
        assert (found.state, found.error, found.attempts) == ("failed", "not_found", 1)

    play(scene)


def test_nothing_runs_before_it_is_due_and_nothing_is_asked_meanwhile() -> None:
    async def scene(e: Events) -> None:
        await e.platform.deploy()
        due_s = clock.wall_s() + 86400
        id_ = await e.accept(at_s=due_s)
        await asyncio.sleep(1)
        writes = e.database.writes
        await asyncio.sleep(86000)
        assert (await e.find(id_)).state == "queued"
        assert e.database.writes == writes
        await asyncio.sleep(500)
        found = await e.find(id_)
        assert found.state == "succeeded"
        assert found.at_s - due_s < 0.1

    play(scene)


def test_a_function_has_its_share_and_namespaces_take_turns() -> None:
    async def scene(e: Events) -> None:
        e.platform.quotas["other"] = Quotas()
        await e.platform.deploy("f", asynchronous=Asynchronous(concurrency=3), max_instances=50)
        await e.platform.deploy("g", namespace="other", max_instances=50)
        inside: list[FakeCall] = []
        e.handler = inside.append
        for _ in range(40):
            await e.accept("f")
        other = await e.accept("g", namespace="other")
        await asyncio.sleep(1)
        assert sorted(call.head.function for call in inside) == ["f", "f", "f", "g"]
        for _ in range(40):
            for call in list(inside):
                call.answer()
                inside.remove(call)
            await asyncio.sleep(0.05)
            assert len(inside) <= 3
        assert {one.state for one in await e.list()} == {"succeeded"}
        assert (await e.find(other, "other")).state == "succeeded"

    play(scene)


def test_another_platform_takes_over_what_ran() -> None:
    async def scene(e: Events) -> None:
        await e.platform.deploy()
        e.handler = None
        id_ = await e.accept()
        await e.platform.inside(1)
        assert (await e.find(id_)).state == "running"
        e.handler = lambda call: call.answer("again")
        await e.restart()
        await asyncio.sleep(1)
        found = await e.find(id_)
        assert (found.state, found.attempts, found.failures) == ("succeeded", 2, 0)

    play(scene)


def test_an_orderly_end_waits_for_what_runs_and_blames_nobody_for_the_rest() -> None:
    async def scene(e: Events) -> None:
        await e.platform.deploy(max_instances=1)
        e.handler = None
        first, second = await e.accept(), await e.accept()
        (call,) = await e.platform.inside(1)
        asyncio.get_running_loop().call_later(2.0, call.answer)
        await asyncio.gather(e.deliverer.drain(3.0), e.platform.dispatcher.close(3.0))
        assert (await e.find(first)).state == "succeeded"
        assert (await e.find(second)).state == "running", "the next platform takes it over"
        assert (await e.find(second)).failures == 0

    play(scene)


def test_destinations_get_the_outcome() -> None:
    async def scene(e: Events) -> None:
        await e.platform.deploy("good")
        await e.platform.deploy("bad")
        await e.platform.deploy("told")
        seen: list[Any] = []

        def on_call(call: FakeCall) -> None:
            if call.head.function == "told":
                seen.append(json.loads(call.body))
            (call.fail(raised()) if call.head.function == "bad" else call.answer({"n": 2}))

        e.handler = on_call
        good = await e.accept("good", {"n": 1}, on_success="queue:done", on_failure="function:told")
        bad = await e.accept("bad", {"n": 1}, on_success="queue:done", on_failure="function:told", max_attempts=1)
        await asyncio.sleep(1)
        ((namespace, name, event),) = e.sent
        assert (namespace, name, event.type, event.subject) == ("default", "done", "fuyun.delivery.succeeded", good)
        assert (event.source, event.hops, event.trail) == ("/default/function/good", 1, good)
        told = json.loads(event.data)
        assert (told["request"], told["response"], told["attempts"]) == ({"n": 1}, {"n": 2}, 1)
        (failed,) = seen
        assert (failed["type"], failed["subject"], failed["fuyuntrail"]) == ("fuyun.delivery.failed", bad, bad)
        assert failed["data"]["error"] == {"code": "function_raised", "detail": "ValueError: no"}
        assert [one.target for one in await e.oversight.list_trail(ADMIN, "default", bad)] == [
            "function:bad", "function:told",
        ]  # fmt: skip

    play(scene)


def test_a_circle_is_cut_off_and_can_be_seen() -> None:
    async def scene(e: Events) -> None:
        await e.platform.deploy()
        route = e.platform.dispatcher.resolve("default", "f", "")

        def on_call(call: FakeCall) -> None:
            """Calls itself, asynchronously: what a function's address makes of its credential."""
            kept = [field for field in call.head.headers if field[0] in ("fuyun-hops", "fuyun-trail")]
            request = Request("event", "POST", "/", "", kept, "", "http")
            caller: Any = Caller()
            caller.flight = e.deferring.begin(route, request, b"1", True, caller)
            call.answer()

        e.handler = on_call
        id_ = await e.accept()
        await asyncio.sleep(60)
        chain = await e.oversight.list_trail(ADMIN, "default", id_)
        assert [one.hops for one in chain] == list(range(MOST_HOPS + 2))
        assert {one.state for one in chain[:-1]} == {"succeeded"}
        assert (chain[-1].state, chain[-1].error, chain[-1].attempts) == ("failed", "loop_detected", 0)
        assert await e.oversight.list_trail(ADMIN, "default", chain[7].id) == chain

    play(scene)


def test_stop() -> None:
    async def scene(e: Events) -> None:
        await e.platform.deploy()
        e.handler = None
        running, waiting = await e.accept(), await e.accept(at_s=clock.wall_s() + 60)
        (call,) = await e.platform.inside(1)
        assert (await e.oversight.stop(ADMIN, "default", running, "::1")).state == "stopped"
        await e.oversight.stop(ADMIN, "default", waiting, "::1")
        await asyncio.sleep(0.1)
        assert call.cancelled
        call.answer("too late")
        await asyncio.sleep(100)
        assert [one.state for one in await e.list()] == ["stopped", "stopped"]
        with pytest.raises(Conflict):
            await e.oversight.stop(ADMIN, "default", running, "::1")
        assert e.deliverer.gauges() == []

    play(scene)


def test_dead_letters_are_driven_again() -> None:
    async def scene(e: Events) -> None:
        await e.platform.deploy()
        e.handler = failing(raised, 2)
        first, second = await e.accept(max_attempts=1), await e.accept(max_attempts=1)
        await asyncio.sleep(5)
        dead = DeliveryQuery(namespace="default", kind="function", name="f", states=("failed",))
        assert [one.id for one in await e.oversight.list_deliveries(ADMIN, dead)] == [first, second]
        assert await e.oversight.redrive(ADMIN, dead, "::1") == 2
        await asyncio.sleep(1)
        assert [(one.state, one.attempts) for one in await e.list()] == [("succeeded", 2), ("succeeded", 2)]
        await asyncio.sleep(86400)
        assert await e.oversight.prune() == 2

    play(scene)


def test_a_full_disk_keeps_what_was_accepted_and_needs_no_hand() -> None:
    async def scene(e: Events) -> None:
        await e.platform.deploy()
        e.handler = None
        kept, waits = await e.accept(), await e.accept(at_s=clock.wall_s() + 5)
        (call,) = await e.platform.inside(1)
        e.database.failing = StorageFull("the disk is full", hint="free space")
        with pytest.raises(StorageFull):
            await e.accept()
        call.answer("done")
        await asyncio.sleep(20)
        assert [one.state for one in await e.list()] == ["running", "queued"]
        e.handler = lambda call: call.answer()
        e.database.failing = None
        await asyncio.sleep(3)
        assert [(await e.find(id_)).state for id_ in (kept, waits)] == ["succeeded", "succeeded"]

    play(scene)


def test_too_many_that_wait_are_refused() -> None:
    async def scene(e: Events) -> None:
        await e.platform.deploy()
        e.platform.quotas["default"] = Quotas(deliveries=2)
        later = clock.wall_s() + 60
        await e.accept(at_s=later)
        await e.accept(at_s=later)
        with pytest.raises(QuotaExceeded, match="2 deliveries"):
            await e.accept(at_s=later)
        await asyncio.sleep(70)
        await e.accept()

    play(scene)
