"""A warm-up call on a real platform: told by the deployment, recorded, and in the way of a version that fails it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.running import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

HANDLER = """
seen = []
def handler(event, context):
    if event == "fail":
        raise LookupError("the model is not there")
    seen.append(event)
    return seen
"""


def records(platform: Platform, function: str) -> list[dict[str, Any]]:
    answer = platform.http.get(f"{platform.api}/v1/namespaces/default/functions/{function}/invocations")
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def test_a_deployment_calls_the_handler_before_its_version_serves(either_platform: Platform) -> None:
    platform = either_platform
    folder = platform.root / "warm"
    folder.mkdir()
    (folder / "handler.py").write_text(HANDLER)
    project = "name: warm\nfunctions:\n  warm:\n    start: template\n    warm_up:\n      event: {event}\n"

    def deploy(event: str) -> Any:
        (folder / "fuyun.yaml").write_text(project.replace("{event}", event))
        return platform.cli("deploy", str(folder))

    ran = deploy("{id: 7}")
    assert ran.returncode == 0, ran.stderr.decode()
    assert "warm-up call: answered in" in ran.stderr.decode() + ran.stdout.decode()
    assert platform.invoke("warm").json()[:1] == [{"id": 7}]
    (called,) = [record for record in records(platform, "warm") if record["attempt"] == 0]
    assert (called["status"], called["version"]) == ("ok", 0)

    ran = deploy("fail")
    assert ran.returncode != 0
    assert "the model is not there" in ran.stderr.decode()
    assert platform.invoke("warm").json()[:1] == [{"id": 7}], "the old one serves on"
    failed = [record for record in records(platform, "warm") if record["attempt"] == 0][-1]
    assert (failed["status"], failed["error"]) == ("error", "function_raised")
    platform.remove("warm")
