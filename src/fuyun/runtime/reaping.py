"""What the warden does about the dead: control groups of instances that ended, children that nobody else waits for."""

from __future__ import annotations

import os

from fuyun.runtime import launching, watchdog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fuyun.runtime import cgroups


def clear(group: cgroups.Group) -> bool:
    """Remove a group; what is left in it (of an instance without a process namespace) is ended first."""
    if group.remove():
        return True
    for pid in group.pids():
        launching.kill_pid(pid)
    return False


def status_of(pidfd: int) -> int | None:
    """How the process that a pidfd is about has ended, negative for a signal; None when that is another's to see: a
    template reaps its own children."""
    try:
        found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def reap_all() -> None:
    """Collect every child that has ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def reap_orphans(watched: set[int]) -> None:
    """Collect what was re-parented to us; `watched` pids are left for their own `waitid`."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid in watched:
            return
        os.waitid(os.P_PID, found.si_pid, os.WEXITED)


def end_strays(watched: set[int]) -> None:
    """End what instances without a namespace and a group left behind: processes that have become children of process 1,
    which is us, and that we did not start. Elsewhere nothing can tell them from others' processes."""
    if os.getpid() != 1:
        return
    for pid in watchdog.tree(1)[1:]:
        if pid not in watched and _parent(pid) == 1:
            for member in watchdog.tree(pid, frozenset(watched)):
                launching.kill_pid(member)


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status") as source:
            return next((int(line.split()[1]) for line in source if line.startswith("PPid:")), 0)
    except OSError:
        return 0
