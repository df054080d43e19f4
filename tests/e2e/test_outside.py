"""What comes from systems of others, on a real platform that is killed while it comes."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import httpx
import pytest

from tests import postgres
from tests.running import Platform
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SECRET = "s3cr3t of both"
CODE = """
def handler(event, context):
    print("took", event["id"], event["type"], event["data"]["n"])
"""


def post(platform: Platform, number: int, secret: str = SECRET) -> httpx.Response:
    """What GitHub would post; sent with no key of the platform's."""
    body = json.dumps({"n": number}).encode()
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    fields = {
        "content-type": "application/json", "x-github-event": "push", "x-github-delivery": f"d-{number}",
        "x-hub-signature-256": f"sha256={digest}",
    }  # fmt: skip
    return httpx.post(f"{platform.gateway}/hooks/git", content=body, headers=fields, trust_env=False, verify=False)


def test_what_is_posted_to_a_webhook_arrives_whatever_is_killed(start_platform: Callable[..., Platform]) -> None:
    platform = start_platform()
    assert platform.cli("secret", "set", "GIT", stdin=SECRET.encode()).returncode == 0
    hook = {"name": "git", "webhook": {"path": "/hooks/git", "secrets": ["GIT"]}}
    platform.deploy("hooked", CODE, triggers=[hook])
    assert post(platform, 0, "another secret").status_code == 401
    ids = []
    for round_ in range(2):
        for number in range(round_ * 10, round_ * 10 + 10):
            answer = post(platform, number)
            assert answer.status_code == 202, answer.text
            ids.append(answer.json()["id"])
        platform.kill()
        platform.restart()
    assert [post(platform, number).json()["id"] for number in range(20)] == ids, "known again by what is on the disk"

    def found() -> list[dict[str, Any]]:
        url = f"{platform.api}/v1/namespaces/default/deliveries"
        items: list[dict[str, Any]] = platform.http.get(url, params={"limit": "100"}).json()["items"]
        return items if {one["state"] for one in items} == {"succeeded"} else []

    assert sorted(one["id"] for one in wait_until(found, "every event to be delivered", 30)) == sorted(ids)
    assert post(platform, 99).status_code == 202
    # Lines that were still in memory went with the platforms that were killed.
    line = b"took d-99 com.github.push 99"
    wait_until(lambda: line in platform.cli("logs", "hooked").stdout, "the function to tell of the event", 30)
    (shown,) = json.loads(platform.cli("trigger", "list", "hooked", "--json").stdout)
    assert (shown["kind"], shown["last_s"] is not None) == ("webhook", True)
    metrics = platform.http.get(f"{platform.api}/metrics").text
    told = 'fuyun_webhook_requests_total{function="hooked",how="repeated",namespace="default",trigger="git"} 20.0'
    assert told in metrics


TELLER = """
def handler(events, context):
    for event in events:
        context.queues.send("seen", event["data"]["key"]["id"])
"""


def test_changes_of_postgresql_arrive_whatever_is_killed(start_platform: Callable[..., Platform]) -> None:
    with postgres.running() as server:
        platform = start_platform(FUYUN_REACH="127.0.0.1")
        assert platform.cli("queue", "create", "seen").returncode == 0
        assert platform.cli("secret", "set", "DB", stdin=server.address().encode()).returncode == 0

        async def write(first: int, last: int, *before: str) -> None:
            db = await asyncpg.connect(server.address())
            for text in (*before, *(f"INSERT INTO orders VALUES ({number})" for number in range(first, last))):
                await db.execute(text)
            await db.close()

        asyncio.run(write(0, 0, "CREATE TABLE orders (id int PRIMARY KEY)"))
        source = {"postgres": {"secret": "DB", "tables": ["orders"]}, "policy": {"batch_size": 5}}
        platform.deploy("teller", TELLER, triggers=[source], permissions={"queues": ["seen"]})

        def listed() -> dict[str, Any]:
            (found,) = json.loads(platform.cli("trigger", "list", "teller", "--json").stdout)
            return found if found["lag_bytes"] is not None and not found["problem"] else {}

        wait_until(listed, "the trigger to read", 30)
        wait_until(lambda: slots(server) == 1, "the slot to be there", 30)
        asyncio.run(write(0, 40))
        platform.kill()
        asyncio.run(write(40, 60))
        server.kill()
        platform.restart()
        server.start()
        asyncio.run(write(60, 70))
        base = f"{platform.api}/v1/namespaces/default/queues/seen/messages"
        seen: set[int] = set()

        def all_seen() -> bool:
            found = platform.http.get(base, params={"limit": "100"})
            assert found.status_code == 200, found.text
            seen.update(one["event"]["data"] for one in found.json()["messages"])
            return seen == set(range(70))

        wait_until(all_seen, "every change to be taken", 60, every_s=0.3)
        platform.remove("teller")
        wait_until(lambda: slots(server) == 0, "the server to keep nothing any more", 30)


def slots(server: postgres.Server) -> int:
    async def ask() -> int:
        db = await asyncpg.connect(server.address())
        found = await db.fetchval("SELECT count(*) FROM pg_replication_slots")
        await db.close()
        return int(found)

    return asyncio.run(ask())
