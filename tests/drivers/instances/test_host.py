"""A real instance host, scene by scene: as whoever runs the tests, and without any right."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import running
from tests.drivers.instances.scenes import run

TESTS = Path(__file__).resolve().parents[2]

#: Plays a scene; "ok" or the traceback.
Play = Callable[[str], str]


@contextmanager
def _player(account: running.Account, folder: Path) -> Iterator[Play]:
    """A process of the account that plays scenes, with the tests that `folder` holds."""
    paths = ":".join(filter(None, (account.env.get("PYTHONPATH"), str(folder))))
    given: dict[str, Any] = {}
    if account.uid is not None:
        given = {"user": account.uid, "group": account.uid, "extra_groups": []}
    player = subprocess.Popen(
        [account.python, "-m", "tests.drivers.instances.scenes.run"],
        env={**account.env, "PYTHONPATH": paths}, cwd=folder,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, **given,
    )  # fmt: skip
    running.trees.add(f"fuyun-rig-{player.pid}")
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
        player.communicate()
    assert player.returncode == 0, "what the player says above was left when its host had ended"


@pytest.fixture(scope="module")
def player() -> Iterator[Play]:
    """Plays scenes as whoever runs the tests."""
    account = running.own_account()
    with _player(dataclasses.replace(account, env={**os.environ, **account.env}), TESTS.parent) as play:
        yield play


@pytest.fixture(scope="module")
def rootless(nobody: running.Account) -> Iterator[Play]:
    """Plays scenes as the account without rights."""
    if os.getuid() != 0:
        pytest.skip("the tests run without rights themselves")
    with tempfile.TemporaryDirectory(prefix="fuyun-scenes-", dir="/tmp") as name:
        folder = Path(name)
        shutil.copytree(TESTS, folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        folder.chmod(0o755)
        env = {**nobody.env, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent"}
        with _player(dataclasses.replace(nobody, env=env), folder) as play:
            yield play


@pytest.mark.parametrize("name", run.scenes())
def test_scene(name: str, player: Play) -> None:
    found = player(name)
    assert found == "ok", found


@pytest.mark.parametrize("name", run.scenes())
def test_scene_without_rights(name: str, rootless: Play) -> None:
    found = rootless(name)
    assert found == "ok", found
