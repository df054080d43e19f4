"""What an instance that runs programs has used: all its processes, those that ended included."""

from __future__ import annotations

import os
import time
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from threading import Lock
from time import monotonic_ns

from fuyun.runtime.answers import Meter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fuyun.runtime.program import Household

_U32 = 0xFFFFFFFF
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
#: Fields of /proc/PID/stat after the name (proc(5)): user and system time of children it has waited for.
_CUTIME, _CSTIME = 13, 14


class Spent(Meter):
    """As `Meter`. In a process namespace of our own every process there is the instance's; else only the programs we
    started are looked at, and those below them when they have ended."""

    def __init__(self, household: Household, isolated: bool) -> None:
        super().__init__()
        self._household = household
        self._isolated = isolated
        self._cpu_s = 0.0
        self._peak_kib = 0
        self._lock = Lock()

    def usage(self, started_ns: int) -> tuple[int, int, int]:
        """Run µs since `started_ns`, CPU µs since the last call, peak resident KiB; each fits 32 bits."""
        with self._lock:
            return self._usage(started_ns)

    def _usage(self, started_ns: int) -> tuple[int, int, int]:
        own, ended = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
        cpu_s = own[0] + own[1] + ended[0] + ended[1]
        peak_kib = 0
        for pid in self._pids():
            try:
                cpu_s += _cpu_s(pid)
                peak_kib += _peak_kib(pid)
            except OSError:  # it ended meanwhile
                continue
        self._peak_kib = max(self._peak_kib, own[2] + peak_kib)
        cpu_us = max(0, int((cpu_s - self._cpu_s) * 1e6))
        self._cpu_s = max(self._cpu_s, cpu_s)
        run_us = (monotonic_ns() - started_ns) // 1000
        return min(run_us, _U32), min(cpu_us, _U32), min(self._peak_kib, _U32)

    def _pids(self) -> list[int]:
        if not self._isolated:
            return [program.pid for program in self._household.living()]
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]


def _cpu_s(pid: int) -> float:
    """Its own time by its clock (the number clock_getcpuclockid(3) makes), and what its ended children took."""
    found = time.clock_gettime((~pid << 3) | 2)
    with open(f"/proc/{pid}/stat") as source:
        fields = source.read().rpartition(")")[2].split()
    return found + (int(fields[_CUTIME]) + int(fields[_CSTIME])) * _TICK_S


def _peak_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as source:
        return next((int(line.split()[1]) for line in source if line.startswith("VmHWM:")), 0)
