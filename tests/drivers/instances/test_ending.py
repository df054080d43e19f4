"""Processes that are about to end, told from those that live."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

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


def test_a_keeper_that_has_not_noticed_the_end_of_its_program_is_ending() -> None:
    code = "import subprocess, time; subprocess.Popen(['sleep', '600']); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code]) as keeper:
        below = wait_until(lambda: _children(keeper.pid), "its program")
        assert not is_ending(keeper.pid, keeps=True)
        os.kill(below[0], signal.SIGKILL)
        wait_until(lambda: state_of(below[0]) == "Z", "its program to be dead")
        assert is_ending(keeper.pid, keeps=True)
        assert not is_ending(keeper.pid, keeps=False)
        keeper.kill()


def test_a_program_whose_first_thread_alone_has_ended_lives() -> None:
    thread = "import threading, time; threading.Thread(target=time.sleep, args=(600,)).start()"
    program = f"{thread}; import ctypes; ctypes.CDLL(None).pthread_exit(None)"
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {program!r}]); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code]) as keeper:
        below = wait_until(lambda: _children(keeper.pid), "its program")
        wait_until(lambda: state_of(below[0]) == "Z", "its first thread to end")
        assert not is_ending(keeper.pid, keeps=True)
        os.kill(below[0], signal.SIGKILL)
        keeper.kill()
