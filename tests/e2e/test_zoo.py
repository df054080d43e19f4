"""Every animal of the zoo earns its error, and its neighbour does not notice."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from fuyun.testing.zoo import ZOO, Animal
from fuyun.testing.zoo.table import NEIGHBOUR
from tests.running import Platform

pytestmark = pytest.mark.e2e

#: A neighbour's warm call may wait behind a busy core, not behind a bad function.
NEIGHBOUR_WITHIN_S = 3.0


@pytest.fixture(scope="module")
def neighbour(platform: Platform) -> Iterator[str]:
    platform.deploy("neighbour", NEIGHBOUR)
    yield "neighbour"
    platform.remove("neighbour")


def greet(platform: Platform, name: str) -> float:
    """Call the neighbour; the seconds it took."""
    began = time.monotonic()
    answer = platform.invoke(name, {"a": 20, "b": 22})
    assert answer.status_code == 200, answer.text
    assert answer.json()["sum"] == 42
    return time.monotonic() - began


def test_the_zoo_is_big_enough() -> None:
    assert len(ZOO) >= 18
    assert len({animal.name for animal in ZOO}) == len(ZOO)


@pytest.mark.parametrize("animal", ZOO, ids=lambda animal: animal.name)
def test_animal(platform: Platform, neighbour: str, animal: Animal) -> None:
    greet(platform, neighbour)
    platform.deploy(animal.name, animal.source, **animal.spec)
    answers: list[httpx.Response] = []
    call = threading.Thread(target=lambda: answers.append(platform.invoke(animal.name, {})))
    call.start()
    waits = [greet(platform, neighbour)]
    while call.is_alive():
        waits.append(greet(platform, neighbour))
        call.join(0.02)
    waits.append(greet(platform, neighbour))
    platform.remove(animal.name)

    assert answers, "the invocation got no answer at all"
    problem = answers[0].json() if answers[0].headers.get("content-type", "").endswith("problem+json") else {}
    code = problem.get("code", "" if answers[0].is_success else f"status {answers[0].status_code}")
    assert code in animal.earns, answers[0].text[:2000]
    if code:
        assert problem["detail"]
        assert problem["request_id"]
        assert problem["status"] == answers[0].status_code
    assert max(waits) < NEIGHBOUR_WITHIN_S
