"""Pools: who waits, who runs, who is refused, and what happens to instances meanwhile. In virtual time."""

from __future__ import annotations

import asyncio

import pytest

from fuyun.domain.errors import (
    FunctionLoadFailed,
    FunctionTimedOut,
    HostUnable,
    InstanceLost,
    NotFound,
    Throttled,
    Unavailable,
)
from fuyun.domain.tenants import Quotas
from tests.services.platforms import Platform, play

MIB = 2**20


now_s = lambda: asyncio.get_running_loop().time()  # noqa: E731


# --- slots and queue


def test_a_warm_instance_is_used_again() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy()
        for number in range(3):
            caller = p.call(body=b'{"n":%d}' % number)
            (call,) = await p.inside(1)
            assert call.body == b'{"n":%d}' % number
            call.answer(number)
            assert caller.value == number
        assert p.host.started == 1

    p = play(scene)
    first, second, third = p.records.invocations
    assert [first.start_kind, second.start_kind, third.start_kind] == ["blank", "warm", "warm"]
    assert {record.status for record in p.records.invocations} == {"ok"}
    assert p.measures.tally("default", "f").invocations == {("ok", "blank"): 1, ("ok", "warm"): 2}


def test_requests_wait_in_order_for_as_many_instances_as_there_may_be() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(max_instances=2)
        callers = [p.call(body=b"%d" % n) for n in range(6)]
        await p.inside(2)
        for pair in ([0, 1], [2, 3], [4, 5]):
            calls = list(p.host.calls)
            assert sorted(int(call.body) for call in calls) == pair
            for call in calls:
                call.answer(int(call.body))
            await asyncio.sleep(0.01)
        assert [caller.value for caller in callers] == list(range(6))
        assert p.host.started == 2

    play(scene)


def test_an_instance_takes_as_many_calls_as_its_concurrency_says() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(concurrency=3, max_instances=2)
        for n in range(7):
            p.call(body=b"%d" % n)
        await p.inside(6)
        await asyncio.sleep(0.5)
        assert sorted(instance.inflight for instance in p.host.instances) == [3, 3]
        while p.host.calls:
            p.host.calls[-1].answer()
            await asyncio.sleep(0.001)

    play(scene)


def test_too_many_are_throttled_at_once() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(max_instances=1)
        callers = [p.call() for _ in range(5)]
        await asyncio.sleep(0)
        assert [type(caller.error) for caller in callers] == [type(None)] * 3 + [Throttled] * 2
        assert callers[3].error is not None
        assert callers[3].error.fields["retry_after_s"] > 0
        for _ in range(3):
            (await p.inside(1))[0].answer()
        assert p.call().error is None
        (await p.inside(1))[0].answer()

    p = play(scene, queue_length=2)
    assert [record.status for record in p.records.invocations].count("throttled") == 2


def test_a_namespace_has_its_own_bound() -> None:
    async def scene(p: Platform) -> None:
        p.quotas = {"default": Quotas(concurrency=2), "other": Quotas()}
        await p.deploy("f")
        await p.deploy("g")
        await p.deploy("f", namespace="other")
        callers = [p.call("f"), p.call("g"), p.call("f"), p.call("f", namespace="other")]
        await p.inside(3)
        assert [type(caller.error) for caller in callers] == [type(None), type(None), Throttled, type(None)]
        p.quotas["default"] = Quotas(concurrency=3)
        await asyncio.sleep(1.1)
        assert p.call("g").error is None
        await p.inside(4)
        for call in list(p.host.calls):
            call.answer()

    play(scene)


def test_instances_of_a_namespace_are_bounded_by_number_and_memory() -> None:
    async def scene(p: Platform) -> None:
        for quotas in (Quotas(instances=2), Quotas(memory_bytes=520 * MIB)):
            p.quotas["default"] = quotas
            await p.deploy("f", memory_bytes=256 * MIB)
            await p.deploy("g", memory_bytes=256 * MIB)
            callers = [p.call(name) for name in ("f", "g", "f", "g")]
            await p.inside(2)
            await asyncio.sleep(1)
            assert len(p.host.instances) == 2
            while p.host.calls:
                p.host.calls[0].answer()
                await asyncio.sleep(0.06)
            assert all(caller.done for caller in callers)
            for name in "fg":
                p.catalog.delete(name)
                await p.dispatcher.reload("default", name)
            await asyncio.sleep(1.5)
            assert not p.host.instances

    play(scene)


