"""Deliveries and triggers at the command line."""

from __future__ import annotations

import json
from typing import Any

from tests.cli.conftest import Cli
from tests.client.api_server import ApiServer

NS = "/namespaces/default"
ONE: dict[str, Any] = {
    "id": "a1", "namespace": "default", "target": "function:hello", "state": "failed", "attempts": 3, "failures": 3,
    "max_attempts": 3, "max_age_s": 3600.0, "accepted_s": 1.0, "at_s": 2.0, "expires_s": 3601.0, "hops": 2,
    "trail": "e1", "origin": "trigger hello/timer", "error": "function_raised", "detail": "ValueError: no",
}  # fmt: skip


def test_deliveries_are_listed_and_shown(api: ApiServer, cli: Cli) -> None:
    api.on("GET", f"{NS}/deliveries", {"items": [ONE], "next": None})
    api.on("GET", f"{NS}/deliveries/a1", {"delivery": ONE, "kind": "call", "payload": {"a": 1}, "payload_base64": ""})
    ran = cli("async", "list", "hello", "--state", "failed", "--limit", "5")
    assert ran.code == 0
    assert "a1\t" in ran.out
    assert api.asked[0].query == {"target": "function:hello", "state": "failed", "limit": "5"}
    ran = cli("async", "dead", "queue:orders")
    assert "ValueError: no" in ran.out
    assert api.asked[1].query == {"target": "queue:orders", "state": "dead", "limit": "100"}
    assert json.loads(cli("async", "list", "--json").out)[0]["id"] == "a1"
    ran = cli("async", "show", "a1")
    assert 'payload\t{"a": 1}' in ran.out
    assert "attempts\t3, 3 of 3 failed" in ran.out
    ran = cli("async", "list", "No!")
    assert ran.code == 2
    assert "KIND:NAME" in ran.err


def test_dead_letters_are_driven_again_and_purged(api: ApiServer, cli: Cli) -> None:
    api.on("POST", f"{NS}/dead-letters/redrive", {"count": 2})
    api.on("POST", f"{NS}/dead-letters/purge", {"count": 7})
    api.on("POST", f"{NS}/deliveries/a1/stop", ONE | {"state": "stopped"})
    ran = cli("async", "redrive", "hello", "--id", "a1", "--id", "a2")
    assert (ran.code, ran.err) == (0, "delivered again: 2\n")
    assert api.asked[0].json() == {"target": "function:hello", "ids": ["a1", "a2"], "limit": 1000}
    assert cli("async", "purge").code == 2, "nobody can be asked"
    ran = cli("async", "purge", "--yes", "--finished", "--json")
    assert json.loads(ran.out) == {"count": 7}
    assert api.asked[1].json() == {"target": "", "ids": [], "limit": 1000, "finished": True}
    assert cli("async", "stop", "a1").err == "stopped a1\n"


def test_a_trail_is_printed_hop_by_hop(api: ApiServer, cli: Cli) -> None:
    api.on("GET", f"{NS}/trail", {"items": [ONE, ONE | {"id": "a2", "hops": 3}], "next": None})
    ran = cli("event", "trail", "e1")
    assert [line.split("\t")[0] for line in ran.out.splitlines()] == ["HOP", "2", "3"]
    assert api.asked[0].query == {"id": "e1"}


def test_triggers_are_listed_paused_and_resumed(api: ApiServer, cli: Cli) -> None:
    one = {
        "function": "hello", "name": "timer", "kind": "timer", "trigger": {"timer": {"cron": "0 8 * * *"}},
        "paused": True, "last_s": 1.0, "next_s": None,
    }  # fmt: skip
    api.on("GET", f"{NS}/triggers", {"items": [one], "next": None})
    for verb in ("pause", "resume"):
        api.on("POST", f"{NS}/functions/hello/triggers/timer/{verb}", one)
    ran = cli("trigger", "list", "hello")
    assert "hello\ttimer\ttimer\tpaused\t" in ran.out
    assert cli("trigger", "pause", "hello", "timer").err == "paused hello/timer\n"
    assert cli("trigger", "resume", "hello", "timer").err == "resumed hello/timer\n"
