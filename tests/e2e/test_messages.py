"""Queues, topics and their triggers on a real platform, and what functions do with them at their address."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.addressed import invoke
from tests.running import Platform
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

BASE = "/v1/namespaces/default"

#: Does what the event says with the queues and topics it may use, and tells what came of it.
SENDER = """
from fuyun.sdk import CallError

def handler(event, context):
    try:
        if "publish" in event:
            return context.topics.publish(event["publish"], event["data"], attributes={"kind": "x"})
        if "send" in event:
            return context.queues.send(event["send"], event["data"])
        found = context.queues.receive(event["receive"], 10, wait_s=event.get("wait_s", 0))
        refused = context.queues.acknowledge(event["receive"], found) if found else {}
        return [[message.data, message.event.get("fuyunhops", 0)] for message in found], refused
    except CallError as error:
        return {"code": error.code, "detail": error.detail}
"""

#: Doubles numbers; fails on what is none, and names it.
WORKER = """
def handler(events, context):
    failed = []
    for event in events:
        if isinstance(event["data"], int):
            context.queues.send("doubled", event["data"] * 2)
        else:
            failed.append(event["id"])
    return {"failed": failed}
"""


def put(platform: Platform, path: str, body: Any) -> None:
    answer = platform.http.put(f"{platform.api}{BASE}/{path}", json=body)
    assert answer.status_code == 200, answer.text


def post(platform: Platform, path: str, body: Any) -> Any:
    answer = platform.http.post(f"{platform.api}{BASE}/{path}", json=body, timeout=40)
    assert answer.status_code == 200, answer.text
    return answer.json()


def run(platform: Platform, *words: str) -> str:
    """A command that must succeed; what it printed."""
    done = platform.cli(*words)
    assert done.returncode == 0, (words, done.stdout.decode(), done.stderr.decode())
    return done.stdout.decode()


def counted(platform: Platform, queue: str) -> int:
    return int(platform.http.get(f"{platform.api}{BASE}/queues/{queue}").json()["queue"]["messages"])


@pytest.fixture
def furnished(platform: Platform) -> Iterator[Platform]:
    """Queues `numbers` (with dead letters), `doubled` and `dead`; topic `news`, which goes to `numbers`."""
    put(platform, "queues/dead", {})
    put(platform, "queues/numbers", {"dead_letter": "dead", "max_receives": 2})
    put(platform, "queues/doubled", {})
    put(platform, "topics/news", {})
    put(platform, "topics/news/subscriptions/s", {"target": "queue:numbers", "filter": {"kind": "x"}})
    yield platform
    for path in ("topics/news", "queues/numbers", "queues/doubled", "queues/dead"):
        platform.http.delete(f"{platform.api}{BASE}/{path}")


def test_a_publication_goes_its_way(furnished: Platform) -> None:
    """Function, topic, queue, trigger, function, queue, function; what fails ends among the dead letters."""
    p = furnished
    p.deploy("worker", WORKER, permissions={"queues": ["doubled"]},
             triggers=[{"queue": {"queue": "numbers"}, "policy": {"batch_size": 5}}])  # fmt: skip
    p.deploy("sender", SENDER, permissions={"queues": ["doubled"], "topics": ["news"]})
    try:
        for data in (1, 2, "no number"):
            assert isinstance(invoke(p, "sender", {"publish": "news", "data": data}), str)
        got: list[list[int]] = []
        while len(got) < 2:
            found, refused = invoke(p, "sender", {"receive": "doubled", "wait_s": 20})
            assert refused == {}
            got += found
        # The topic's event is one hop from its invocation, the trigger's batch two, what the worker sends three.
        assert sorted(got) == [[2, 3], [4, 3]]
        wait_until(lambda: counted(p, "dead") == 1, "the dead letter")
        [dead] = p.http.get(f"{p.api}{BASE}/queues/dead/messages").json()["messages"]
        assert (dead["event"]["data"], dead["origin"]) == ("no number", "numbers")
        assert counted(p, "numbers") == 0
    finally:
        p.remove("worker")
        p.remove("sender")


def test_a_function_uses_what_its_permissions_name(furnished: Platform) -> None:
    p = furnished
    p.deploy("sender", SENDER, permissions={"queues": ["doubled"]})
    try:
        refused = invoke(p, "sender", {"send": "numbers", "data": 1})
        assert refused["code"] == "forbidden"
        assert "permissions name doubled" in refused["detail"]
        assert invoke(p, "sender", {"publish": "news", "data": 1})["code"] == "forbidden"
        assert isinstance(invoke(p, "sender", {"send": "doubled", "data": {"deep": [1]}}), str)
        assert invoke(p, "sender", {"receive": "doubled"}) == [[[{"deep": [1]}, 1]], {}]
        assert invoke(p, "sender", {"receive": "doubled"}) == [[], {}]
    finally:
        p.remove("sender")


def test_the_command_line_moves_messages(furnished: Platform) -> None:
    p = furnished
    done = run(p, "queue", "send", "doubled", '{"n": 1}', "plain text", "-a", "kind=x")
    assert len(done.split()) == 2
    peeked = json.loads(run(p, "queue", "peek", "doubled", "--json"))
    assert [one["event"].get("data") for one in peeked] == [{"n": 1}, None]
    shown = run(p, "queue", "receive", "doubled", "--max", "5", "--ack")
    assert "plain text" in shown
    assert counted(p, "doubled") == 0
    published = json.loads(run(p, "topic", "publish", "news", "1", "-a", "kind=x", "--json"))
    assert published["queues"] == {"numbers": 1}


def test_nothing_is_lost_when_the_platform_is_killed(start_platform: Callable[..., Platform]) -> None:
    p = start_platform()
    put(p, "queues/numbers", {"visibility_s": 2})
    put(p, "queues/doubled", {})
    p.deploy("worker", WORKER, permissions={"queues": ["doubled"]},
             triggers=[{"queue": {"queue": "numbers"}, "policy": {"batch_size": 3, "parallelism": 2}}])  # fmt: skip
    for start in range(0, 120, 20):
        post(p, "queues/numbers/messages", {"messages": [{"data": start + count} for count in range(20)]})
        if start == 60:
            p.kill()
            p.restart()
    wait_until(lambda: counted(p, "numbers") == 0, "all numbers to be doubled", 60)
    found: list[int] = []
    while messages := post(p, "queues/doubled/receive", {"max": 100})["messages"]:
        found += [message["event"]["data"] for message in messages]
    assert set(found) == {2 * number for number in range(120)}
