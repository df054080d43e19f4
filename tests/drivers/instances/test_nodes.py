"""Which Node.js the host has: told by itself, chosen by name, refused with the reason."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fuyun.domain.errors import HostUnable
from fuyun.drivers.instances.interpreters import Interpreters
from fuyun.drivers.instances.nodes import Nodes, probe
from fuyun.runtime import nodes
from fuyun.runtime import probe as host_probe

INTERPRETERS = Interpreters()
REAL = subprocess.run(["node", "-p", "process.execPath"], capture_output=True, text=True, check=True).stdout.strip()


def installed(folder: Path, answer: str, status: int = 0) -> str:
    """An installation whose Node prints `answer`, whatever it is asked."""
    program = folder / "bin/node"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho '{answer}'\nexit {status}\n")
    program.chmod(0o755)
    return str(program)


def test_the_real_one() -> None:
    node = probe(REAL)
    assert node.works
    assert (
        node.version_text
        == subprocess.run([REAL, "-p", "process.versions.node"], capture_output=True, text=True).stdout.strip()
    )
    assert node.name == f"nodejs{node.version[0]}"
    assert node.npm.endswith("npm-cli.js")
    found = Nodes(INTERPRETERS.newest)
    assert found.get(node.name).name == node.name
    keeper = found.keeper("nodejs")
    assert (keeper.executable, keeper.works) == (INTERPRETERS.newest().executable, True)
    assert keeper.node == found.get("nodejs").executable


@pytest.mark.parametrize(
    ("answer", "status", "problem"),
    [
        ('["16.20.2", "93", "x64"]', 0, "is version 16.20.2; Fuyun runs 18 and newer"),
        ("what?", 0, "gave no sensible answer"), ("no", 1, "is broken: exit code 1"),
    ],
)  # fmt: skip
def test_those_that_do_not_do(tmp_path: Path, answer: str, status: int, problem: str) -> None:
    node = probe(installed(tmp_path, answer, status))
    assert not node.works
    assert problem in node.problem
    assert "does not start" in probe(str(tmp_path / "none")).problem


def test_the_newest_serves_and_names_choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {name: installed(tmp_path / name, f'["{name}.1.0", "1", "x64"]') for name in ("18", "22", "9")}
    monkeypatch.setattr(nodes, "candidates", lambda folders: iter(versions.values()))
    found = Nodes(INTERPRETERS.newest)
    assert found.get("nodejs").executable == versions["22"]
    assert found.get("nodejs18").executable == versions["18"]
    assert found.get("nodejs18").mounts == (str(tmp_path / "18"),)
    with pytest.raises(HostUnable) as refused:
        found.get("nodejs20")
    assert refused.value.detail == "this host has no nodejs20; found: nodejs22, nodejs18"
    assert "is version 9.1.0" in refused.value.hint
    told = {item["name"]: item for item in host_probe.node_runtimes("")}
    assert told["runtime nodejs"]["found"].startswith("22.1.0")
    assert told["runtime nodejs18"]["found"].startswith("18.1.0")
    assert told[f"node {versions['9']}"]["state"] == "limited"


def test_one_that_was_replaced_is_looked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [installed(tmp_path / "old", '["20.0.0", "1", "x64"]')]
    monkeypatch.setattr(nodes, "candidates", lambda folders: iter(paths))
    found = Nodes(INTERPRETERS.newest)
    assert found.get("nodejs").version == (20, 0, 0)
    Path(paths[0]).unlink()
    paths[:] = [installed(tmp_path / "new", '["22.0.0", "1", "x64"]')]
    assert found.get("nodejs").version == (22, 0, 0)


def test_a_host_without_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "candidates", lambda folders: iter(()))
    with pytest.raises(HostUnable, match="this host has no nodejs; found: none"):
        Nodes(INTERPRETERS.newest).get("nodejs")
    (told,) = host_probe.node_runtimes("")
    assert (told["name"], told["state"], told["found"]) == ("runtime nodejs", "limited", "not found")
    assert "apt-get install nodejs npm" in told["todo"]