def test_who_waits_too_long_is_told_why() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(max_instances=1)
        running = p.call()
        (call,) = await p.inside(1)
        waiting, began = p.call(), now_s()
        await asyncio.sleep(4)
        assert type(waiting.error) is Throttled
        assert "there may be no more" in waiting.error.detail
        assert waiting.at_s - began == pytest.approx(3, abs=0.06)
        call.answer()
        assert running.done

    play(scene, queue_wait_s=3.0)


# --- timeouts


def test_a_call_that_takes_too_long_is_ended_with_its_instance() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(timeout_s=2.0, max_instances=1)
        caller, began = p.call(), now_s()
        (call,) = await p.inside(1)
        assert call.head.deadline_ms == pytest.approx((began - 1000 + 1_800_000_000 + 2) * 1000, abs=20)
        waiting = p.call()
        await asyncio.sleep(2.1)
        assert type(caller.error) is FunctionTimedOut
        assert caller.error.fields == {"timeout_s": 2.0}
        assert caller.at_s - began == pytest.approx(2.0, abs=0.06)
        assert call.instance.gone
        (await p.inside(1))[0].answer("from another one")
        assert waiting.value == "from another one"

    p = play(scene)
    record = p.records.invocations[0]
    assert (record.status, record.error) == ("error", "function_timed_out")
    assert record.waterfall.run == pytest.approx(2000, abs=60)
    assert record.billed_gb_s == pytest.approx(0.25 * 2, abs=0.02)


def test_an_overdue_call_does_not_take_others_along() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(timeout_s=2.0, concurrency=3, max_instances=1)
        overdue = p.call()
        (stuck,) = await p.inside(1)
        await asyncio.sleep(1.5)
        others = [p.call(), p.call()]
        calls = (await p.inside(3))[1:]
        await asyncio.sleep(0.6)
        assert type(overdue.error) is FunctionTimedOut
        assert stuck.cancelled
        await asyncio.sleep(1.2)
        assert not stuck.instance.gone  # the grace is over, but others are inside
        for call in calls:
            call.answer("in time")
        await asyncio.sleep(0.1)
        assert [caller.value for caller in others] == ["in time"] * 2
        assert stuck.instance.told[-1].startswith("kill a call did not end")
        assert stuck.instance.gone

    play(scene)


def test_an_overdue_call_that_obeys_lets_its_instance_stop_in_peace() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(timeout_s=2.0, concurrency=2)
        p.call()
        (call,) = await p.inside(1)
        await asyncio.sleep(2.1)
        call.answer("too late")
        await asyncio.sleep(0.1)
        assert call.instance.told == ["stop"]

    p = play(scene)
    assert [record.error for record in p.records.invocations] == ["function_timed_out"]


def test_an_overdue_call_alone_inside_is_ended_after_its_grace() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(timeout_s=2.0, concurrency=2)
        p.call()
        (call,) = await p.inside(1)
        await asyncio.sleep(3.2)
        assert call.instance.gone

    play(scene)


# --- callers that go away


def test_a_caller_that_leaves_the_queue() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(max_instances=1)
        first, second, third = p.call(), p.call(), p.call()
        (call,) = await p.inside(1)
        second.leave()
        second.leave()
        call.answer(1)
        (await p.inside(1))[0].answer(3)
        assert (first.value, second.done, third.value) == (1, False, 3)

    p = play(scene)
    assert sorted(record.status for record in p.records.invocations) == ["cancelled", "ok", "ok"]


def test_a_caller_that_leaves_a_running_call() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy()
        caller = p.call()
        (call,) = await p.inside(1)
        caller.leave()
        assert call.cancelled
        assert p.records.invocations == []
        call.answer("for nobody")
        await asyncio.sleep(0.1)
        assert not caller.done

    p = play(scene)
    assert [record.status for record in p.records.invocations] == ["cancelled"]


