"""up, down and status with a real platform: one data directory, one platform; nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fuyun.cli import rundir
from fuyun.domain.errors import Conflict, HostUnable
from tests.waiting import wait_until

FUYUN = [sys.executable, "-m", "fuyun.cli.main"]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Runs `fuyun` with a home of its own; what still runs on `tmp_path/data` at the end is stopped."""
    env = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    for name in ("FUYUN_API", "FUYUN_KEY", "FUYUN_NAMESPACE"):
        env.pop(name, None)

    def fuyun(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*FUYUN, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)

    yield fuyun
    if rundir.find_running(tmp_path / "data"):
        fuyun("down", "--data", str(tmp_path / "data"))


def up(run: Run, data: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return run("up", "--detach", "--data", str(data), "--port", "0", "--api-port", "0", "--s3-port", "0", *more)


@pytest.mark.e2e
def test_a_platform_in_the_background(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert run("status").returncode == 1
    started = up(run, data)
    assert started.returncode == 0, started.stderr
    gateway, api, s3 = (line.split()[1] for line in started.stdout.splitlines())
    config = tmp_path / "config/fuyun/config.yaml"
    assert f"key in {config}" in started.stderr
    assert config.stat().st_mode & 0o777 == 0o600
    assert "fk_" not in started.stdout + started.stderr + (data / rundir.LOG).read_text()
    running = rundir.find_running(data)
    assert running is not None
    assert (running.api, running.gateway, running.s3) == (api, gateway, s3)
    # It is nobody's child and of no terminal.
    assert os.getsid(running.pid) == running.pid

    found = json.loads(run("status", "--json").stdout)
    assert (found["pid"], found["api"], found["functions"], found["role"]) == (running.pid, api, 0, "admin")
    assert found["uptime_s"] >= 0
    assert found["memory_bytes"] > 10 * 2**20

    second = up(run, data)
    assert second.returncode == 5
    assert f"by process {running.pid} at {api}" in second.stderr
    foreground = run("up", "--data", str(data), "--port", "0", "--api-port", "0", "--s3-port", "0")
    assert (foreground.returncode, foreground.stdout) == (5, "")

    stopped = run("down", "--data", str(data))
    assert (stopped.returncode, stopped.stderr) == (0, "stopped\n")
    assert not rundir.is_held(data)
    assert not (data / rundir.STATE).exists()
    assert run("down", "--data", str(data)).returncode == 4
    wait_until(lambda: run("status").returncode == 1, "the address to be silent")


@pytest.mark.e2e
def test_a_killed_platform_comes_back_with_its_key(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert up(run, data).returncode == 0
    running = rundir.find_running(data)
    assert running is not None
    process = rundir.Process(running.pid)
    process.signal(signal.SIGKILL)
    assert process.wait(10)
    process.close()
    assert (data / rundir.STATE).exists()
    assert rundir.find_running(data) is None
    assert up(run, data).returncode == 0
    assert run("status").returncode == 0


@pytest.mark.e2e
def test_a_port_in_use_is_said_by_the_command_that_was_typed(run: Run, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        failed = run(
            "up", "--detach", "--data", str(tmp_path / "data"), "--port", port, "--api-port", "0", "--s3-port", "0"
        )
    assert failed.returncode == 1
    assert port in failed.stderr
    assert "--port" in failed.stderr
    # Nothing had been started that would tell of itself first.
    assert failed.stderr.startswith(f"error [host_unable]: port {port} of 127.0.0.1 is in use\nhint: ")
    assert not rundir.is_held(tmp_path / "data")


def test_settings_that_make_no_sense_start_nothing(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "config.yaml").write_text("drain: 3\n")
    failed = up(run, data)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert "config.yaml: 'drain' is not a setting; did you mean 'drain_s'?" in failed.stderr
    assert not (data / rundir.LOCK).exists()


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    state = rundir.RunState(os.getpid(), 1.0, "0", "http://api")
    with rundir.hold(tmp_path, state):
        assert rundir.find_running(tmp_path) == state
        with pytest.raises(Conflict, match=f"by process {os.getpid()} at http://api"), rundir.hold(tmp_path, state):
            pass
        assert rundir.find_running(tmp_path) == state
    assert rundir.find_running(tmp_path) is None
    with rundir.hold(tmp_path, state):
        pass


def test_a_state_file_that_is_damaged_is_not_believed(tmp_path: Path) -> None:
    state = rundir.RunState(os.getpid(), 1.0, "0")
    with rundir.hold(tmp_path, state):
        (tmp_path / rundir.STATE).write_text('{"pid": ')
        assert rundir.find_running(tmp_path) is None
        assert rundir.is_held(tmp_path)
        with pytest.raises(Conflict, match="by another process"), rundir.hold(tmp_path, state):
            pass


def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(HostUnable, match="cannot be used"),
        rundir.hold(tmp_path / "file", rundir.RunState(1, 1.0, "0")),
    ):
        pass
