"""What `fuyun doctor` says of interpreters, asked as the command asks it."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import pytest

from fuyun.cli.doctor import run_probe
from fuyun.drivers.instances.interpreters import Interpreters
from fuyun.runtime import gate, probe, pythons
from tests.interpreters import make_interpreter


def checks(folders: str) -> dict[str, Any]:
    """The checks by name."""
    return {item["name"]: item for item in run_probe("/tmp", "127.0.0.1", [], folders)}


def test_the_interpreter_of_each_runtime_is_the_platforms_choice() -> None:
    found = checks("")
    own = Interpreters()
    assert own.newest().executable in found["runtime python3"]["found"]
    for name in {item.runtime for item in own.all() if item.works} - {own.newest().runtime}:
        assert own.by_runtime(name).executable in found[f"runtime {name}"]["found"]


def test_a_build_that_is_not_optimised_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = make_interpreter(tmp_path / "plain", configure="--enable-shared")
    fast = make_interpreter(tmp_path / "fast", configure="--enable-optimizations")
    monkeypatch.setattr(pythons, "candidates", lambda folders: iter(folders.split(":")))
    told = {item["name"]: item for item in probe.interpreters(f"{plain}:{fast}")}["runtime python3"]
    assert (told["state"], told["todo"]) == ("ok", "")
    assert told["found"] == f"{platform.python_version()} ({fast}), optimised build"
    told = {item["name"]: item for item in probe.interpreters(str(plain))}["runtime python3"]
    assert told["state"] == "limited"
    assert told["found"] == f"{platform.python_version()} ({plain}), not an optimised build"
    assert told["todo"].startswith("install an optimised build: apt-get install python3")


def test_the_platforms_own_interpreter_is_told() -> None:
    told = checks("")["platform runs on"]
    assert told["found"].startswith(platform.python_version())
    assert (told["state"] == "ok") == told["found"].endswith(", optimised build")


@pytest.mark.parametrize("possible", [True, False])
def test_builds_without_a_sandbox_are_told(monkeypatch: pytest.MonkeyPatch, possible: bool) -> None:
    def attempt(action: object) -> tuple[bool, str]:
        return possible, "created" if possible else "Operation not permitted (EPERM)"

    monkeypatch.setattr(probe, "attempt", attempt)
    told = {item["name"]: item for item in probe.namespaces()}["dependency builds"]
    assert told["state"] == ("ok" if possible else "limited")
    assert ("WITHOUT ISOLATION" in told["found"]) is not possible
    assert ("requirements you trust" in told["todo"]) is not possible


def test_what_network_policies_need_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {item["name"]: item for item in probe.network()}
    assert {name: item["state"] for name, item in told.items()} == dict.fromkeys(told, "ok")
    assert set(told) == {"way out", "nftables", "veth pairs"}
    monkeypatch.setattr(gate, "_FOLDERS", ())
    told = {item["name"]: item for item in probe.network()}
    assert told["way out"]["found"] == "not installed: nft, slirp4netns"
    assert told["nftables"]["found"] == "nft is not installed"
    assert all("apt-get install nftables slirp4netns" in told[name]["todo"] for name in ("way out", "nftables"))
    assert not any(item["required"] for item in told.values())


@pytest.mark.parametrize(
    ("groups", "swaps", "state", "lacking"),
    [
        ("version 1", 2, "ok", ""),
        ("version 1", 1, "limited", "for more it takes swap"),
        ("", 2, "limited", "for more it takes control groups"),
        ("", 1, "limited", "for more it takes control groups and swap"),
    ],
)
def test_what_a_frozen_instance_gives_back_is_told(
    monkeypatch: pytest.MonkeyPatch, groups: str, swaps: int, state: str, lacking: str
) -> None:
    monkeypatch.setattr(probe, "read", lambda path: "\n".join(["Filename", "/swap"][:swaps]))
    told = probe._frozen(groups)
    assert (told["name"], told["state"], told["todo"]) == ("frozen memory", state, lacking)
    assert ("clean pages" in told["found"]) is (state == "limited" and bool(groups))
