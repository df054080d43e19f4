"""A bus of a real platform: what passes a rule reaches its function, across the death of the platform."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.running import Platform
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

CODE = """
def handler(event, context):
    print("took", event["id"], event["data"], event.get("fuyunhops"))
"""


def lines(platform: Platform) -> list[str]:
    """What the function has printed."""
    return [text for text in platform.cli("logs", "bus-listener").stdout.decode().splitlines() if "took" in text]


def cli(platform: Platform, *arguments: str) -> Any:
    """The JSON that a command prints."""
    done = platform.cli(*arguments, "--json")
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_a_rule_leads_events_to_a_function_and_replays_do(platform: Platform) -> None:
    platform.deploy("bus-listener", CODE)
    cli(platform, "bus", "create", "orders", "--archive", "1h")
    transform = '{"values": {"id": "$.data.id"}, "template": {"order": "{id}"}}'
    cli(platform, "bus", "rule", "orders", "paid", "--to", "function:bus-listener", "--filter", "{type: order.paid}",
        "--transform", transform)  # fmt: skip
    [taken] = cli(platform, "bus", "publish", "orders", "--type", "order.paid", "--data", '{"id": 17}')["ids"]
    cli(platform, "bus", "publish", "orders", "--type", "order.made", "--data", '{"id": 18}')
    wait_until(lambda: lines(platform), "the event to reach the function")
    assert [line.partition("took ")[2] for line in lines(platform)] == [f"{taken} {{'order': 17}} 1"]
    assert [one["type"] for one in cli(platform, "bus", "types", "orders")] == ["order.made", "order.paid"]
    again = cli(platform, "bus", "replay", "orders", "--since", "1h", "--to", "function:bus-listener")
    wait_until(lambda: len(lines(platform)) == 3, "the replay to reach the function")
    [shown] = cli(platform, "bus", "replays", "orders")
    assert (shown["id"], shown["state"], shown["sent"]) == (again["id"], "done", 2)
    refused = platform.cli("bus", "rule", "orders", "paid", "--to", "function:x", "--filter", "{type: {prefx: a}}")
    assert (refused.returncode, b"did you mean 'prefix'?" in refused.stderr) == (2, True)
    assert platform.cli("bus", "delete", "orders", "--yes").returncode == 0
    platform.remove("bus-listener")
