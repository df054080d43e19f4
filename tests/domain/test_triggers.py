"""Triggers: their names, and what a valid one keeps."""

from __future__ import annotations

import pytest

from fuyun.domain.errors import BadRequest
from fuyun.domain.functions import Asynchronous, FunctionSpec
from fuyun.domain.specs import check_spec
from fuyun.domain.triggers import KINDS, HttpTrigger, Policy, TimerTrigger, Trigger, named

HOURLY = TimerTrigger(cron="0 * * * *")


def test_a_trigger_is_called_what_it_says_or_its_kind() -> None:
    triggers = (
        Trigger(timer=HOURLY), Trigger(name="noon", timer=HOURLY), Trigger(http=HttpTrigger(path="/a")),
        Trigger(timer=HOURLY),
    )  # fmt: skip
    assert [name for name, _ in named(triggers)] == ["timer", "noon", "http", "timer-3"]
    assert [trigger.kind for trigger in triggers] == ["timer", "timer", "http", "timer"]
    assert set(KINDS) >= {"http", "timer"}
    with pytest.raises(BadRequest, match="two triggers are called 'noon'"):
        check_spec(FunctionSpec(triggers=(triggers[1], triggers[1])))


@pytest.mark.parametrize(
    ("trigger", "path", "text"),
    [
        (Trigger(timer=HOURLY, http=HttpTrigger(path="/a")), "triggers[0]", "several kinds: http, timer"),
        (Trigger(timer=HOURLY, name="No"), "triggers[0].name", "'No' is not a valid trigger name"),
        (Trigger(timer=TimerTrigger()), "triggers[0].timer", "nothing about when"),
        (Trigger(timer=TimerTrigger(cron="0 * * * *", every_s=5)), "triggers[0].timer", "cron and every"),
        (Trigger(timer=TimerTrigger(cron="61 * * * *")), "triggers[0].timer.cron", "not a cron schedule"),
        (Trigger(timer=TimerTrigger(every_s=0.5)), "triggers[0].timer.every_s", "0.5 s is out of range"),
        (Trigger(timer=TimerTrigger(at="tomorrow")), "triggers[0].timer.at", "'tomorrow' is no time"),
        (Trigger(timer=TimerTrigger(at="2026-12-24T18:00:00")), "triggers[0].timer.at", "it has no zone"),
        (Trigger(timer=TimerTrigger(every_s=5, zone="Mars/Olympus")), "triggers[0].timer.zone", "not a time zone"),
        (Trigger(timer=TimerTrigger(every_s=5, payload="x" * 70000)), "triggers[0].timer.payload", "70002 bytes"),
        (Trigger(timer=TimerTrigger(every_s=5, alias="A!")), "triggers[0].timer.alias", "'A!' is neither"),
        (Trigger(timer=HOURLY, policy=Policy(batch_size=0)), "triggers[0].batch", "0 is out of range"),
        (Trigger(timer=HOURLY, policy=Policy(max_age_s=1e9)), "triggers[0].max_age", "out of range"),
        (Trigger(timer=HOURLY, policy=Policy(filter={"data.n": [{"odd": True}]})), "triggers[0].filter", "odd"),
        (Trigger(timer=HOURLY, policy=Policy(start="yesterday")), "triggers[0].start", "no time"),
        (Trigger(timer=HOURLY, policy=Policy(dead_letter="bin")), "triggers[0].dead_letter", "'bin' is no target"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(trigger: Trigger, path: str, text: str) -> None:
    with pytest.raises(BadRequest) as raised:
        check_spec(FunctionSpec(triggers=(trigger,)))
    assert raised.value.fields["path"] == path
    assert text in raised.value.detail
    assert raised.value.hint


@pytest.mark.parametrize(
    ("found", "path"),
    [
        (Asynchronous(max_attempts=0), "asynchronous.max_attempts"),
        (Asynchronous(max_age_s=0.5), "asynchronous.max_age_s"),
        (Asynchronous(concurrency=1001), "asynchronous.concurrency"),
        (Asynchronous(on_success="queue:"), "asynchronous.on_success"),
        (Asynchronous(on_failure="queue:q:live"), "asynchronous.on_failure"),
    ],
)
def test_what_is_wrong_with_asynchronous_invocation(found: Asynchronous, path: str) -> None:
    with pytest.raises(BadRequest) as raised:
        check_spec(FunctionSpec(asynchronous=found))
    assert raised.value.fields["path"] == path
