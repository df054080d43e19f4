"""The contract of instance hosts on the real one: every clause once as the host sees fit, once from templates."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fuyun.testing.contracts.instances import BROKEN, ECHO, RAISE, SLEEP, Hosted, InstanceHostContract
from tests.drivers.instances.scenes.rig import LASTING, rig

CODE = {
    ECHO: "def handler(event):\n    return event\n",
    SLEEP: LASTING,
    RAISE: "def handler(event):\n    raise ValueError('no')\n",
    BROKEN: "raise RuntimeError('not today')\n",
}


class LocalHostContract(InstanceHostContract):
    """The clauses; `start` is how the versions ask to be started."""

    def __init__(self, start: str) -> None:
        self.start = start

    def host(self) -> AbstractAsyncContextManager[Hosted]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Hosted]:
            async with rig() as found:
                yield found.host, lambda name: found.version(CODE[name], start=self.start)

        return opened()


def _scene(clause: str, start: str) -> Callable[[], Awaitable[None]]:
    async def scene() -> None:
        await getattr(LocalHostContract(start), clause)()

    return scene


for _clause in (name for name in vars(InstanceHostContract) if name.startswith("test_")):
    for _start, _suffix in (("auto", ""), ("template", "_from_templates")):
        globals()[_clause.removeprefix("test_") + _suffix] = _scene(_clause, _start)
