"""Thousands of events through every source of the platform's own while its parts are killed: what each source is given,
who kills, and what came of it. `test_loss.py` judges; `make loss` runs it with 50,000 events and 30 kills."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.running import Platform
from tests.waiting import wait_until

SOURCES = ("async", "queue", "fifo", "topic", "stream", "bus")
#: Keys of the sources with order: groups of the queue, keys of the stream.
KEYS = 8
#: Every so many events one makes the function fail for good.
POISON = 211
#: Events that a producer hands over at once, where a source takes several.
BATCH = 50
_NAME = re.compile(rf"(?:{'|'.join(SOURCES)})-k\d+-\d+!?")

#: Writes down that it was called with an event, then does what the event is for, once, however often it is called.
SINK = """
from fuyun.sdk import CallRefused
from fuyun.sdk.streams import new_record

def once(tables, names):
    try:
        tables.write("effects", [{"put": {"name": name}, "if": {"exists": False}} for name in names])
    except CallRefused as error:
        if error.code != "conflict":
            raise
        if len(names) > 1:
            for name in names:
                once(tables, [name])

def handler(events, context):
    events = events if isinstance(events, list) else [events]
    named = [(event.get("data") or event)["name"] for event in events]
    good = [name for name in named if not name.endswith("!")]
    if good:
        context.streams.append_all("seen", [new_record({"name": name}) for name in good])
    for at in range(0, len(good), 25):
        once(context.tables, good[at : at + 25])
    bad = [event.get("id") for event, name in zip(events, named) if name.endswith("!")]
    if bad and len(events) == 1:
        raise ValueError("poison")
    return {"failed": bad} if bad else None
