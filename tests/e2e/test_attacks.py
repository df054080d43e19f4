"""Attacks from inside instances of every class, as root and rootless (docs/contracts/isolation.md)."""

from __future__ import annotations


import pytest

from fuyun.testing.attacks.attempt import DONE, NEVER, all_attempts
from tests.e2e import attacking
from tests.running import Platform

pytestmark = pytest.mark.e2e

ATTEMPTS = all_attempts()


def tried(platform: Platform, isolation: str, start: str = "blank") -> dict[str, str]:
    """Every attempt's outcome."""
    with attacking.scene(platform, isolation) as facts:
        spec = {"isolation": isolation, "start": start, "timeout_s": 60.0}
        platform.deploy("attacker", attacking.code("runner"), **spec)
        try:
            answer = platform.invoke("attacker", {"facts": facts, "outside": isolation == "process"})
            assert answer.status_code == 200, answer.text
            if isolation == "sandbox":
                assert [one["start"] for one in platform.instances_of("attacker")] == [start]
            attacking.greet(platform)
        finally:
            platform.remove("attacker")
    outcomes: dict[str, str] = answer.json()
    for name, outcome in outcomes.items():
        attacking.note(attacking.column(platform, isolation), name, outcome)
    return outcomes


@pytest.mark.parametrize("start", ["blank", "template"])
def test_nothing_gets_out(either_platform: Platform, start: str) -> None:
    """Of an instance that was a blank, and of one forked from a template (docs/decisions/0003)."""
    outcomes = tried(either_platform, "sandbox", start)
    assert outcomes.keys() == ATTEMPTS.keys()
    wrong = {name: outcome for name, outcome in outcomes.items() if outcome not in ATTEMPTS[name].refused}
    assert wrong == {}, "refused for another reason than the one stated, or not at all"


def test_the_same_succeeds_without_a_sandbox(either_platform: Platform) -> None:
    """Class `process` isolates nothing. Without root the kernel itself refuses much; what it does not, the table
    says."""
    outcomes = tried(either_platform, "process")
    assert outcomes.keys() == {name for name, one in ATTEMPTS.items() if one.outside != NEVER}
    if not either_platform.account.uid:
        refused = {name: outcome for name, outcome in outcomes.items() if outcome != DONE}
        assert refused == {}, "the attempt cannot show that a refusal is the sandbox's doing"
