"""The invoke path as it is installed where a C compiler is: what holds of the interpreted one holds of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import compiled
from tests import running

ROOT = Path(__file__).resolve().parent.parent.parent

#: Tests that run through the compiled modules, from the parser to the record, and one load on a whole platform.
CHOSEN = (
    "tests/decide/test_instance.py",
    "tests/decide/test_quotas.py",
    "tests/drivers/instances/test_channel.py",
    "tests/drivers/instances/test_channel_garbage.py",
    "tests/services/test_dispatching.py",
    "tests/services/test_pools.py",
    "tests/services/test_pools_over_time.py",
    "tests/services/test_read_ahead.py",
    "tests/services/test_routes.py",
    "tests/services/test_turns.py",
    "tests/transports/gateway",
    "tests/e2e/test_rollout.py::test_a_rollout_with_kills_and_reloads_in_the_middle",
    "tests/e2e/test_compiled.py::test_a_platform_runs_the_tree_it_is_given",
)


def test_a_platform_runs_the_tree_it_is_given(platform: running.Platform) -> None:
    """Without this the load below would say nothing of the compiled modules."""
    maps = Path(f"/proc/{platform.process.pid}/maps").read_text()
    assert ("fuyun__mypyc" in maps) == ("/.state/compiled/" in os.environ.get("PYTHONPATH", ""))


@pytest.mark.slow_lane
@pytest.mark.timeout(500)
def test_the_compiled_invoke_path_passes_the_same_tests() -> None:
    tree = compiled.tree(quick=True)
    env = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    asked = "from fuyun.services import pools; from fuyun.runtime import worker; print(pools.__file__, worker.__file__)"
    found = subprocess.run([sys.executable, "-c", asked], env=env, cwd=tree, capture_output=True, text=True, check=True)
    pools, worker = map(Path, found.stdout.split())
    assert (pools.is_relative_to(tree), pools.suffix) == (True, ".so")
    assert (worker.is_relative_to(tree), worker.suffix) == (True, ".py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *CHOSEN]
    done = subprocess.run(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-8000:]
