"""What comes from systems of others, on a real platform that is killed while it comes."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

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
