"""Turns of namespaces (promise 9): whoever floods the platform, another's call begins after a few of the flood's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fuyun.domain.errors import Unavailable
from fuyun.domain.tenants import Quotas
from fuyun.services import turns
from tests.services.platforms import Caller, Platform, play

FLOOD = 64


def two(scene: Callable[[Platform], Awaitable[None]]) -> Callable[[Platform], Awaitable[None]]:
    """A platform with two namespaces, `f` in each, and callers of both."""

    async def with_both(p: Platform) -> None:
        p.quotas["noisy"] = Quotas()
        await p.deploy("f", concurrency=100, max_instances=1)
        await p.deploy("f", namespace="noisy", concurrency=100, max_instances=1)
        p.call()
        p.call(namespace="noisy")
        for call in await p.inside(2):
            call.answer()
        await scene(p)
        for call in list(p.host.calls):
            call.answer()

    return with_both


def noisy(p: Platform, count: int = FLOOD) -> list[Caller]:
    """Calls of the flood."""
    return [p.call(namespace="noisy") for _ in range(count)]


def inside(p: Platform) -> list[str]:
    """Namespaces of the calls that are inside instances, in the order they got there."""
    return [call.instance.version.namespace for call in p.host.calls]


def test_another_s_call_does_not_stand_behind_the_whole_flood() -> None:
    async def scene(p: Platform) -> None:
        p.host.calls.clear()
        noisy(p)
        p.call()
        assert inside(p) == []  # everything waits for its turn
        await asyncio.sleep(0)
        assert sorted(inside(p)) == ["default", "noisy", "noisy", "noisy"]
        await p.inside(FLOOD + 1)

    play(two(scene))


def test_the_loop_looks_at_its_sockets_between_turns() -> None:
    async def scene(p: Platform) -> None:
        noisy(p)
        await asyncio.sleep(0)
        assert len(inside(p)) == turns._AT_ONCE
        p.call()  # came in between
        await asyncio.sleep(0)
        assert "default" in inside(p)
        await p.inside(FLOOD + 1)

    play(two(scene))


def test_one_namespace_alone_waits_for_nobody() -> None:
    async def scene(p: Platform) -> None:
        await asyncio.sleep(turns._PRESENT_NS / 1e9)
        p.call(namespace="noisy")
        for call in await p.inside(1):
            call.answer()
        await asyncio.sleep(turns._PRESENT_NS / 1e9)
        noisy(p)
        assert len(inside(p)) == FLOOD

    play(two(scene))


def test_who_leaves_before_its_turn_is_left_out() -> None:
    async def scene(p: Platform) -> None:
        callers = noisy(p)
        for caller in callers[1:]:
            caller.leave()
        p.call()
        await asyncio.sleep(0)
        assert sorted(inside(p)) == ["default", "noisy"]

    play(two(scene))


def test_a_deployment_and_the_end_lose_nothing_that_waits() -> None:
    async def scene(p: Platform) -> None:
        callers = noisy(p, 8)
        await p.deploy("f", namespace="noisy", concurrency=100, max_instances=1)
        await p.inside(8)
        for call in list(p.host.calls):
            call.answer()
        assert all(caller.done for caller in callers)
        p.call()
        late = noisy(p, 8)
        closing = asyncio.ensure_future(p.dispatcher.close(0.0))
        await asyncio.sleep(0)
        for call in list(p.host.calls):
            call.answer()
        await closing
        assert all(caller.done and (caller.error is None or isinstance(caller.error, Unavailable)) for caller in late)

    play(two(scene))
