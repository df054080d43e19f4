"""What every instance host keeps: `ports.instances.InstanceHost` and `Instance`, clause by clause."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import pytest

from fuyun.domain.errors import FunctionLoadFailed, FunctionRaised, InstanceLost, Unavailable
from fuyun.domain.functions import Version
from fuyun.ports.instances import Head, Instance, InstanceHost

#: Functions a host under test is asked for: the first answers with its payload, the second never, the third raises,
#: the last cannot be loaded.
ECHO, SLEEP, RAISE, BROKEN = "echo", "sleep", "raise", "broken"

Hosted = tuple[InstanceHost, Callable[[str], Version]]


class Sink:
    """Notes what arrives; `end` is reached exactly once."""

    def __init__(self, seen: list[str] | None = None) -> None:
        self.end: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._seen = seen if seen is not None else []

    def on_result(
        self, status: int, headers: list[tuple[str, str]] | None, body: bytes, usage: tuple[int, int, int]
    ) -> None:
        self.end.set_result(json.loads(body))

    def on_head(self, status: int, headers: list[tuple[str, str]]) -> None: ...

    def on_body(self, chunk: bytes) -> None: ...

    def on_end(self, usage: tuple[int, int, int]) -> None:
        self.end.set_result(None)

    def on_fail(self, error: Exception) -> None:
        self._seen.append("failed")
        self.end.set_exception(error)
        self.end.exception()

    def on_log(self, stream: str, level: str, text: str) -> None: ...

    def on_credit(self, size_bytes: int) -> None: ...


def call(instance: Instance, payload: Any = None, seen: list[str] | None = None) -> Sink:
    """Invoke it with a JSON payload."""
    sink = Sink(seen)
    head = msgspec.json.encode(Head(id="r", kind="event", deadline_ms=2**45, function="f", version="1"))
    instance.invoke(head, json.dumps(payload).encode(), True, sink)
    return sink


@pytest.mark.anyio
class InstanceHostContract(ABC):
    """Subclass it with `host`."""

    @abstractmethod
    def host(self) -> AbstractAsyncContextManager[Hosted]:
        """An open host and what makes a version of one of the functions above; closed afterwards."""

    async def test_a_start_gives_a_ready_instance(self) -> None:
        async with self.host() as (host, version):
            one = await host.start(version(ECHO), {}, lambda instance: None)
            other = await host.start(version(ECHO), {}, lambda instance: None)
            assert one.id != other.id
            assert one.pid != other.pid
            assert one.report.kind in ("blank", "template", "zygote", "none")
            assert not one.gone
            assert one.inflight == 0
            sinks = [call(one, 1), call(other, 2)]
            assert one.inflight == 1
            assert [await sink.end for sink in sinks] == [1, 2]
            assert one.inflight == other.inflight == 0
            rows = (await host.inventory())["instances"]
            assert {row["id"] for row in rows} == {one.id, other.id}

    async def test_calls_written_ahead_run_in_order(self) -> None:
        async with self.host() as (host, version):
            instance = await host.start(version(ECHO), {}, lambda instance: None)
            first, *others = [call(instance, number) for number in range(4)]
            assert await first.end == 0
            assert [await sink.end for sink in others] == [1, 2, 3]

    async def test_the_authors_errors_are_the_calls(self) -> None:
        async with self.host() as (host, version):
            instance = await host.start(version(RAISE), {}, lambda instance: None)
            with pytest.raises(FunctionRaised):
                await call(instance).end
            assert not instance.gone

    async def test_what_cannot_be_loaded_does_not_start(self) -> None:
        async with self.host() as (host, version):
            gone: list[Instance] = []
            with pytest.raises(FunctionLoadFailed):
                await host.start(version(BROKEN), {}, gone.append)
            with pytest.raises(FunctionLoadFailed):
                await host.prepare(version(BROKEN), {})
            assert gone == []

    async def test_killed_is_told_once_and_before_the_calls_inside_fail(self) -> None:
        async with self.host() as (host, version):
            seen: list[str] = []
            instance = await host.start(version(SLEEP), {}, lambda instance: seen.append("gone"))
            sinks = [call(instance, seen=seen), call(instance, seen=seen)]
            instance.kill("for a test")
            instance.kill("again")
            for sink in sinks:
                with pytest.raises(InstanceLost):
                    await sink.end
            assert instance.gone
            assert seen == ["gone", "failed", "failed"]

    async def test_stopping_waits_until_it_is_gone(self) -> None:
        async with self.host() as (host, version):
            gone: list[Instance] = []
            instance = await host.start(version(ECHO), {}, gone.append)
            await asyncio.gather(instance.stop(5.0), instance.stop(5.0))
            assert instance.gone
            assert gone == [instance]
            await instance.stop(5.0)
            assert (await host.inventory())["instances"] == []

    async def test_a_call_to_one_that_is_gone_fails(self) -> None:
        async with self.host() as (host, version):
            instance = await host.start(version(ECHO), {}, lambda instance: None)
            await instance.stop(5.0)
            sink = call(instance)
            assert not sink.end.done()  # not before the caller has got hold of it
            with pytest.raises(InstanceLost):
                await asyncio.wait_for(sink.end, 5.0)
            assert instance.inflight == 0

    async def test_frozen_it_waits_and_thawed_it_goes_on(self) -> None:
        async with self.host() as (host, version):
            instance = await host.start(version(ECHO), {}, lambda instance: None)
            instance.freeze(True)
            instance.freeze(False)
            assert await call(instance, 3).end == 3

    async def test_a_hook_says_how_it_went(self) -> None:
        async with self.host() as (host, version):
            instance = await host.start(version(ECHO), {}, lambda instance: None)
            assert isinstance(await instance.hook("pre_stop", 5.0), bool)
            await instance.stop(5.0)
            assert await instance.hook("pre_stop", 5.0) is False

    async def test_what_was_prepared_starts_and_what_was_forgotten_too(self) -> None:
        async with self.host() as (host, version):
            prepared = version(ECHO)
            await host.prepare(prepared, {})
            first = await host.start(prepared, {}, lambda instance: None)
            host.forget(prepared.key)
            host.forget(prepared.key)
            second = await host.start(prepared, {}, lambda instance: None)
            assert [await call(first, 1).end, await call(second, 2).end] == [1, 2]

    async def test_closing_ends_everything(self) -> None:
        async with self.host() as (host, version):
            gone: list[Instance] = []
            instance = await host.start(version(SLEEP), {}, gone.append)
            sink = call(instance)
            await host.close()
            with pytest.raises(InstanceLost):
                await asyncio.wait_for(sink.end, 5.0)
            assert gone == [instance]
            with pytest.raises(Unavailable):
                await host.start(version(ECHO), {}, gone.append)
