"""Instances that get no CPU: by their control group, or else process by process. A frozen one's memory is taken back
where the kernel does that for a group."""

from __future__ import annotations

import os
import signal
import sys

from fuyun.runtime import launching, watchdog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fuyun.runtime import cgroups
    from fuyun.runtime.children import Child


def freeze(child: Child, frozen: bool) -> None:
    """Stop or go on scheduling all of it."""
    child.frozen = frozen
    try:
        if child.group is not None:
            child.group.freeze(frozen)
            if frozen:
                _reclaim(child.group)
            return
    except OSError as error:
        print(f"freezing by control group failed: {error}", file=sys.stderr)
    for pid in watchdog.tree(child.pid):
        launching.signal_pid(pid, signal.SIGSTOP if frozen else signal.SIGCONT)


def _reclaim(group: cgroups.Group) -> None:
    """In a process of its own, which the warden reaps as it reaps orphans: writing to swap takes its time."""
    if os.fork() == 0:
        try:
            group.reclaim()
        finally:
            os._exit(0)
