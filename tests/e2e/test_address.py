"""The platform's address inside instances, as root and rootless (docs/contracts/address.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.running import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

GREETER = """
from fuyun.sdk import current_context

def handler(event, context):
    if "rawPath" in event:
        return {"statusCode": 202, "headers": {"x-path": event["rawPath"]}, "body": event["body"] + "!"}
    if event.get("fail"):
        raise ValueError("no greeting for " + event["fail"])
    return {"hello": event.get("name"), "from": context.function}
"""

#: Does what the event's keys say, and tells what came of it.
CALLER = """
import http.client, json, os
from fuyun.sdk import CallError, call, credential

def ask(path, token, method="POST", body=b"{}", headers={}):
    host, port = os.environ["FUYUN_ENDPOINT"].removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    given = {"Authorization": "Bearer " + token} if token else {}
    connection.request(method, path, body, {**given, **headers})
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return [answer.status, data.decode()]

def handler(event, context):
    if "call" in event:
        try:
            return {"result": call(event["call"], event.get("payload"))}
        except CallError as error:
            return {"error": type(error).__name__, "code": error.code, "detail": error.detail, "status": error.status}
    if "token" in event:
        return credential()
    return ask(event["path"], event.get("with", context.credential), event.get("method", "POST"),
               event.get("body", "{}").encode(), event.get("headers", {}))
"""
ALL = {"permissions": {"invoke": ["*"]}}


@pytest.fixture
def greeted(either_platform: Platform) -> Iterator[Platform]:
    """A platform with a function to be called."""
    either_platform.deploy("greeter", GREETER)
    yield either_platform
    either_platform.remove("greeter")


def invoke(platform: Platform, name: str, event: Any) -> Any:
    """What the function returned."""
    answer = platform.invoke(name, event)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("start", ["blank", "template", "plain"])
def test_a_function_calls_another(greeted: Platform, start: str) -> None:
    greeted.deploy("caller", CALLER, start=start, permissions={"invoke": ["greeter"]})
    try:
        found = invoke(greeted, "caller", {"call": "greeter", "payload": {"name": "Ada"}})
        assert found == {"result": {"hello": "Ada", "from": "greeter"}}
        kinds = {one["start"] for one in greeted.instances_of("caller")}
        assert ("template" in kinds) is (start == "template"), kinds
    finally:
        greeted.remove("caller")
