"""Whose delivery is next: namespaces take turns, and within each its targets. Pure but for its own state.

A lane is what waits for one target. It has a share: so many of its deliveries run at once, and no more than there is
room for in all. A slot goes to one namespace after the other, there to one lane after the other; one that wants nothing
or may have no more is passed over.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from fuyun.domain.deliveries import Lane


class _State:
    """One lane: when its first is due, how many run and wait."""

    __slots__ = ("due_s", "running", "waiting")

    def __init__(self) -> None:
        self.due_s = math.inf
        self.running = 0
        self.waiting = 0


class Lanes:
    """Every lane in which something waits or runs. `room`: deliveries that run at once, in all."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.running = 0
        self._lanes: dict[str, dict[Lane, _State]] = {}  # by namespace; the order is that of their turns

    # --- what happens

    def wait(self, lane: Lane, due_s: float, count: int = 1) -> None:
        """So many more wait, the first of them until `due_s`."""
        state = self._lanes.setdefault(lane[0], {}).setdefault(lane, _State())
        state.due_s = min(state.due_s, due_s)
        state.waiting += count

    def lease(self, lane: Lane, count: int, due_s: float) -> None:
        """So many of a lane that was `wanted` run now; what else waited there then is due from `due_s` on (infinite for
        nothing)."""
        state = self._lanes.setdefault(lane[0], {}).setdefault(lane, _State())
        state.running += count
        self.running += count
        state.due_s = min(state.due_s, due_s)  # more may have come to wait since it was asked
        state.waiting = max(0, state.waiting - count) if state.due_s < math.inf else 0
        self._tidy(lane)

    def end(self, lane: Lane) -> None:
        """One that ran does not any more."""
        self._lanes[lane[0]][lane].running -= 1
        self.running -= 1
        self._tidy(lane)

    def leave(self, lane: Lane) -> None:
        """One that waited was stopped."""
        state = self._lanes.get(lane[0], {}).get(lane)
        if state is not None:
            state.waiting = max(0, state.waiting - 1)

    def _tidy(self, lane: Lane) -> None:
        lanes = self._lanes[lane[0]]
        state = lanes[lane]
        if not state.running and state.due_s == math.inf:
            del lanes[lane]
            if not lanes:
                del self._lanes[lane[0]]

    # --- what is to be done

    def wanted(self, now_s: float, share_of: dict[Lane, int]) -> list[tuple[Lane, int]]:
        """How many of which lanes may run now. `share_of` has every lane of `due(now_s)`. Those that are given
        something go behind the others, and count as not due until `lease` or `wait` tells."""
        room = self.room - self.running
        given: dict[Lane, int] = {}
        due = {
            namespace: [lane for lane, state in lanes.items() if state.due_s <= now_s]
            for namespace, lanes in self._lanes.items()
        }
        while room > 0 and due:
            for namespace in list(due):
                lanes = due[namespace]
                while lanes:
                    lane = lanes.pop(0)
                    if self._lanes[namespace][lane].running + given.get(lane, 0) < share_of[lane]:
                        given[lane] = given.get(lane, 0) + 1
                        lanes.append(lane)
                        room -= 1
                        break
                if not lanes:
                    del due[namespace]
                if not room:
                    break
        for lane in given:
            lanes_of = self._lanes.pop(lane[0])
            state = lanes_of[lane] = lanes_of.pop(lane)
            state.due_s = math.inf
            self._lanes[lane[0]] = lanes_of
        return list(given.items())

    def due(self, now_s: float) -> list[Lane]:
        """Lanes in which something is due."""
        return [lane for lane, state in self._states() if state.due_s <= now_s]

    def next_s(self, now_s: float) -> float:
        """When the next lane becomes due, after `now_s`; infinite for never."""
        return min((state.due_s for _, state in self._states() if state.due_s > now_s), default=math.inf)

    # --- what is seen of it

    def waiting(self, namespace: str) -> int:
        """How many wait in a namespace, as far as is known."""
        return sum(state.waiting for state in self._lanes.get(namespace, {}).values())

    def gauges(self) -> Iterable[tuple[Lane, int, int, float]]:
        """Every lane: how many wait and run, and since when the first is due (infinite: nothing waits)."""
        return [(lane, state.waiting, state.running, state.due_s) for lane, state in self._states()]

    def _states(self) -> Iterable[tuple[Lane, _State]]:
        return [item for lanes in self._lanes.values() for item in lanes.items()]
