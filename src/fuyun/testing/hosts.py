"""A host whose instances do what a test tells them: `ports.instances` without a process."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

import msgspec

from fuyun.domain.errors import FuyunError, InstanceLost, Unavailable
from fuyun.domain.functions import Version
from fuyun.domain.invocations import StartKind
from fuyun.ports.instances import Head, Instance, ReplySink, StartPlan, StartReport

_decode_head = msgspec.json.Decoder(Head).decode


class FakeCall:
    """One invocation inside an instance: `head` and `body` as they were sent, and how the test answers them."""

    def __init__(self, instance: FakeInstance, head: Head, body: bytes, end: bool, sink: ReplySink) -> None:
        self.instance = instance
        self.head = head
        self.body = body
        self.ended = end
        self.sink = sink
        self.consumed_bytes = 0
        self.cancelled = False

    # --- from the platform

    def send_body(self, chunk: bytes, end: bool) -> None:
        """See `ports.instances.Call`."""
        self.body += chunk
        self.ended = self.ended or end

    def consumed(self, size_bytes: int) -> None:
        """See `ports.instances.Call`."""
        self.consumed_bytes += size_bytes

    def cancel(self) -> None:
        """See `ports.instances.Call`."""
        self.cancelled = True

    # --- from the test

    def answer(self, value: Any = None, *, run_us: int = 0, cpu_us: int = 0, peak_kib: int = 0) -> None:
        """A whole answer, as JSON."""
        self._leave()
        self.sink.on_result(200, None, json.dumps(value).encode(), (run_us, cpu_us, peak_kib))

    def stream(self, *chunks: bytes, end: bool = True) -> None:
        """A streamed answer, or its beginning."""
        self.sink.on_head(200, [("content-type", "text/plain")])
        for chunk in chunks:
            self.sink.on_body(chunk)
        if end:
            self._leave()
            self.sink.on_end((0, 0, 0))

    def fail(self, error: FuyunError) -> None:
        """The handler failed."""
        self._leave()
        self.sink.on_fail(error)

    def _leave(self) -> None:
        self.instance.calls.remove(self)


class FakeInstance:
    """Implements `ports.instances.Instance`. `calls` are inside, in the order they came; `told` is what the platform
    asked of it: `freeze`, `thaw`, `stop`, `kill REASON`, `hook NAME`."""

    def __init__(self, version: Version, env: dict[str, str], report: StartReport, number: int) -> None:
        self.version = version
        self.env = env
        self.report = report
        self.id = f"instance-{number}"
        self.pid = 10_000 + number
        self.gone = False
        self.calls: list[FakeCall] = []
        self.told: list[str] = []
        self.stubborn = False  # it does not stop when asked
        self.hooks: dict[str, asyncio.Future[bool]] = {}  # hooks that end when the test says so
        self.on_gone: Callable[[Instance], None] = lambda instance: None
        self.on_call: Callable[[FakeCall], None] | None = None
        self._ended = asyncio.Event()

    @property
    def inflight(self) -> int:
        """Calls inside."""
        return len(self.calls)

    def invoke(self, head: bytes, body: bytes, end: bool, sink: ReplySink) -> FakeCall:
        """See `ports.instances.Instance`."""
        call = FakeCall(self, _decode_head(head), body, end, sink)
        if self.gone:
            asyncio.get_running_loop().call_soon(sink.on_fail, InstanceLost("the instance is gone"))
            return call
        self.calls.append(call)
        if self.on_call is not None:
            asyncio.get_running_loop().call_soon(self.on_call, call)
        return call

    def kill(self, reason: str) -> None:
        """See `ports.instances.Instance`."""
        self.told.append(f"kill {reason}")
        asyncio.get_running_loop().call_soon(self.lose, InstanceLost(f"the instance was ended: {reason}"))

    def freeze(self, frozen: bool) -> None:
        """See `ports.instances.Instance`."""
        self.told.append("freeze" if frozen else "thaw")

    async def hook(self, name: str, timeout_s: float) -> bool:
        """See `ports.instances.Instance`."""
        self.told.append(f"hook {name}")
        if self.gone:
            return False
        if name not in self.hooks:
            return True
        try:
            return await asyncio.wait_for(asyncio.shield(self.hooks[name]), timeout_s)
        except TimeoutError:
            return False

    async def stop(self, timeout_s: float) -> None:
        """See `ports.instances.Instance`."""
        self.told.append("stop")
        if not self.stubborn:
            asyncio.get_running_loop().call_soon(self.lose, InstanceLost("the instance was ended: stopped"))
        try:
            await asyncio.wait_for(self._ended.wait(), timeout_s)
        except TimeoutError:
            self.kill("it did not stop")
            await self._ended.wait()

    def lose(self, error: FuyunError) -> None:
        """It is gone: first it takes no more calls, then those inside fail, as `InstanceHost.start` says."""
        if self.gone:
            return
        self.gone = True
        self._ended.set()
        self.on_gone(self)
        calls, self.calls = self.calls, []
        for call in calls:
            call.sink.on_fail(error)


class FakeStart:
    """A start that was asked for: the test makes it `ready` or lets it `fail`."""

    def __init__(self, version: Version, env: dict[str, str]) -> None:
        self.version = version
        self.env = env
        self.outcome: asyncio.Future[tuple[StartKind, float]] = asyncio.get_running_loop().create_future()

    def ready(self, kind: StartKind = "blank", start_ms: float = 1.0) -> None:
        """It works."""
        if not self.outcome.done():
            self.outcome.set_result((kind, start_ms))

    def fail(self, error: FuyunError) -> None:
        """It does not."""
        if not self.outcome.done():
            self.outcome.set_exception(error)


class FakeHost:
    """Implements `ports.instances.InstanceHost`. `auto_s`: seconds until a start is ready by itself; None: the test
    decides, by `starts`, which holds those that are pending."""

    def __init__(self, auto_s: float | None = 0.0) -> None:
        self.auto_s = auto_s
        self.starts: list[FakeStart] = []
        self.instances: list[FakeInstance] = []  # those that live
        self.started = 0
        self.failing: FuyunError | None = None  # what every start ends in
        self.on_call: Callable[[FakeCall], None] | None = None  # answers by itself
        self.forgotten: list[str] = []
        self.prepared: list[str] = []
        self.closed = False
        self._numbers = itertools.count(1)

    @property
    def calls(self) -> list[FakeCall]:
        """Every call inside an instance."""
        return [call for instance in self.instances for call in instance.calls]

    async def start(self, version: Version, env: dict[str, str], on_gone: Callable[[Instance], None]) -> FakeInstance:
        """See `ports.instances.InstanceHost`."""
        if self.closed:
            raise Unavailable("the host is closed", retry_after_s=1)
        self.started += 1
        start = FakeStart(version, env)
        self.starts.append(start)
        if self.failing is not None:
            start.fail(self.failing)
        elif self.auto_s is not None:
            asyncio.get_running_loop().call_later(self.auto_s, start.ready)
        try:
            kind, start_ms = await start.outcome
        finally:
            self.starts.remove(start)
        report = StartReport(kind=kind, start_ms=start_ms, forkable=True)
        instance = FakeInstance(version, env, report, next(self._numbers))

        def gone(instance: Instance) -> None:
            self.instances[:] = [other for other in self.instances if other is not instance]
            on_gone(instance)

        instance.on_gone, instance.on_call = gone, self.on_call
        self.instances.append(instance)
        return instance

    async def prepare(self, version: Version, env: dict[str, str]) -> StartReport:
        """See `ports.instances.InstanceHost`."""
        if self.failing is not None:
            raise self.failing
        self.prepared.append(version.key)
        return StartReport(kind="template", forkable=True)

    def plan_of(self, version: Version) -> StartPlan:
        """See `ports.instances.InstanceHost`."""
        return StartPlan(policy=version.spec.start, rung="blank", reason="this host has nothing else")

    def forget(self, version_key: str) -> None:
        """See `ports.instances.InstanceHost`."""
        self.forgotten.append(version_key)

    async def inventory(self) -> dict[str, Any]:
        """See `ports.instances.InstanceHost`."""
        return {"instances": [{"id": one.id, "pid": one.pid, "version": one.version.key} for one in self.instances]}

    async def close(self) -> None:
        """See `ports.instances.InstanceHost`."""
        self.closed = True
        for instance in list(self.instances):
            instance.lose(InstanceLost("the host was closed"))