"""
_BASE = "/v1/namespaces/default"


def furnish(platform: Platform) -> None:
    """Everything the events pass, and a function at the end of each way."""

    def put(path: str, body: Any) -> None:
        answer = platform.http.put(f"{platform.api}{_BASE}/{path}", json=body)
        assert answer.is_success, answer.text

    put("streams/seen", {})
    put("tables/effects", {"partition_key": "name"})
    put("queues/dead", {})
    for name, fifo in (("queue", False), ("fifo", True)):
        put(f"queues/{name}", {"fifo": fifo, "visibility_s": 20})
    put("streams/stream", {"partitions": 2})
    put("topics/topic", {})
    put("buses/bus", {})
    policy = {"batch_size": BATCH, "max_attempts": 3, "dead_letter": "queue:dead"}
    triggers: dict[str, list[dict[str, Any]]] = {
        "queue": [{"queue": {"queue": "queue"}, "policy": {**policy, "parallelism": 2}}],
        "fifo": [{"queue": {"queue": "fifo"}, "policy": {**policy, "parallelism": 2}}],
        "stream": [{"stream": {"stream": "stream"}, "policy": {**policy, "bisect": True, "start": "start"}}],
    }
    for source in SOURCES:
        platform.deploy(
            f"take-{source}", SINK, triggers=triggers.get(source, []), concurrency=1, max_instances=4,
            permissions={"streams": ["seen"], "tables": ["effects"]},
            asynchronous={"max_attempts": 3, "on_failure": "queue:dead"},
        )  # fmt: skip
    end = {"max_attempts": 3, "dead_letter": "queue:dead"}
    put("topics/topic/subscriptions/all", {"target": "function:take-topic", **end})
    put("buses/bus/rules/all", {"target": "function:take-bus", "filter": {"type": "made"}})


@dataclass
class Producer:
    """Hands the events of one source over, each until it is acknowledged. `cut`: names in a request whose answer was
    lost, so that a source which cannot tell a repetition may have taken them twice."""

    platform: Platform
    source: str
    count: int
    accepted: list[str] = field(default_factory=list)
    cut: set[str] = field(default_factory=set)

    def names(self) -> Iterator[str]:
        """Of all its events, in order."""
        for number in range(self.count):
            yield f"{self.source}-k{number % KEYS}-{number}" + ("!" if number % POISON == POISON - 1 else "")

    def run(self) -> None:
        """Until all are accepted."""
        headers = {"authorization": f"Bearer {self.platform.key}"}
        names = self.names()
        with httpx.Client(headers=headers, trust_env=False, verify=False, timeout=30.0) as http:
            size = 1 if self.source == "async" else BATCH
            for number in itertools.count():
                batch = list(itertools.islice(names, size))
                if not batch:
                    return
                self._hand_over(http, batch, number)
                self.accepted += batch

    def _hand_over(self, http: httpx.Client, batch: list[str], number: int) -> None:
        path, content, headers = self._request(batch, number)
        pause = threading.Event()
        while True:
            try:
                answer = http.post(f"{self.platform.api}{_BASE}/{path}", content=content, headers=headers)
                if answer.is_success:
                    return
                assert answer.status_code in (429, 503, 507), answer.text
            except httpx.ConnectError:
                pass
            except httpx.TransportError:
                self.cut.update(batch)
            pause.wait(0.05)

    def _request(self, batch: list[str], number: int) -> tuple[str, bytes, dict[str, str]]:
        """The path, body and headers that hand `batch` over."""
        headers = {"content-type": "application/json"}
        data = [{"name": name} for name in batch]
        if self.source == "async":
            once = {"fuyun-invocation-type": "async", "fuyun-idempotency-key": batch[0]}
            return "functions/take-async/invoke", json.dumps(data[0]).encode(), {**headers, **once}
        if self.source == "bus":
            events = [
                {"specversion": "1.0", "id": one["name"], "source": "losing", "type": "made", "data": one}
                for one in data
            ]
            headers["content-type"] = "application/cloudevents-batch+json"
            return "buses/bus/events", json.dumps(events).encode(), headers
        if self.source == "stream":
            records = [{"key": one["name"].split("-")[1], "data": one} for one in data]
            body = {"records": records, "producer": "losing", "sequence": number + 1}
            return "streams/stream/records", json.dumps(body).encode(), headers
        fifo = self.source == "fifo"
        messages = [
            {"data": one, **({"group": one["name"].split("-")[1], "deduplication": one["name"]} if fifo else {})}
            for one in data
        ]
        path = "topics/topic/publish" if self.source == "topic" else f"queues/{self.source}/messages"
        return path, json.dumps({"messages": messages}).encode(), headers


def kill(platform: Platform, rng: random.Random) -> str:
    """SIGKILL to a part that is chosen by chance; which."""
    victim = rng.choice(("platform", "warden", "instances"))
    if victim == "platform":
        platform.kill()
        platform.restart()
        return victim
    host = platform.host()
    pids = [host["warden"]["pid"]] if victim == "warden" else [one["pid"] for one in host["instances"]]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return victim


@dataclass
class Found:
    """What came of it. `seen` are calls in their order, `effects` what was done, `dead` what was given up."""

    producers: dict[str, Producer]
    kills: Counter[str]
    seen: list[str]
    effects: Counter[str]
    dead: Counter[str]

    def rows(self) -> list[dict[str, Any]]:
        """One per source: accepted, outcomes of either kind, duplicates of calls, and of effects."""
        seen = Counter(self.seen)
        return [
            {
                "source": source,
                "accepted": len(one.accepted),
                "done": sum(name in self.effects for name in one.accepted),
                "given_up": sum(name in self.dead for name in one.accepted),
                "repeated_calls": sum(seen[name] - 1 for name in one.accepted if seen[name] > 1),
                "repeated_effects": sum(self.effects[name] - 1 for name in one.accepted if self.effects[name] > 1),
            }
            for source, one in self.producers.items()
        ]

    def order(self, source: str) -> dict[str, list[int]]:
        """Key -> numbers of a source's events as they were first seen."""
        found: dict[str, dict[int, None]] = defaultdict(dict)
        for name in self.seen:
            of, key, number = name.split("-")
            if of == source:
                found[key].setdefault(int(number))
        return {key: list(numbers) for key, numbers in found.items()}


