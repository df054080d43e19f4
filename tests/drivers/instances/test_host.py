"""A real instance host, scene by scene: as whoever runs the tests, and without any right."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import running
from tests.drivers.instances.scenes import run

TESTS = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", run.scenes())
def test_scene(name: str) -> None:
    run.play(name)


@pytest.fixture(scope="module")
def rootless(nobody: running.Account) -> Iterator[Callable[[str], str]]:
    """Plays scenes in one process of the account without rights; "ok" or the traceback."""
    if os.getuid() != 0:
        pytest.skip("the tests run without rights themselves")
    with tempfile.TemporaryDirectory(prefix="fuyun-scenes-", dir="/tmp") as folder:
        shutil.copytree(TESTS, Path(folder) / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        os.chmod(folder, 0o755)
        paths = f"{nobody.env['PYTHONPATH']}:{folder}"
        player = subprocess.Popen(
            [nobody.python, "-m", "tests.drivers.instances.scenes.run"],
            env={**nobody.env, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent"}, cwd=folder,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=nobody.uid, group=nobody.uid, extra_groups=[],
        )  # fmt: skip
        with player:
            assert player.stdin is not None
            assert player.stdout is not None

            def play(name: str) -> str:
                player.stdin.write(name.encode() + b"\n")
                player.stdin.flush()
                while line := player.stdout.readline():
                    if line.startswith(b'"'):  # others are the platform's log
                        return str(json.loads(line))
                raise EOFError("the player ended")

            yield play


@pytest.mark.parametrize("name", run.scenes())
def test_scene_without_rights(name: str, rootless: Callable[[str], str]) -> None:
    found = rootless(name)
    assert found == "ok", found
