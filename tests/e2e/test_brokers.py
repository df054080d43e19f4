"""Brokers and a running platform: the guide's examples, and a platform that is killed around an acknowledgement."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import aio_pika
import aiomqtt
import nats
import pytest
import yaml
from redis import Redis

from tests.brokers import MosquittoServer, NatsServer, RabbitServer, RedisServer, Server, running
from tests.running import Platform
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
GUIDE = Path(__file__).parents[2] / "docs/guide/brokers.md"

#: Takes down what it got where a kill does not reach.
KEEPER = """
def handler(events, context):
    for event in events:
        context.streams.append("kept", event["data"])
"""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    made = {"REDIS_URL": RedisServer, "AMQP_URL": RabbitServer, "NATS_URL": NatsServer, "MQTT_URL": MosquittoServer}
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(running(kind(tmp_path_factory.mktemp(name.lower()))))
            for name, kind in made.items()
        }


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def run(platform: Platform, *arguments: str, stdin: bytes = b"") -> str:
    """A command that succeeds; what it printed."""
    ran = platform.cli(*arguments, stdin=stdin)
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout.decode()


def said(platform: Platform, name: str) -> list[str]:
    """What the function said."""
    answer = platform.http.get(f"{platform.api}/v1/namespaces/default/functions/{name}/logs")
    return [line["text"] for line in answer.json()["items"] if line["text"].startswith("seen ")]


async def publish(servers: dict[str, Server]) -> None:
    """A message for each of the guide's functions, and their places."""
    redis = Redis(port=servers["REDIS_URL"].port)
    redis.xadd("orders", {"data": '{"note": "no total"}'})
    redis.xadd("orders", {"data": '{"total": 5}'})
    redis.rpush("jobs", '{"job": 1}')
    redis.close()
    async with await aio_pika.connect(servers["AMQP_URL"].url) as connection:
        channel = await connection.channel()
        await channel.declare_queue("orders", durable=True)
        await channel.default_exchange.publish(aio_pika.Message(b'{"order": 2}'), "orders")
    client = await nats.connect(servers["NATS_URL"].url)
    await client.jetstream().add_stream(name="readings", subjects=["readings.>"])
    await client.jetstream().publish("readings.kitchen.heat", b'{"heat": 3}')
    await client.close()


async def publish_heat(servers: dict[str, Server]) -> None:
    async with aiomqtt.Client("127.0.0.1", servers["MQTT_URL"].port) as client:
        await client.publish("house/kitchen/heat", b'{"heat": 4}', qos=1)


def test_the_guides_examples(start_platform: Callable[..., Platform], servers: dict[str, Any]) -> None:
    platform = start_platform(**{name: server.url for name, server in servers.items()})
    text = GUIDE.read_text()
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(functions:.*?)```", text, re.DOTALL)]
    functions = {name: spec for block in blocks for name, spec in block["functions"].items()}
    assert {*functions} == {"entries", "elements", "orders", "readings", "house"}
    folder = platform.root / "guide"
    folder.mkdir()
    (folder / "fuyun.yaml").write_text(yaml.safe_dump({"name": "guide", "functions": functions}))
    [code] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (folder / "main.py").write_text(code)
    run(platform, "deploy", str(folder))

    def away() -> dict[str, str]:
        found = json.loads(run(platform, "trigger", "list", "--json"))
        return {one["function"]: one["problem"] for one in found if one["problem"] or not one["since_s"]}

    def known() -> dict[str, str] | None:
        found = away()
        return found if {*found} == {"orders", "readings"} and all(found.values()) else None

    problems = wait_until(known, "what is wrong to be told, and the others to be connected", 30)
    assert "no queue 'orders'" in problems["orders"]
    assert "stream not found" in problems["readings"]
    assert b"orders/rabbitmq does nothing since" in platform.cli("trigger", "list").stderr
    asyncio.run(publish(servers))
    asyncio.run(publish_heat(servers))
    wanted = {
        "entries": ["seen redis.entry {'total': 5}"], "elements": ["seen redis.element {'job': 1}"],
        "orders": ["seen rabbitmq.message {'order': 2}"], "readings": ["seen nats.message {'heat': 3}"],
        "house": ["seen mqtt.message {'heat': 4}"],
    }  # fmt: skip
    wait_until(lambda: {name: said(platform, name) for name in wanted} == wanted, "all of them to be told", 60)
    assert away() == {}
    metrics = platform.http.get(f"{platform.api}/metrics").text
    sample = {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in metrics.splitlines()}
    told = {key: value for key, value in sample.items() if key.startswith("fuyun_broker") and "entries" in key}
    assert [value for key, value in told.items() if 'how="done"' in key] == ["1.0"]
    assert [value for key, value in told.items() if 'how="dropped"' in key] == ["1.0"]


@pytest.mark.parametrize("point", ["brokers.before_settle:3", "brokers.after_settle:3"])
def test_a_platform_killed_around_an_acknowledgement_loses_nothing(
    start_platform: Callable[..., Platform], servers: dict[str, Any], point: str, stack: ExitStack
) -> None:
    platform = start_platform(FUYUN_CRASH_AT=point)
    run(platform, "stream", "create", "kept")
    name = f"kill-{point[8:13]}"
    redis = stack.enter_context(closing(Redis(port=servers["REDIS_URL"].port)))
    triggers = [
        {
            "redis": {"url": servers["REDIS_URL"].url, "stream": name, "field": "data"},
            "policy": {"start": "start", "batch_size": 2},
        }
    ]
    for number in range(20):
        redis.xadd(name, {"data": str(number)})
    platform.deploy("keeper", KEEPER, triggers=triggers, permissions={"streams": ["kept"]})
    assert platform.process.wait(60) == -signal.SIGKILL
    platform.settings.pop("FUYUN_CRASH_AT")
    platform.restart()

    def kept() -> list[int]:
        path = f"{platform.api}/v1/namespaces/default/streams/kept/records"
        answer = platform.http.get(path, params={"from": "start", "limit": "500"})
        assert answer.status_code == 200, answer.text
        return [one["event"]["data"] for one in answer.json()["records"]]

    wait_until(lambda: {*kept()} == {*range(20)}, "all of them to be kept", 60)
    firsts = list(dict.fromkeys(kept()))
    assert firsts == sorted(firsts)
    assert len(kept()) <= 22, "one batch at most comes twice"

    def pending() -> int:
        [group] = redis.xinfo_groups(name)
        return group["pending"] + (group["lag"] or 0)

    wait_until(lambda: pending() == 0, "all to be acknowledged", 20)
