"""What the log of a call says when it failed and the function could not say why [R 8.6]."""

from __future__ import annotations

import asyncio

import pytest

from fuyun.domain.errors import (
    BadRequest,
    FunctionExited,
    FunctionLoadFailed,
    FunctionOutOfMemory,
    FunctionRaised,
    FuyunError,
    InstanceLost,
)
from tests.services.platforms import Caller, Platform, play


def told(p: Platform) -> list[tuple[str, str, str, str, str]]:
    """Request, instance, stream, level and text of every line."""
    return [(line.request, line.instance, line.stream, line.level, line.text) for line in p.records.lines]


def id_of(caller: Caller) -> str:
    assert caller.flight is not None
    return caller.flight.id


@pytest.mark.parametrize(
    "error", [FunctionOutOfMemory("too much", hint="use less"), FunctionExited("it ended"), InstanceLost("it is gone")]
)
def test_what_the_function_could_not_say_is_said_for_it(error: FuyunError) -> None:
    async def scene(p: Platform) -> None:
        await p.deploy()
        caller = p.call()
        (call,) = await p.inside(1)
        call.fail(error)
        text = f"{error.code}: {error}" + ("; use less" if error.hint else "")
        assert told(p) == [(id_of(caller), call.instance.id, "platform", "error", text)]

    play(scene)


def test_a_call_that_takes_too_long_is_told_once() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(timeout_s=1.0)
        caller = p.call()
        (call,) = await p.inside(1)
        await asyncio.sleep(1.2)
        assert caller.done
        ((request, instance, stream, _, text),) = told(p)
        assert (request, instance, stream) == (id_of(caller), call.instance.id, "platform")
        assert text.startswith("function_timed_out: the function did not answer within 1 s")
        assert "`timeout`" in text

    assert len(play(scene).records.lines) == 1


def test_calls_that_no_instance_could_be_started_for() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy()
        p.broken = FunctionLoadFailed("no module named 'panda'", traceback=["line 1"])
        caller = p.call()
        await asyncio.sleep(0.5)
        assert type(caller.error) is FunctionLoadFailed
        assert told(p) == [(id_of(caller), "", "platform", "error", "function_load_failed: no module named 'panda'")]

    play(scene)


def test_nothing_is_added_to_what_the_log_says_already_or_what_is_no_failure_of_the_function() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(max_instances=1)
        p.call()  # a good one
        (await p.inside(1))[0].answer()
        p.call()  # its traceback is in the log
        (await p.inside(1))[0].fail(FunctionRaised("boom", traceback=["line"]))
        p.call(body=b"{")  # the caller's own mistake
        (await p.inside(1))[0].fail(BadRequest("no JSON"))
        gone = p.call()  # given up
        (call,) = await p.inside(1)
        gone.leave()
        call.fail(FunctionExited("it ended"))
        p.call()
        refused = p.call()  # too many
        (await p.inside(1))[0].answer()
        await asyncio.sleep(0.01)
        assert refused.error is not None
        assert refused.error.code == "throttled"

    assert told(play(scene, queue_length=0)) == []
