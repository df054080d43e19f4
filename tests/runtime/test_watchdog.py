"""The watchdog on real processes: what a fork shares is not counted twice, what it holds itself is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from fuyun.runtime import watchdog
from tests.waiting import wait_until

MIB = 1024 * 1024

#: Holds 32 MiB, forks argv[1] children that write over their copy when argv[2] says so, and waits for the end of input.
FAMILY = """
import os, sys
held = bytearray(b"x" * (32 << 20))
ready, told = os.pipe()
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        if sys.argv[2] == "write":
            held[:] = b"y" * len(held)
        os.write(told, b".")
        sys.stdin.read()
        os._exit(0)
for _ in range(int(sys.argv[1])):
    os.read(ready, 1)
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def family(children: int, habit: str) -> Iterator[int]:
    """A process with children; its pid once they all have done what they do."""
    command = [sys.executable, "-I", "-S", "-c", FAMILY, str(children), habit]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid


def test_shared_pages_count_once() -> None:
    with family(6, "read") as pid:
        assert watchdog.private_bytes(pid) > 6 * 32 * MIB
        assert 32 * MIB < watchdog.proportional_bytes(pid) < 80 * MIB
        assert not watchdog.is_over(pid, 100 * MIB)
        assert watchdog.is_over(pid, 30 * MIB)


def test_pages_of_their_own_count_each() -> None:
    with family(3, "write") as pid:
        assert watchdog.proportional_bytes(pid) > 4 * 32 * MIB
        assert watchdog.is_over(pid, 100 * MIB)


@dataclass
class Child:
    kind: str
    pid: int
    memory_bytes: int


@pytest.mark.parametrize(
    ("kind", "limit", "ended"), [("instance", 16, True), ("instance", 512, False), ("zygote", 16, False)]
)
def test_only_instances_over_their_limit_are_ended(kind: str, limit: int, ended: bool) -> None:
    killed: list[str] = []
    with family(1, "read") as pid:
        watchdog.check([Child(kind, pid, limit * MIB)], lambda child, why: killed.append(why))
    assert killed == (["memory"] if ended else [])


def test_what_has_a_limit_of_its_own_does_not_count_for_its_parent() -> None:
    killed: list[int] = []
    with family(2, "write") as pid:
        below = [Child("instance", child, 64 * MIB) for child in watchdog.tree(pid)[1:]]
        template = Child("instance", pid, 64 * MIB)
        watchdog.check([template, *below], lambda child, why: killed.append(child.pid))
        assert killed == []
        watchdog.check([template, below[0]], lambda child, why: killed.append(child.pid))
        assert killed == [pid]


def test_a_process_that_is_gone_holds_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    pid = process.pid
    process.wait()
    wait_until(lambda: watchdog.private_bytes(pid) == 0, "the process to be gone")
    assert watchdog.proportional_bytes(pid) == 0
