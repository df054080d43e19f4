"""Named crash points: places where a test may kill the process to prove that nothing accepted is lost.

`FUYUN_CRASH_AT=name[:n]` ends the process with SIGKILL the n-th time (default 1) that `point(name)` is reached.
Without the variable a point costs one dictionary look-up.
"""

from __future__ import annotations

import os
import signal

_armed: dict[str, int] = {}
for _item in filter(None, os.environ.get("FUYUN_CRASH_AT", "").split(",")):
    _name, _, _nth = _item.partition(":")
    _armed[_name] = int(_nth or 1)


def point(name: str) -> None:
    """Pass the crash point `name`."""
    if name in _armed:
        _armed[name] -= 1
        if _armed[name] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