def play(platform: Platform, count: int, kills: int, seed: int, told: Callable[[str], None]) -> Found:
    """Send `count` events through all sources and kill `kills` times while they flow."""
    furnish(platform)
    rng = random.Random(seed)
    producers = {source: Producer(platform, source, count // len(SOURCES)) for source in SOURCES}
    total = sum(one.count for one in producers.values())
    hit = Counter[str]()
    with ThreadPoolExecutor(len(producers)) as pool:
        running = [pool.submit(one.run) for one in producers.values()]
        for number in range(kills):
            due = total * (number + 1) // (kills + 1)
            wait_until(
                lambda due=due: sum(len(one.accepted) for one in producers.values()) >= due or any(
                    one.done() and one.exception() for one in running
                ),
                f"{due} events to be accepted", 600,
            )  # fmt: skip
            hit[kill(platform, rng)] += 1
            told(f"{due} of {total} accepted, {number + 1} of {kills} kills")
        for one in running:
            one.result(600)
    told("all accepted; waiting for the last outcome")
    wait_until(lambda: _is_quiet(platform), "all to be settled", 900, every_s=1.0)
    return Found(producers, hit, _seen(platform), _effects(platform), _dead(platform))


def _ask(platform: Platform, method: str, path: str, **options: Any) -> Any:
    answer = platform.http.request(method, f"{platform.api}{_BASE}/{path}", timeout=120, **options)
    assert answer.is_success, answer.text
    return answer.json()


def _is_quiet(platform: Platform) -> bool:
    """Nothing is on its way any more."""
    for name in ("queue", "fifo"):
        if _ask(platform, "GET", f"queues/{name}")["queue"]["messages"]:
            return False
    if any(group["lag"] for group in _ask(platform, "GET", "streams/stream/groups")):
        return False
    return not any(
        _ask(platform, "GET", "deliveries", params={"state": state, "limit": 1})["items"]
        for state in ("queued", "running", "retrying")
    )


def _seen(platform: Platform) -> list[str]:
    found: list[str] = []
    at = 0
    while True:
        page = _ask(platform, "GET", "streams/seen/records", params={"from": at, "limit": 500})
        found += [one["event"]["data"]["name"] for one in page["records"]]
        if not page["records"]:
            return found
        at = page["next"]


def _effects(platform: Platform) -> Counter[str]:
    found = Counter[str]()
    body: dict[str, Any] = {"limit": 1000}
    while True:
        page = _ask(platform, "POST", "tables/effects/query", json=body)
        found.update(one["item"]["name"] for one in page["items"])
        if not page["next"]:
            return found
        body["after"] = page["next"]


def _dead(platform: Platform) -> Counter[str]:
    """Names that the dead letters speak of; whatever the letter is, its event's name is in it."""
    found = Counter[str]()
    while messages := _ask(platform, "POST", "queues/dead/receive", json={"max": 100})["messages"]:
        for one in messages:
            found.update(set(_NAME.findall(json.dumps(one["event"]))))
        receipts = [one["receipt"] for one in messages]
        _ask(platform, "POST", "queues/dead/acknowledge", json={"receipts": receipts})
    for id_ in _kept_dead(platform):
        found.update(set(_NAME.findall(json.dumps(_ask(platform, "GET", f"deliveries/{id_}")))))
    return found


def _kept_dead(platform: Platform) -> Iterator[str]:
    """Ids of failed deliveries that nothing else was to be told of: they are the dead letters themselves."""
    after = ""
    while True:
        page = _ask(platform, "GET", "deliveries", params={"state": "failed", "limit": 1000, "after": after})
        yield from (one["id"] for one in page["items"] if not one["on_failure"])
        after = page["next"]
        if not after:
            return
