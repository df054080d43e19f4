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
def neighbour(either_platform: Platform) -> Iterator[str]:
    either_platform.deploy("neighbour", NEIGHBOUR)
    yield "neighbour"
    either_platform.remove("neighbour")


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


def let_loose(platform: Platform, animal: Animal, answers: list[httpx.Response]) -> None:
    """Deploy and call the animal; the last answer counts."""
    answers.append(platform.try_deploy(animal.name, animal.source, **animal.spec))
    if answers[0].is_success:
        answers.append(platform.invoke(animal.name, {}))
        platform.remove(animal.name)


@pytest.mark.parametrize("animal", ZOO, ids=lambda animal: animal.name)
def test_animal(either_platform: Platform, neighbour: str, animal: Animal) -> None:
    greet(either_platform, neighbour)
    answers: list[httpx.Response] = []
    call = threading.Thread(target=let_loose, args=(either_platform, animal, answers))
    call.start()
    waits = [greet(either_platform, neighbour)]
    while call.is_alive():
        waits.append(greet(either_platform, neighbour))
        call.join(0.02)
    waits.append(greet(either_platform, neighbour))

    assert answers, "no answer at all"
    answer = answers[-1]
    problem = answer.json() if answer.headers.get("content-type", "").endswith("problem+json") else {}
    code = problem.get("code", "" if answer.is_success else f"status {answer.status_code}")
    assert code in animal.earns, answer.text[:2000]
    if code:
        assert problem["detail"]
        assert problem["request_id"]
        assert problem["status"] == answer.status_code
    assert max(waits) < NEIGHBOUR_WITHIN_S


def test_a_version_that_cannot_start_leaves_the_old_one_serving(either_platform: Platform) -> None:
    either_platform.deploy("was-good", "def handler(event, context):\n    return 'good'\n")
    refused = either_platform.try_deploy("was-good", "def handler(event, context:\n")
    assert refused.json()["code"] == "function_load_failed"
    assert either_platform.invoke("was-good", {}).json() == "good"
    either_platform.remove("was-good")


def test_whoever_ends_at_once_still_has_its_last_words(either_platform: Platform) -> None:
    """The kernel tells of the end and the socket of the reason, in either order."""
    codes: list[str] = []

    def deploy(name: str) -> None:
        codes.extend(either_platform.try_deploy(name, "def handler(event:\n").json()["code"] for _ in range(15))

    threads = [threading.Thread(target=deploy, args=(f"broken-{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == ["function_load_failed"] * 90
