"""The fake host keeps the port's contract; `scenes/keeping.py` runs it on the real one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fuyun.domain.errors import FunctionLoadFailed, FunctionRaised
from fuyun.domain.functions import Artifact, FunctionSpec, Version
from fuyun.ports.instances import Instance, StartReport
from fuyun.testing.contracts.instances import BROKEN, RAISE, SLEEP, Hosted, InstanceHostContract
from fuyun.testing.hosts import FakeCall, FakeHost, FakeInstance


class Actor(FakeHost):
    """A fake host whose functions do what the contract's do."""

    def __init__(self) -> None:
        super().__init__()
        self.on_call = self._act

    def _act(self, call: FakeCall) -> None:
        name = call.instance.version.function
        if call not in call.instance.calls or name == SLEEP:
            return
        if name == RAISE:
            call.fail(FunctionRaised("no"))
        else:
            call.instance.calls.remove(call)
            call.sink.on_result(200, None, call.body, (0, 0, 0))

    async def start(self, version: Version, env: dict[str, str], on_gone: Callable[[Instance], None]) -> FakeInstance:
        self.failing = FunctionLoadFailed("not today") if version.function == BROKEN else None
        return await super().start(version, env, on_gone)

    async def prepare(self, version: Version, env: dict[str, str]) -> StartReport:
        self.failing = FunctionLoadFailed("not today") if version.function == BROKEN else None
        return await super().prepare(version, env)


def fake_version(name: str) -> Version:
    code = Artifact(digest="0" * 64, size_bytes=1)
    return Version(namespace="default", function=name, number=1, spec=FunctionSpec(), code=code, created_s=0.0)


class TestFakeHost(InstanceHostContract):
    def host(self) -> AbstractAsyncContextManager[Hosted]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Hosted]:
            host = Actor()
            yield host, fake_version
            await host.close()

        return opened()
