"""Virtual time: an event loop whose clock jumps to the next timer as soon as nothing else is left to do."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from fuyun.base import clock

T = TypeVar("T")

#: What the wall clock says at the beginning, in seconds since the epoch.
START_S = 1_800_000_000.0


class _Selector(selectors.SelectSelector):
    """Never waits: what would be waited for has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("deadlock: nothing is ready and no timer is set")
            self.now_s += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """For tests without threads and sockets: sleeping an hour takes no time, and every run is the same."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Seconds, from 1000 on."""
        return self._virtual.now_s


@contextmanager
def _clocks_of(loop: VirtualLoop) -> Iterator[None]:
    kept = clock.mono_s, clock.mono_ns, clock.wall_s
    clock.mono_s = loop.time
    clock.mono_ns = lambda: int(loop.time() * 1e9)
    clock.wall_s = lambda: loop.time() - 1000.0 + START_S
    try:
        yield
    finally:
        clock.mono_s, clock.mono_ns, clock.wall_s = kept


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end in virtual time; `fuyun.base.clock` follows it meanwhile."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        with _clocks_of(loop):
            return runner.run(main)
