"""Whether a process whose channel has closed is about to end, which a busy machine may take its time over (proc(5))."""

from __future__ import annotations

from contextlib import suppress

#: PF_EXITING among the flags in /proc/<pid>/stat (linux/sched.h).
_EXITING = 0x4


def is_ending(pid: int, keeps: bool) -> bool:
    """The kernel takes it apart, or it is gone; or it `keeps` a program and has none any more, and has not said so."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as source:
            state, *fields = source.read().rpartition(b")")[2].split()
    except OSError:
        return True
    if state in (b"Z", b"X") or int(fields[5]) & _EXITING:
        return True
    with suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", "rb") as source:
        return keeps and not source.read()
    return False
