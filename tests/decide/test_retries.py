"""What follows a failed attempt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.decide import retries
from fuyun.decide.retries import BACKOFFS, Again, GiveUp, Tried, after, class_of
from fuyun.domain import errors
from fuyun.domain.errors import FuyunError


def tree(root: type[FuyunError] = FuyunError) -> list[type[FuyunError]]:
    return [root, *(below for child in root.__subclasses__() for below in tree(child))]


ERRORS = st.sampled_from(tree()).map(lambda kind: kind("x"))


def tried(attempts: int = 1, failures: int = 1, **fields: float) -> Tried:
    values = {"max_attempts": 3, "expires_s": 1e6, **fields}
    return Tried(attempts=attempts, failures=failures, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.FunctionRaised("x"), "function"), (errors.FunctionOutOfMemory("x"), "function"),
        (errors.FunctionTimedOut("x"), "timeout"), (errors.Throttled("x"), "throttle"),
        (errors.Unavailable("x"), "platform"), (errors.StorageFull("x"), "platform"),
        (errors.Internal("x"), "platform"), (errors.InstanceLost("x"), "platform"),
        (errors.BadRequest("x"), "client"), (errors.NotFound("x"), "client"),
        (errors.LoopDetected("x"), "client"), (errors.PayloadTooLarge("x"), "client"),
    ],
)  # fmt: skip
def test_every_error_has_a_class(error: FuyunError, kind: str) -> None:
    assert class_of(error) == kind


def test_waits_double_and_are_told() -> None:
    error = errors.FunctionRaised("x")
    waits = [after(error, tried(n, n, max_attempts=99), 0.0, lambda: 1.0) for n in range(1, 12)]
    assert [wait.at_s for wait in waits if isinstance(wait, Again)] == [
        1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300,
    ]  # fmt: skip
    assert after(error, tried(), 100.0, lambda: 0.0) == Again(100.5)
    assert after(errors.Throttled("x"), tried(9, 0), 0.0, lambda: 1.0) == Again(60.0), "counted by attempts"


def test_an_error_may_ask_for_more_time() -> None:
    assert after(errors.Unavailable("x", retry_after_s=20), tried(1, 0), 5.0, lambda: 0.0) == Again(25.0)
    assert after(errors.Unavailable("x", retry_after_s="soon"), tried(1, 0), 5.0, lambda: 0.0) == Again(5.25)


@given(error=ERRORS, attempts=st.integers(1, 200), failures=st.integers(0, 200), most=st.integers(1, 100),
       now_s=st.floats(0, 1e6), left_s=st.floats(-10, 1e5), jitter=st.floats(0, 0.999))  # fmt: skip
def test_decisions_keep_to_the_policy(
    error: FuyunError, attempts: int, failures: int, most: int, now_s: float, left_s: float, jitter: float
) -> None:
    found = Tried(attempts=attempts, failures=min(failures, attempts), max_attempts=most, expires_s=now_s + left_s)
    decision = after(error, found, now_s, lambda: jitter)
    kind = class_of(error)
    if kind == "client":
        assert decision == GiveUp("failed"), "client errors are never retried"
    elif retries.counts(error) and found.failures >= most:
        assert decision == GiveUp("failed")
    elif isinstance(decision, Again):
        assert now_s < decision.at_s < found.expires_s
        assert decision.at_s - now_s <= BACKOFFS[kind].longest_s + 1e-6 * now_s
    else:
        assert decision == GiveUp("expired")
        assert left_s <= BACKOFFS[kind].longest_s
