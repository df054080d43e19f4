"""Processes that are about to end, told from those that live."""

from __future__ import annotations

import os
import signal
import subprocess

from fuyun.drivers.instances.ending import is_ending
from tests.leaks import state_of
from tests.waiting import wait_until


def test_one_that_lives_is_not_ending_and_a_dead_one_is() -> None:
    with subprocess.Popen(["/bin/sleep", "600"]) as process:
        assert not is_ending(process.pid, keeps=False)
        assert is_ending(process.pid, keeps=True), "it keeps a program, and has none"
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: state_of(process.pid) == "Z", "it to be dead")
        assert is_ending(process.pid, keeps=False)
    assert is_ending(process.pid, keeps=False), "nobody has its number"


def test_a_keeper_with_its_program_lives() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "sleep 600; true"]) as keeper:
        below = wait_until(lambda: _children(keeper.pid), "its program")
        assert not is_ending(keeper.pid, keeps=True)
        os.kill(below[0], signal.SIGKILL)
        os.kill(keeper.pid, signal.SIGKILL)
    assert is_ending(keeper.pid, keeps=True)


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as source:
        return [int(word) for word in source.read().split()]
