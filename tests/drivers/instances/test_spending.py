"""What a tree of processes has taken, seen from outside."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from fuyun.drivers.instances.spending import Spending
from tests.waiting import wait_until

_BURN = "import time\nuntil = time.process_time() + 0.2\nwhile time.process_time() < until: pass\n"
_HOLD = "held = bytearray(64 << 20)\n"
#: Does on each line of its input what it says.
_PROGRAM = "import subprocess, sys\nfor line in sys.stdin:\n    exec(eval(line))\n    print(flush=True)\n"


@pytest.fixture
def program() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        yield started
        started.kill()


def _do(program: subprocess.Popen[str], code: str) -> None:
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write(f"{code!r}\n")
    program.stdin.flush()
    assert program.stdout.readline() == "\n"


def test_its_own_work(program: subprocess.Popen[str]) -> None:
    spending = Spending(program.pid)
    _do(program, _BURN + _HOLD)
    cpu_us, peak_kib = spending.since_last()
    assert cpu_us >= 200_000
    assert peak_kib >= 64 << 10
    again_us, _ = spending.since_last()
    assert again_us < 100_000, "it is told once"


def test_the_work_of_children_that_live_and_that_ended(program: subprocess.Popen[str]) -> None:
    spending = Spending(program.pid)
    child = [sys.executable, "-c", _BURN]
    _do(program, f"subprocess.run({child!r}, check=True)")
    total = [spending.since_last()[0]]
    assert total[0] >= 190_000, "the kernel rounds what ended to hundredths of a second"
    child = [sys.executable, "-c", f"{_BURN}{_HOLD}print(flush=True)\ninput()"]
    _do(program, f"kept = subprocess.Popen({child!r}, stdin=-1, stdout=-1); kept.stdout.readline()")

    def told() -> bool:  # a list of the processes is kept for a moment
        cpu_us, peak_kib = spending.since_last()
        total.append(cpu_us)
        return sum(total) >= 390_000 and peak_kib >= 64 << 10

    wait_until(told, "the child that lives to be counted")
    _do(program, "kept.kill(); kept.communicate()")


def test_nothing_of_one_that_is_gone(program: subprocess.Popen[str]) -> None:
    spending = Spending(program.pid)
    program.kill()
    program.wait()
    assert spending.since_last() == (0, 0)
