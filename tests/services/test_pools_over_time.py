"""Pools over a longer time: instances that are kept, frozen, retired; the end; and chaos."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuyun.base import clock
from fuyun.base.tasks import Scope
from fuyun.domain.errors import FunctionLoadFailed, FunctionRaised, InstanceLost, Throttled, Unavailable
from fuyun.domain.functions import Hooks, Provisioned
from fuyun.domain.tenants import Quotas
from fuyun.services import calendar
from fuyun.services.requests import Request
from fuyun.testing import times
from tests.services.platforms import Caller, Platform, play, short_calls

# --- instances that are kept


def test_min_instances_are_there_before_anybody_asks_and_are_replaced() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy("f", min_instances=2)
        await asyncio.sleep(1.5)
        assert len(p.host.instances) == 2
        p.host.instances[0].lose(InstanceLost("gone"))
        await asyncio.sleep(2.5)
        assert len(p.host.instances) == 2
        await asyncio.sleep(1000)
        assert len(p.host.instances) == 2

    play(scene)


def test_a_window_keeps_instances_while_it_is_open_though_nobody_calls() -> None:
    async def scene(p: Platform) -> None:  # it begins at 08:00:00 UTC
        async with Scope("calendar", print) as scope:
            calendar.start(scope, p.dispatcher.provision)
            windows = (
                Provisioned(schedule="5 8 * * *", duration_s=1800.0, instances=3),
                Provisioned(schedule="0 4 * * *", duration_s=86400.0, instances=1),
            )
            await p.deploy("f", provisioned=windows, idle_timeout_s=60.0)
            for until_s, kept in ((5.0, 1), (299.0, 1), (303.0, 3), (2099.0, 3), (2165.0, 1)):
                await asyncio.sleep(until_s + times.START_S - clock.wall_s())
                assert len(p.host.instances) == kept, until_s

    play(scene)


def test_min_instances_of_functions_deployed_one_after_the_other() -> None:
    async def scene(p: Platform) -> None:
        for name in ("a", "b", "c"):
            await p.deploy(name, min_instances=1)
            await asyncio.sleep(0.06)
        await asyncio.sleep(2.5)
        assert sorted(instance.version.function for instance in p.host.instances) == ["a", "b", "c"]

    play(scene)


def test_min_instances_that_do_not_start_are_tried_ever_more_seldom() -> None:
    async def scene(p: Platform) -> None:
        p.host.failing = FunctionLoadFailed("broken")
        await p.deploy(min_instances=3)
        await asyncio.sleep(5)
        early = p.host.started
        assert early >= 3
        await asyncio.sleep(600)
        assert p.host.started - early <= 3 * 16
        p.host.failing = None
        await asyncio.sleep(62)
        assert len(p.host.instances) == 3

    play(scene)


def test_a_namespace_that_is_gone_is_forgotten_once_nothing_of_it_runs() -> None:
    async def scene(p: Platform) -> None:
        p.quotas["acme"] = Quotas(concurrency=7)
        await p.deploy(namespace="acme")
        p.call(namespace="acme")
        (await p.inside(1))[0].answer()
        await asyncio.sleep(2)
        assert p.dispatcher._tenants["acme"].quotas.concurrency == 7
        p.catalog.delete("f", "acme")
        await p.dispatcher.reload("acme", "f")
        del p.quotas["acme"]
        await asyncio.sleep(400)
        assert "acme" not in p.dispatcher._tenants
        p.quotas["acme"] = Quotas(concurrency=1)
        await p.deploy(namespace="acme")
        assert p.dispatcher._tenants["acme"].quotas.concurrency == 1

    play(scene)


def test_an_old_version_keeps_no_min_instances() -> None:
    async def scene(p: Platform) -> None:
        p.catalog.put("f", 1, min_instances=1)
        p.catalog.put("f", 2, min_instances=1)
        p.catalog.put("f", 0)
        p.catalog.alias("f", "live", {1: 100})
        await p.dispatcher.reload("default", "f")
        await asyncio.sleep(2.5)
        assert [instance.version.number for instance in p.host.instances] == [1]
        p.catalog.alias("f", "live", {2: 100})
        await p.dispatcher.reload("default", "f")
        await asyncio.sleep(400)
        assert [instance.version.number for instance in p.host.instances] == [2]

    play(scene)


# --- freezing


def test_an_idle_instance_is_frozen_and_thawed_by_a_call() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(freeze_after_s=3.0, hooks=Hooks(pre_freeze="h.f", pre_stop="h.s"), idle_timeout_s=60.0)
        p.call()
        (call,) = await p.inside(1)
        call.answer()
        await asyncio.sleep(4.5)
        assert call.instance.told == ["hook pre_freeze", "freeze"]
        caller = p.call()
        assert call.instance.told[-1] == "thaw"
        (await p.inside(1))[0].answer("woken")
        assert caller.value == "woken"
        await asyncio.sleep(200)
        assert call.instance.told[3:] == ["hook pre_freeze", "freeze", "thaw", "hook pre_stop", "stop"]

    play(scene)


def test_a_call_during_the_hook_keeps_the_instance_from_being_frozen() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(freeze_after_s=3.0, hooks=Hooks(pre_freeze="h.f", pre_freeze_timeout_s=2.0))
        p.call()
        (call,) = await p.inside(1)
        instance = call.instance
        instance.hooks["pre_freeze"] = hook = asyncio.get_running_loop().create_future()
        call.answer()
        while "hook pre_freeze" not in instance.told:
            await asyncio.sleep(0.1)
        p.call()
        hook.set_result(True)
        await asyncio.sleep(0.5)
        assert instance.told == ["hook pre_freeze", "thaw"]
        p.host.calls[0].answer()

    play(scene)


# --- retiring


def test_a_deployment_under_load_loses_nothing() -> None:
    async def scene(p: Platform) -> None:
        old = await p.deploy(max_instances=2)
        callers = [p.call(body=b'"old"') for _ in range(8)]
        await p.inside(2)
        for round_ in range(3):
            new = await p.deploy(max_instances=2, description=f"round {round_}")
            callers += [p.call(body=b'"new"') for _ in range(4)]
        while not all(caller.done for caller in callers):
            for call in list(p.host.calls):
                call.answer(call.instance.version.key)
            await asyncio.sleep(0.01)
        assert {caller.value for caller in callers[:8]} == {old.key}
        assert {caller.value for caller in callers[-4:]} == {new.key}
        await asyncio.sleep(3)
        assert {instance.version.key for instance in p.host.instances} == {new.key}
        assert p.dispatcher._retired == []
        assert p.host.forgotten.count(old.key) == 2  # what was made for it after it was retired goes too

    play(scene, auto_s=0.005)


def test_a_route_looked_up_before_a_deployment_still_works() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy()
        route = p.dispatcher.resolve("default", "f", "")
        new = await p.deploy()
        for gone in (False, True):
            if gone:
                p.catalog.delete("f")
                await p.dispatcher.reload("default", "f")
            caller = Caller()
            p.callers.append(caller)
            caller.flight = p.dispatcher.begin(
                route, Request("event", "POST", "/", "", [], "", "http"), b"", True, caller
            )
            if gone:
                await asyncio.sleep(0)
                assert caller.error is not None
                assert caller.error.code == "not_found"
            else:
                (await p.inside(1))[0].answer(p.host.calls[0].instance.version.key)
                assert caller.value == new.key

    play(scene)


def test_an_instance_that_becomes_ready_after_its_version_was_retired_ends() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(min_instances=1)
        await asyncio.sleep(1.1)
        (start,) = p.host.starts
        await p.deploy()
        start.ready()
        await asyncio.sleep(0.1)
        assert p.host.instances == []

    play(scene, auto_s=None)


# --- the end


def test_at_the_end_what_runs_may_finish_and_what_comes_is_refused() -> None:
    async def main() -> None:
        p = Platform()
        await p.dispatcher.open()
        await p.deploy(max_instances=1)
        callers = [p.call(), p.call()]
        (call,) = await p.inside(1)
        closing = asyncio.ensure_future(p.dispatcher.close(10.0))
        await asyncio.sleep(2)
        call.answer("finished")
        (await p.inside(1))[0].answer("finished too")
        await closing
        assert [caller.value for caller in callers] == ["finished", "finished too"]
        late = p.call()
        await asyncio.sleep(0.1)
        assert type(late.error) is Unavailable
        p.assert_quiet()
        assert p.host.instances == []

    times.run(main())


@pytest.mark.parametrize("short", [False, True])
def test_at_the_end_what_does_not_finish_is_answered_all_the_same(short: bool) -> None:
    async def main() -> None:
        p = Platform()
        await p.dispatcher.open()
        if short:
            await short_calls(p)
        else:
            await p.deploy(max_instances=1)
        callers = [p.call() for _ in range(6)]
        await p.inside(1)
        began = asyncio.get_running_loop().time()
        p.host.instances[0].stubborn = True
        await p.dispatcher.close(1.0)
        assert asyncio.get_running_loop().time() - began < 4
        assert all(caller.done for caller in callers)
        assert {type(caller.error) for caller in callers} == {Unavailable}
        p.assert_quiet()
        assert p.host.instances == []

    times.run(main())


# --- chaos


def _shake(seed: int, concurrency: int) -> None:
    """Random requests, answers, losses, failures, deployments and departures: each caller gets exactly one end."""
    rng = random.Random(seed)

    async def scene(p: Platform) -> None:
        spec = {"max_instances": 3, "concurrency": concurrency, "timeout_s": 2.0, "idle_timeout_s": 2.0}
        await p.deploy(**spec)
        for step in range(120):
            act = rng.random()
            if act < 0.45:
                p.call(body=b"%d" % step)
            elif act < 0.75 and p.host.calls:
                call = rng.choice(p.host.calls)
                if rng.random() < 0.8:
                    call.answer(run_us=rng.choice([50, 50, 900_000]))
                else:
                    call.fail(FunctionRaised("boom"))
            elif act < 0.80 and p.host.instances:
                rng.choice(p.host.instances).lose(InstanceLost("gone"))
            elif act < 0.85:
                p.host.failing = rng.choice([None, None, Unavailable("later"), FunctionLoadFailed("broken")])
            elif act < 0.88:
                await p.deploy(description=str(step), **spec)
            elif act < 0.93 and p.callers:
                caller = rng.choice(p.callers)
                if not caller.done:
                    caller.leave()
            else:
                await asyncio.sleep(rng.choice([0.0, 0.01, 0.3, 1.5]))
            if rng.random() < 0.5:
                await asyncio.sleep(0)
        p.host.failing = None
        for _ in range(2000):
            if all(caller.done or caller.left for caller in p.callers):
                break
            for call in list(p.host.calls):
                call.answer()
            await asyncio.sleep(0.01)
        await asyncio.sleep(5)

    p = play(scene, auto_s=0.002, queue_length=20, queue_wait_s=4.0)
    allowed = (type(None), InstanceLost, FunctionRaised, FunctionLoadFailed, Unavailable, Throttled)
    for caller in p.callers:
        assert isinstance(caller.error, allowed) or caller.error.code == "function_timed_out", caller.error


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([1, 1, 3]))
def test_whatever_happens_every_caller_gets_one_end_and_everything_is_given_back(seed: int, concurrency: int) -> None:
    _shake(seed, concurrency)
