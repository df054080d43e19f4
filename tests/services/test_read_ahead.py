"""Calls written to an instance behind the one it runs (decision 0004)."""

from __future__ import annotations

import asyncio

import pytest

from fuyun.domain.errors import FunctionRaised, InstanceLost
from tests.services.platforms import Platform, play, short_calls


def test_short_calls_are_written_behind_the_one_that_runs() -> None:
    async def scene(p: Platform) -> None:
        await short_calls(p)
        callers = [p.call(body=b"%d" % n) for n in range(1, 6)]
        assert [call.body for call in p.host.calls] == [b"0", b"1", b"2", b"3"]
        assert len(p.pool().queue) == 2
        order = []
        while p.host.calls:
            call = p.host.calls[0]
            order.append(int(call.body))
            call.answer(int(call.body), run_us=100)
            await asyncio.sleep(0)
        assert order == [0, 1, 2, 3, 4, 5]
        assert [caller.value for caller in callers] == [1, 2, 3, 4, 5]

    play(scene)


async def _two_instances(p: Platform, run_us: int) -> None:
    """Two idle instances of a function whose last hundred calls took that long."""
    await p.deploy(max_instances=2, timeout_s=5.0)
    p.call()
    p.call()
    for call in list(await p.inside(2)):
        call.answer(run_us=run_us)
    for _ in range(100):
        p.call()
        (await p.inside(1))[0].answer(run_us=run_us)


def _instances_inside(p: Platform) -> int:
    return len({call.instance.id for call in p.host.calls})


async def _answer_all(p: Platform) -> None:
    while p.host.calls:
        p.host.calls[0].answer()
        await asyncio.sleep(0)


@pytest.mark.parametrize(("run_us", "instances"), [(20, 1), (100, 2), (500, 2)])
def test_a_free_instance_is_woken_only_for_what_it_is_worth(run_us: int, instances: int) -> None:
    async def scene(p: Platform) -> None:
        await _two_instances(p, run_us)
        callers = [p.call() for _ in range(3)]
        assert _instances_inside(p) == instances
        await _answer_all(p)
        assert all(caller.done for caller in callers)

    play(scene)


def test_very_short_calls_do_not_wait_behind_others_where_one_may_be_long() -> None:
    async def scene(p: Platform) -> None:
        await _two_instances(p, 20)
        p.call()
        (await p.inside(1))[0].answer(run_us=30_000)
        p.call()
        p.call()
        assert _instances_inside(p) == 2
        await _answer_all(p)

    play(scene)


def test_nobody_is_put_behind_a_call_that_has_run_for_a_while() -> None:
    async def scene(p: Platform) -> None:
        await _two_instances(p, 20)
        p.call()
        p.call()
        assert _instances_inside(p) == 1
        await asyncio.sleep(0.003)
        p.call()
        assert _instances_inside(p) == 2
        await asyncio.sleep(0.003)
        p.call()
        assert [len(p.host.calls), len(p.pool().queue)] == [3, 1]
        await _answer_all(p)

    play(scene)


def test_a_request_that_is_not_complete_waits_behind_none() -> None:
    async def scene(p: Platform) -> None:
        await _two_instances(p, 20)
        p.call()
        caller = p.call(end=False)
        assert _instances_inside(p) == 2
        assert caller.flight is not None
        caller.flight.send_body(b"", True)
        await _answer_all(p)

    play(scene)


def test_what_stood_behind_a_lost_call_comes_back_in_order() -> None:
    async def scene(p: Platform) -> None:
        await short_calls(p)
        callers = [p.call(body=b"%d" % n) for n in range(1, 6)]
        p.host.instances[0].lose(InstanceLost("gone"))
        assert not any(caller.done for caller in callers)
        order = []
        while not all(caller.done for caller in callers):
            call = (await p.inside(1))[0]
            order.append(int(call.body))
            call.answer(int(call.body), run_us=100)
        assert order == [1, 2, 3, 4, 5]
        assert [type(caller.error) for caller in p.callers].count(InstanceLost) == 1

    play(scene)


def test_what_stood_behind_an_overdue_call_is_served_elsewhere() -> None:
    async def scene(p: Platform) -> None:
        await short_calls(p)
        behind = [p.call(body=b"%d" % n) for n in range(1, 4)]
        behind[1].leave()
        await asyncio.sleep(5.2)
        for _ in range(2):
            (await p.inside(1))[0].answer("elsewhere", run_us=100)
            await asyncio.sleep(0)
        assert [caller.value for caller in behind] == ["elsewhere", None, "elsewhere"]

    play(scene)


def test_a_retired_instance_answers_what_stands_behind() -> None:
    async def scene(p: Platform) -> None:
        await short_calls(p)
        behind = [p.call(body=b"%d" % n) for n in range(1, 6)]
        await p.deploy(max_instances=1, description="new")
        while not all(caller.done for caller in behind):
            call = (await p.inside(1))[0]
            call.answer(call.instance.version.revision, run_us=100)
        assert [caller.value for caller in behind] == [1] * 5
        await asyncio.sleep(0.1)
        assert p.host.instances == []

    play(scene)


@pytest.mark.parametrize("left", [False, True])
def test_an_error_out_of_turn_is_an_answer(left: bool) -> None:
    """Code inside speaks the protocol by itself: it has run that call, which is not run again."""

    async def scene(p: Platform) -> None:
        await short_calls(p)
        behind = [p.call(body=b"%d" % n) for n in range(1, 4)]
        if left:
            behind[1].leave()
        p.host.calls[2].fail(FunctionRaised("early"))
        assert [call.body for call in p.host.calls] == [b"0", b"1", b"3"]
        while p.host.calls:
            p.host.calls[0].answer(run_us=100)
            await asyncio.sleep(0)
        assert isinstance(behind[1].error, FunctionRaised) is not left
        assert behind[0].done
        assert behind[2].done

    play(scene)


def test_an_answer_out_of_turn_breaks_nothing() -> None:
    async def scene(p: Platform) -> None:
        await short_calls(p)
        behind = [p.call(body=b"%d" % n) for n in range(1, 4)]
        p.host.calls[2].answer("early", run_us=100)
        assert behind[1].value == "early"
        while p.host.calls:
            p.host.calls[-1].answer(run_us=100)
            await asyncio.sleep(0)

    play(scene)
