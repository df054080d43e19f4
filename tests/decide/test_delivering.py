"""Whose delivery is next."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fuyun.decide.delivering import Lanes
from fuyun.domain.deliveries import Lane


def lane(namespace: str, name: str) -> Lane:
    return namespace, "function", name


LANES = [lane(namespace, name) for namespace in "ab" for name in "fgh"]


def run(lanes: Lanes, shares: dict[Lane, int], now_s: float = 0.0) -> Counter[Lane]:
    """Let run what may, out of lanes that never become empty."""
    given_ = Counter(dict(lanes.wanted(now_s, shares)))
    for one, count in given_.items():
        lanes.lease(one, count, 0.0)
    return given_


def test_namespaces_take_turns_and_within_each_its_lanes() -> None:
    lanes = Lanes(room=12)
    for name in "fgh":
        lanes.wait(lane("a", name), 0.0, 1000)
    lanes.wait(lane("b", "f"), 0.0, 1000)
    shares = dict.fromkeys([*LANES], 100)
    assert run(lanes, shares) == {lane("a", "f"): 2, lane("a", "g"): 2, lane("a", "h"): 2, lane("b", "f"): 6}
    assert run(lanes, shares) == {}, "there is no room"
    total: Counter[str] = Counter()
    for _ in range(40):  # one slot becomes free at a time
        lanes.end(lane("a", "f") if total["a"] < total["b"] else lane("b", "f"))
        (one,) = run(lanes, shares)
        total[one[0]] += 1
    assert total == {"a": 20, "b": 20}


def test_what_is_not_due_is_waited_for() -> None:
    lanes = Lanes(room=5)
    one = lane("a", "f")
    lanes.wait(one, 10.0)
    assert (lanes.due(9.0), lanes.next_s(9.0)) == ([], 10.0)
    assert lanes.wanted(10.0, {one: 9}) == [(one, 5)]
    assert lanes.due(10.0) == [], "it is being asked about"
    lanes.wait(one, 12.0)  # meanwhile something came
    lanes.lease(one, 1, math.inf)
    assert lanes.next_s(10.0) == 12.0
    lanes.end(one)
    assert [(found, waiting, running) for found, waiting, running, _ in lanes.gauges()] == [(one, 1, 0)]
    lanes.wanted(12.0, {one: 9})
    lanes.lease(one, 1, math.inf)
    lanes.end(one)
    assert list(lanes.gauges()) == []
    assert lanes.waiting("a") == 0


STEP = st.tuples(st.sampled_from(["wait", "ask", "end"]), st.sampled_from(LANES), st.integers(1, 5))
STEPS = st.lists(STEP, max_size=60)


@given(steps=STEPS, room=st.integers(1, 9), share=st.integers(1, 4))
def test_never_more_than_the_share_and_the_room_and_nothing_is_forgotten(
    steps: list[tuple[str, Lane, int]], room: int, share: int
) -> None:
    lanes, shares = Lanes(room), dict.fromkeys(LANES, share)
    waiting: Counter[Lane] = Counter()
    running: Counter[Lane] = Counter()

    def ask() -> bool:
        wanted = lanes.wanted(0.0, shares)
        for one, most in wanted:
            count = min(most, waiting[one])
            waiting[one] -= count
            running[one] += count
            lanes.lease(one, count, 0.0 if waiting[one] else math.inf)
        assert all(count <= share for count in running.values())
        assert sum(running.values()) == lanes.running <= room
        return bool(wanted)

    for step, one, count in steps:
        if step == "wait":
            lanes.wait(one, 0.0, count)
            waiting[one] += count
        elif step == "ask":
            ask()
        elif running[one]:
            lanes.end(one)
            running[one] -= 1
    while sum(waiting.values()) or sum(running.values()):
        asked = ask()
        for one in LANES:
            for _ in range(running[one]):
                lanes.end(one)
        assert asked or sum(running.values()), "something waits and nothing is done"
        running.clear()
    assert list(lanes.gauges()) == []
