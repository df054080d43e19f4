"""A function to be called at the platform's address, and how those that call it are asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.running import Platform

#: Permissions to call every function of the namespace.
ALL = {"permissions": {"invoke": ["*"]}}
GREETER = """
from fuyun.sdk import current_context

def handler(event, context):
    if "rawPath" in event:
        return {"statusCode": 202, "headers": {"x-path": event["rawPath"]}, "body": event["body"] + "!"}
    if event.get("fail"):
        raise ValueError("no greeting for " + event["fail"])
    return {"hello": event.get("name"), "from": context.function}
"""


@contextmanager
def with_greeter(platform: Platform) -> Iterator[None]:
    """The platform has it for the time of the block."""
    platform.deploy("greeter", GREETER)
    yield
    platform.remove("greeter")


def invoke(platform: Platform, name: str, event: Any) -> Any:
    """What the function returned."""
    answer = platform.invoke(name, event)
    assert answer.status_code == 200, answer.text
    return answer.json()