def test_a_caller_that_leaves_before_it_could_be_refused_is_counted_once() -> None:
    async def scene(p: Platform) -> None:
        p.quotas["default"] = Quotas(concurrency=0)
        await p.deploy()
        caller = p.call()
        caller.leave()
        await asyncio.sleep(0.1)
        assert not caller.done

    p = play(scene)
    assert [record.status for record in p.records.invocations] == ["cancelled"]


# --- starts that fail


@pytest.mark.parametrize("kind", [FunctionLoadFailed, HostUnable, NotFound])
def test_what_cannot_start_is_told_at_once_and_tried_anew(kind: type) -> None:
    async def scene(p: Platform) -> None:
        await p.deploy()
        p.host.failing = kind("it cannot")
        callers = [p.call() for _ in range(3)]
        await asyncio.sleep(0.05)
        assert [type(caller.error) for caller in callers] == [kind] * 3
        p.host.failing = None
        caller = p.call()
        (await p.inside(1))[0].answer("now")
        assert caller.value == "now"

    play(scene)


def test_a_start_that_may_succeed_later_is_tried_until_it_does() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy()
        p.host.failing = Unavailable("the warden is restarting")
        caller = p.call()
        await asyncio.sleep(1)
        assert not caller.done
        assert 3 <= p.host.started <= 12
        p.host.failing = None
        await p.inside(1)
        p.host.calls[0].answer("at last")
        assert caller.value == "at last"

    play(scene)


def test_a_start_that_never_succeeds_is_said_in_the_end() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy()
        p.host.failing = InstanceLost("it went away")
        caller = p.call()
        await asyncio.sleep(3.1)
        assert type(caller.error) is Unavailable
        assert "it went away" in caller.error.detail

    play(scene, queue_wait_s=3.0)


def test_broken_starts_beside_a_working_instance_are_tried_seldom() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy()
        p.call()
        (call,) = await p.inside(1)
        p.host.failing = FunctionLoadFailed("broken since")
        waiting = p.call()
        await asyncio.sleep(5)
        assert not waiting.done  # the working one will serve it
        assert p.host.started <= 8
        call.answer()
        (await p.inside(1))[0].answer("served")
        assert waiting.value == "served"

    play(scene)


def test_an_environment_that_cannot_be_had_is_told_at_once() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy()
        p.broken = NotFound("no secret 'db'", hint="create it")
        caller = p.call()
        await asyncio.sleep(0.01)
        assert caller.error is p.broken
        p.broken, p.secrets = None, {"DB": "x"}
        p.call()
        (call,) = await p.inside(1)
        assert call.instance.env == {"DB": "x"}
        call.answer()

    play(scene)


# --- instances that go away


def test_calls_in_a_lost_instance_fail_and_the_next_meets_another() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(max_instances=1, concurrency=2)
        callers = [p.call() for _ in range(3)]
        first = (await p.inside(2))[0].instance
        first.lose(InstanceLost("killed from outside"))
        assert [type(caller.error) for caller in callers] == [InstanceLost] * 2 + [type(None)]
        (call,) = await p.inside(1)
        assert call.instance is not first
        call.answer("alive")
        assert callers[2].value == "alive"

    play(scene)


def test_a_lost_idle_instance_is_not_used() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy()
        p.call()
        (call,) = await p.inside(1)
        call.answer()
        call.instance.lose(InstanceLost("gone"))
        p.call()
        (other,) = await p.inside(1)
        assert other.instance is not call.instance
        other.answer()

    play(scene)


def test_the_last_idle_instance_goes_after_its_time() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(idle_timeout_s=5.0)
        p.call()
        (call,) = await p.inside(1)
        call.answer()
        await asyncio.sleep(4.5)
        assert len(p.host.instances) == 1
        await asyncio.sleep(3)
        assert p.host.instances == []
        assert call.instance.told == ["stop"]

    play(scene)
