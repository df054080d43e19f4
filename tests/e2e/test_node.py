"""What `fuyun node` and `fuyun fn get` say of a real platform, as root and without rights."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from tests.running import Platform
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

PLAIN = "def handler(event, context):\n    return 1\n"
SOCKET = "import socket\nkept = socket.socket()\n" + PLAIN
SLOW = "sum(range(3_000_000))\n" + PLAIN


def processes(platform: Platform) -> list[dict[str, Any]]:
    ran = platform.cli("node", "--json")
    assert ran.returncode == 0, ran.stderr.decode()
    found: list[dict[str, Any]] = json.loads(ran.stdout)["processes"]
    return found


def of(platform: Platform, function: str) -> dict[str, dict[str, Any]]:
    """Its processes by kind."""
    return {one["kind"]: one for one in processes(platform) if one["version"].startswith(f"default/{function}@")}


def start_of(platform: Platform, function: str) -> dict[str, str]:
    ran = platform.cli("fn", "get", function, "--json")
    assert ran.returncode == 0, ran.stderr.decode()
    found: dict[str, str] = json.loads(ran.stdout)["start"]
    return found


def test_the_node_shows_what_it_holds_and_what_that_saves(either_platform: Platform) -> None:
    platform = either_platform
    platform.deploy("slow", SLOW, start="template", idle_timeout_s=3600)
    assert platform.invoke("slow").json() == 1
    wait_until(lambda: {"template", "instance"} <= of(platform, "slow").keys(), "a template and an instance")
    found = of(platform, "slow")
    for one in found.values():
        assert 0 < one["private_bytes"] <= one["rss_bytes"]
        assert 0 < one["pss_bytes"] <= one["rss_bytes"]
    assert found["template"]["saved_ms"] > 0, "loading takes longer than a fork"
    assert (found["instance"]["start"], found["instance"]["saved_ms"] > 0) == ("template", True)
    kinds = {"platform", "warden", "zygote", "blank"}
    wait_until(lambda: kinds <= {one["kind"] for one in processes(platform)}, "a blank, among others", 20)
    others = {one["kind"]: one for one in processes(platform)}
    assert kinds <= others.keys()
    for kind in ("zygote", "blank"):
        assert others[kind]["saved_ms"] > 0
        assert others[kind]["pss_bytes"] > 0
    platform.remove("slow")


def test_how_a_version_starts_is_chosen_by_what_its_import_did(either_platform: Platform) -> None:
    platform = either_platform
    platform.deploy("slow", SLOW, start="template")
    platform.deploy("holding", SOCKET)
    platform.deploy("asking", SLOW, start="blank")
    assert start_of(platform, "slow")["rung"] in ("template", "spare")
    holding, asking = start_of(platform, "holding"), start_of(platform, "asking")
    assert "a socket is open" in holding["reason"]
    assert holding["rung"] in ("blank", "zygote")
    assert (asking["policy"], asking["reason"]) == ("blank", "the version asks to start from blanks")
    for name in ("slow", "holding", "asking"):
        platform.remove(name)


def zygotes(platform: Platform) -> set[int]:
    return {one["pid"] for one in processes(platform) if one["kind"] == "zygote"}


def test_plain_starts_share_no_interpreter(either_platform: Platform) -> None:
    platform = either_platform
    code = "def handler(event, context):\n    return [hash('fuyun'), id(object)]\n"
    before = zygotes(platform)
    platform.deploy("plain", code, start="plain")
    keys = set()
    for _ in range(3):
        keys.add(platform.invoke("plain").json()[0])
        for one in platform.instances_of("plain"):
            os.kill(one["pid"], signal.SIGKILL)
        wait_until(lambda: not platform.instances_of("plain"), "its instance to be gone")
    assert len(keys) == 3, "those forked from one interpreter share its key of hashes"
    plan = start_of(platform, "plain")
    assert (plan["rung"], plan["reason"]) == ("none", "the version asks for interpreters of its own")
    platform.remove("plain")
    assert len(zygotes(platform) - before) <= 1, "none that served one start is left, but the one that may serve others"
