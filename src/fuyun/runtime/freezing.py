"""Instances that get no CPU: by their control group, or else process by process."""

from __future__ import annotations

import signal
import sys

from fuyun.runtime import launching, watchdog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fuyun.runtime.children import Child


def freeze(child: Child, frozen: bool) -> None:
    """Stop or go on scheduling all of it."""
    child.frozen = frozen
    try:
        if child.group is not None:
            child.group.freeze(frozen)
            return
    except OSError as error:
        print(f"freezing by control group failed: {error}", file=sys.stderr)
    for pid in watchdog.tree(child.pid):
        launching.signal_pid(pid, signal.SIGSTOP if frozen else signal.SIGCONT)
