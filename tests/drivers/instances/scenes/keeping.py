"""The contract of instance hosts on the real one: every clause once as the host sees fit, once from templates."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fuyun.testing.contracts.instances import BROKEN, ECHO, RAISE, SLEEP, Hosted, InstanceHostContract
from tests.drivers.instances.scenes.hosts import rig
from tests.drivers.instances.scenes.rig import LASTING

CODE = {
    ECHO: "def handler(event):\n    return event\n",
    SLEEP: LASTING,
    RAISE: "def handler(event):\n    raise ValueError('no')\n",
    BROKEN: "raise RuntimeError('not today')\n",
}


#: Clauses that end their host.
_ENDING = ("test_closing_ends_everything",)


class LocalHostContract(InstanceHostContract):
    """The clauses; `start` is how the versions ask to be started, `own` says that the host is the clause's own."""

    def __init__(self, start: str, own: bool) -> None:
        self.start, self.own = start, own

    def host(self) -> AbstractAsyncContextManager[Hosted]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Hosted]:
            async with rig(own=self.own) as found:
                yield found.host, lambda name: found.version(CODE[name], start=self.start)

        return opened()


def _scene(clause: str, start: str) -> Callable[[], Awaitable[None]]:
    async def scene() -> None:
        await getattr(LocalHostContract(start, clause in _ENDING), clause)()

    return scene


for _clause in (name for name in vars(InstanceHostContract) if name.startswith("test_")):
    for _start, _suffix in (("auto", ""), ("template", "_from_templates")):
        globals()[_clause.removeprefix("test_") + _suffix] = _scene(_clause, _start)
