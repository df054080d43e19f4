"""The hosts of scenes: one that stays open and is lent to one scene after another, or one of a scene's own."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from fuyun.drivers.instances.host import LocalHost
from tests.drivers.instances.scenes.rig import Rig, interpreter_of
from tests.leaks import command_of, descendants

#: Options that a host reads whenever it needs them: the shared one takes them for as long as it is lent.
_TAKEN = {"spare_from_ms", "template_from_ms", "template_budget_bytes"}
#: What the shared host has zygotes of from the beginning, so that no scene adds one.
_RUNTIMES, _CLASSES = ("python3", "nodejs"), ("sandbox", "process")


@contextmanager
def store() -> Iterator[Path]:
    """An empty folder that everyone may look into."""
    root = Path(tempfile.mkdtemp(prefix="fuyun-rig-", dir="/tmp"))
    root.chmod(0o755)
    try:
        yield root
    finally:
        shutil.rmtree(root)


@asynccontextmanager
async def _opened(**options: Any) -> AsyncIterator[Rig]:
    with store() as root:
        found = Rig(root, **options)
        try:
            await found.host.open()
            yield found
        finally:
            async with asyncio.timeout(20):
                await found.host.close()


class Shared:
    """The open host of this process. Nobody may end it or its zygotes, nor count on what its counters say."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._rig: Rig | None = None
        self._lent = False
        self._blanks: dict[str, int] = {}

    async def open(self) -> None:
        """Start it, with everything that a scene may need of it."""
        opened = await self._stack.enter_async_context(_opened(tree=f"fuyun-rig-{os.getpid()}.shared"))
        blanks = opened.host._blanks
        families = [
            blanks.family(interpreter_of(runtime), isolation) for runtime in _RUNTIMES for isolation in _CLASSES
        ]
        for family in families:
            blanks.refill(family)
        count = opened.host._ground.options.blanks
        await opened.until(lambda: all(family.up.is_set() for family in families), "its zygotes")
        full = [family for family in families if family.isolation == "sandbox"]
        await opened.until(lambda: all(len(family.blanks) == count for family in full), "its blanks")
        nodes = [blank.pid for family in full if family.interpreter.node for blank in family.blanks]
        await opened.until(lambda: all(map(_runs_node, nodes)), "Node in its blanks")
        self._rig, self._blanks = opened, _reserve_of(opened.host)

    async def close(self) -> None:
        """End it."""
        self._rig, self._lent = None, False
        await self._stack.aclose()

    @property
    def is_open(self) -> bool:
        """Whether it is."""
        return self._rig is not None

    def check(self) -> None:
        """Nothing may have changed since it was given back."""
        left = self._left(self._rig.host) if self._rig is not None else "nothing"
        assert not left, f"left in the host: {left}"

    @asynccontextmanager
    async def lend(self, options: dict[str, Any]) -> AsyncIterator[Rig]:
        """The host with these options; what the scene has made is given up afterwards."""
        assert self._rig is not None, "the shared host is closed"
        assert not self._lent, "the shared host is lent already: one of two at once is to be the scene's own"
        rig, self._lent = self._rig, True
        ground = rig.host._ground
        usual, ground.options = ground.options, dataclasses.replace(ground.options, **options)
        yield rig  # after a scene that fails it is not lent again
        ground.options = usual
        await self._clear(rig)
        self._lent = False

    async def _clear(self, rig: Rig) -> None:
        """Give up what there is beside zygotes and blanks, until nothing is left of it and the blanks are back."""
        left: dict[str, Any] = {}
        try:
            async with asyncio.timeout(15):
                while left := self._left(rig.host):
                    for key in rig.keys:
                        rig.host.forget(key)
                    surplus = [blank for f in rig.host._blanks._families.values() for blank in list(f.blanks)[1:]]
                    others = [one for one in rig.host._ground.processes.values() if one.kind != "blank"]
                    for process in [*others, *surplus]:  # one that was made for a start that was given up is kept
                        process.kill("the scene is over")
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"left in the host: {left}") from None
        for kept in (rig.keys, rig.gone, rig.lines):
            kept.clear()

    def _left(self, host: LocalHost) -> dict[str, Any]:
        """What a host that only waits to be lent does not have, by where it is."""
        templates, layers = host._templates, host._layers
        waiting = {blank for family in host._blanks._families.values() for blank in family.blanks}
        places: dict[str, Any] = {
            "processes": [one.kind for one in host._ground.processes.values() if one not in waiting],
            "templates": [*templates._templates, *templates._leaving, *templates.reasons],
            "zygotes of layers": [*layers._zygotes, *layers._leaving, *layers._refused, *layers._apart],
            "being made": [*host._making, *layers._making],
            "of versions": [*host._init_ms, *host._reserve._waiting],
            "blanks": {} if (found := _reserve_of(host)) == self._blanks else found,
        }
        return {place: found for place, found in places.items() if found}


def _runs_node(pid: int) -> bool:
    return any("worker.js" in command_of(below) for below in descendants(pid))


def _reserve_of(host: LocalHost) -> dict[str, int]:
    """Ids of all zygotes, with how many blanks wait, are being made and are waited for."""
    families = host._blanks._families.values()
    return {family.zygote: len(family.blanks) + 100 * (family.spawning + len(family.waiters)) for family in families}


SHARED = Shared()


@asynccontextmanager
async def rig(*, own: bool = False, **options: Any) -> AsyncIterator[Rig]:
    """An open host. A scene that ends hosts, wardens or zygotes, or asks how many of something there are in all, takes
    its `own`; so does one with options that are told when a host is opened."""
    if own or options.keys() - _TAKEN:
        async with _opened(**options) as found:
            yield found
    else:
        async with SHARED.lend(options) as found:
            yield found
