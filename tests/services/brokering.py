"""Messages of real brokers into functions, while brokers and platforms are killed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from fuyun.domain.errors import FunctionRaised
from fuyun.domain.triggers import Policy, Trigger
from fuyun.testing.contracts.brokers import Place
from fuyun.testing.hosts import FakeCall
from tests.services.events import Events
from tests.services.platforms import Platform

_LONG_S = 45.0


class Brokering:
    """A platform whose function f takes what a place has. `taken` is what f took, in that order."""

    def __init__(self, place: Place, events: Events) -> None:
        self.place = place
        self.events = events
        self.taken: list[Any] = []
        self.batches: list[list[dict[str, Any]]] = []
        self.poison: Callable[[Any], bool] = lambda value: False
        events.handler = self._call

    def _call(self, call: FakeCall) -> None:
        batch = json.loads(call.body)
        self.batches.append(batch)
        values = [event.get("data") for event in batch]
        if any(map(self.poison, values)):
            call.fail(FunctionRaised("ValueError: no"))
            return
        self.taken += values
        call.answer()

    async def deploy(self, **policy: Any) -> None:
        """Deploy f with the place's trigger."""
        trigger = Trigger(policy=Policy(**policy), **{self.place.kind: self.place.trigger})
        await self.events.platform.deploy("f", triggers=(trigger,))
        self.events.path.bindings.changed()
        await self.until(lambda: self.connected, "the trigger to have its broker")

    @property
    def connected(self) -> bool:
        """Whether the trigger has its broker."""
        found = [progress.connected_s for progress in self.events.path.brokers.progress.values()]
        return bool(found) and all(found)

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait for it."""
        for _ in range(int(_LONG_S / 0.02)):
            if condition():
                return
            await asyncio.sleep(0.02)
        progress = self.events.path.brokers.progress
        raise AssertionError(f"waited {_LONG_S:g} s for {what}; {progress}, {len(self.taken)} taken")

    async def dead(self) -> list[Any]:
        """Data of the dead letters of f."""
        found = []
        for delivery in await self.events.list(states=("failed",)):
            _, parcel = await self.events.store.get("default", delivery.id)
            batch = json.loads(parcel.body) if parcel.body else []
            found += [event["data"] for event in batch]
        return sorted(found)


def play(scene: Callable[[Brokering], Any], place: Place) -> None:
    """Run a scene in real time."""

    async def main() -> None:
        failed: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failed.append(context))
        platform = Platform(0.0)
        await platform.dispatcher.open()
        events = Events(platform)
        await events.open()
        try:
            await scene(Brokering(place, events))
        finally:
            await events.scope_of_test.close()
            await events.close()
            await platform.dispatcher.close(5.0)
            events.database.close()
        assert failed == []
        assert events.failed == []

    asyncio.run(main())


def everything_killed(place: Place, *, ordered: bool = True, exact: bool = True, kills: int = 2) -> None:
    """Messages flow while the broker is killed `kills` times and the platform twice: every one is taken, or is a dead
    letter, and no one both; in order where the source has it. `exact`: also no dead letter is there twice."""
    count = 240

    async def scene(b: Brokering) -> None:
        b.poison = lambda value: value % 40 == 7
        await b.deploy(batch_size=8, max_attempts=1, bisect=True)
        sent = 0
        for part in range(6):
            await place.publish(*(str(number).encode() for number in range(sent, sent + count // 6)))
            sent += count // 6
            if part in (1, 3)[:kills]:
                half = sent // 2
                await b.until(lambda half=half: len(b.taken) > half, "half of them")
                await place.restart()
            if part in (2, 3):
                await b.events.restart()
        wanted = {number for number in range(count) if number % 40 != 7}
        await b.until(lambda: {*b.taken} == wanted, "all of them")
        poison = [number for number in range(count) if number % 40 == 7]
        for _ in range(500):
            dead = await b.dead()
            if {*dead} == {*poison}:
                break
            await asyncio.sleep(0.02)
        assert sorted({*dead}) == poison
        if exact:
            assert dead == poison
        if ordered:
            first = list(dict.fromkeys(b.taken))
            assert first == sorted(first)
        await b.until(
            lambda: not any(one.held for one in b.events.path.brokers.progress.values()), "nothing to be held"
        )
        before = len(b.taken)
        await b.events.restart()
        await place.publish(b"100000")
        await b.until(lambda: b.taken[-1] == 100000, "what came after all that")
        assert b.taken[before:] == [100000], "what was settled does not come again"

    play(scene, place)
