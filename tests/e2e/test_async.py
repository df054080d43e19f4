"""Asynchronous invocation on a real platform: from the gateway, the command line, and other functions; killed, too."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.running import Platform
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

#: Fails in its first attempt when told so; can call itself, or another function, asynchronously.
WORKER = """
from fuyun.sdk import call

def handler(event, context):
    if isinstance(event, dict) and event.get("fail") and context.attempt == 1:
        raise ValueError("not yet")
    if isinstance(event, dict) and event.get("then"):
        return call(event["then"], {"then": event["then"] if event.get("circle") else "", "circle": True}, wait=False)
    return {"attempt": context.attempt}
"""
ASYNC = {"fuyun-invocation-type": "async"}


def deliveries(platform: Platform, **query: str) -> list[dict[str, Any]]:
    answer = platform.http.get(f"{platform.api}/v1/namespaces/default/deliveries", params={"limit": "1000", **query})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def finished(platform: Platform, id_: str) -> dict[str, Any]:
    """The delivery, once nothing happens to it any more."""

    def look() -> dict[str, Any] | None:
        answer = platform.http.get(f"{platform.api}/v1/namespaces/default/deliveries/{id_}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["delivery"]
        return found if found["state"] in ("succeeded", "failed", "expired", "stopped") else None

    return wait_until(look, f"an outcome of {id_}", 30)  # type: ignore[return-value]


def test_accepted_tried_again_and_recorded(platform: Platform) -> None:
    platform.deploy("later", WORKER)
    try:
        answer = platform.http.post(platform.url("later"), json={"fail": True}, headers=ASYNC)
        assert answer.status_code == 202
        found = finished(platform, answer.json()["id"])
        assert (found["state"], found["attempts"], found["origin"]) == ("succeeded", 1, "gateway"), "http events differ"
        ran = platform.cli("invoke", "later", "--async", "-d", '{"fail": true}', "--idempotency-key", "once")
        assert ran.returncode == 0, ran.stderr
        id_ = ran.stdout.decode().strip()
        found = finished(platform, id_)
        assert (found["state"], found["attempts"], found["failures"]) == ("succeeded", 2, 1)
        records = f"{platform.api}/v1/namespaces/default/functions/later/invocations"
        url = f"{records}/{found['invocation']}"
        record = wait_until(lambda: (got := platform.http.get(url)).is_success and got.json(), "the record")
        assert (record["status"], record["attempt"]) == ("ok", 2)
        again = platform.cli(
            "invoke", "later", "--async", "-d", '{"fail": true}', "--idempotency-key", "once", "--json"
        )
        assert json.loads(again.stdout) == {"id": id_, "duplicate": True}
        shown = platform.cli("async", "show", id_, "--json")
        assert json.loads(shown.stdout)["delivery"]["state"] == "succeeded"
        metrics = platform.http.get(f"{platform.api}/metrics").text
        assert 'fuyun_deliveries_total{namespace="default",state="succeeded",target="function:later"} 2.0' in metrics
    finally:
        platform.remove("later")


def test_functions_call_on_and_a_circle_is_cut_off(platform: Platform) -> None:
    platform.deploy("round", WORKER, permissions={"invoke": ["round"]})
    try:
        answer = platform.invoke("round", {"then": "round", "circle": True})
        first = answer.json()

        def chain() -> list[dict[str, Any]]:
            ran = platform.cli("event", "trail", first, "--json")
            found: list[dict[str, Any]] = json.loads(ran.stdout)
            return found if found and found[-1]["error"] == "loop_detected" else []

        found = wait_until(chain, "the circle to be cut off", 60, every_s=0.5)
        # The function that was refused has failed by that, and may have tried again.
        assert sorted({one["hops"] for one in found}) == list(range(34))
        assert found[0]["origin"] == "function round"
        assert found[-1]["state"] == "failed"
    finally:
        platform.remove("round")


def test_a_timer_fires_and_is_paused(platform: Platform) -> None:
    timer = {"timer": {"every_s": 1, "payload": {"a": 1}}, "name": "tick"}
    platform.deploy("clock", WORKER, triggers=[timer])
    try:
        wait_until(lambda: len(deliveries(platform, target="function:clock", state="succeeded")) >= 2, "two ticks", 30)
        assert platform.cli("trigger", "pause", "clock", "tick").returncode == 0
        (shown,) = json.loads(platform.cli("trigger", "list", "clock", "--json").stdout)
        assert (shown["paused"], shown["next_s"]) == (True, None)
        count = len(deliveries(platform, target="function:clock"))
        finished(platform, deliveries(platform, target="function:clock")[-1]["id"])
        assert len(deliveries(platform, target="function:clock")) == count
    finally:
        platform.remove("clock")


def test_what_was_accepted_survives_kill_9(start_platform: Callable[..., Platform]) -> None:
    platform = start_platform()
    platform.deploy("later", "import time\ndef handler(event, context):\n    time.sleep(0.05)\n    return event\n")
    url = platform.url("later")
    accepted = []
    for round_ in range(2):
        for n in range(15):
            headers = {**ASYNC, "fuyun-idempotency-key": f"{round_}-{n}"}
            answer = platform.http.post(url, json={"n": n}, headers=headers)
            assert answer.status_code == 202, answer.text
            accepted.append(answer.json()["id"])
        platform.kill()
        platform.restart()
    for id_ in accepted:
        assert finished(platform, id_)["state"] == "succeeded"
    assert sorted(one["id"] for one in deliveries(platform)) == sorted(accepted)
