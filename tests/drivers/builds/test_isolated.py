"""The runner of isolation class `process`: exit codes, output, limits, and that nothing survives."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuyun.drivers.builds.isolated import ProcessRunner
from tests import leaks
from tests.waiting import wait_until


def alive(mark: str) -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdigit() and mark in leaks.command_of(int(name))]


async def shell(script: str, folder: Path, timeout_s: float = 20.0, **limits: int) -> tuple[int, list[str]]:
    lines: list[str] = []
    code = await ProcessRunner(**limits)(
        ["/bin/sh", "-c", script],
        ro=[],
        rw=[str(folder)],
        env={"PATH": "/usr/bin:/bin", "MARK": "x"},
        cwd=str(folder),
        network=False,
        timeout_s=timeout_s,
        output=lines.append,
    )
    return code, lines


def test_exit_code_output_environment_and_folder(tmp_path: Path) -> None:
    code, lines = asyncio.run(shell('pwd; echo "$MARK$HOME" >&2; printf "a\\rb\\n\\n  c"; exit 7', tmp_path))
    assert code == 7
    assert lines == [str(tmp_path), "x", "a", "b", "  c"]


def test_a_signal_is_told_as_a_shell_does(tmp_path: Path) -> None:
    assert asyncio.run(shell("kill -SEGV $$", tmp_path))[0] == 128 + 11


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    async def main() -> tuple[int, list[str]]:
        lines: list[str] = []
        argv = ["/nowhere/program"]
        code = await ProcessRunner()(
            argv, ro=[], rw=[], env={}, cwd=str(tmp_path), network=False, timeout_s=20, output=lines.append
        )
        return code, lines

    code, (line,) = asyncio.run(main())
    assert code == 127
    assert "cannot start /nowhere/program" in line


def test_what_the_command_left_running_is_ended(tmp_path: Path) -> None:
    code, _ = asyncio.run(shell("setsid sleep 86411 & setsid sh -c 'setsid sleep 86411 &' & exit 0", tmp_path))
    assert code == 0
    assert alive("86411") == []


def test_a_timeout_ends_all_of_it(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        asyncio.run(shell("setsid sleep 86412 & sleep 86412", tmp_path, timeout_s=0.5))
    assert alive("86412") == []


def test_cancelling_ends_all_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        task = asyncio.get_running_loop().create_task(shell("sleep 86413 & sleep 86413", tmp_path))
        await asyncio.to_thread(wait_until, lambda: alive("86413"), "the command to run")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert alive("86413") == []

    asyncio.run(main())


def test_a_killed_platform_leaves_nothing_running(tmp_path: Path) -> None:
    program = (
        "import asyncio\n"
        "from fuyun.drivers.builds.isolated import ProcessRunner\n"
        "argv = ['/bin/sh', '-c', 'setsid sleep 86414 & sleep 86414']\n"
        "run = ProcessRunner()(argv, ro=[], rw=[], env={'PATH': '/usr/bin:/bin'}, cwd='/', network=False,\n"
        "                      timeout_s=60, output=print)\n"
        "asyncio.run(run)\n"
    )
    platform = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path)
    wait_until(lambda: len(alive("sleep 86414")) >= 2, "the command to run")
    platform.kill()
    platform.wait()
    wait_until(lambda: not alive("86414"), "the command to be ended")


def test_limits_hold(tmp_path: Path) -> None:
    code, lines = asyncio.run(shell("head -c 200000 /dev/zero > big; ulimit -c", tmp_path, file_bytes=100_000))
    assert (tmp_path / "big").stat().st_size == 100_000
    assert lines[-1] == "0"
    assert code == 0
    script = f"exec {sys.executable} -I -S -c 'b = bytearray(10 ** 9)'"
    code, lines = asyncio.run(shell(script, tmp_path, memory_bytes=200 * 2**20))
    assert code == 1
    assert "MemoryError" in lines[-1]


def test_a_flood_without_line_ends_is_cut_not_kept(tmp_path: Path) -> None:
    code, lines = asyncio.run(shell("head -c 3000000 /dev/zero | tr '\\0' x", tmp_path))
    assert code == 0
    assert max(map(len, lines)) <= 4096
