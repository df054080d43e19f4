"""Whether a process whose channel has closed is about to end, which a busy machine may take its time over (proc(5))."""

from __future__ import annotations

from contextlib import suppress

#: PF_EXITING among the flags in /proc/<pid>/stat (linux/sched.h).
_EXITING = 0x4
#: Fields of /proc/<pid>/stat behind the state.
_FLAGS, _THREADS = 5, 16


def is_ending(pid: int, keeps: bool) -> bool:
    """The kernel takes it apart, or it is gone; or it `keeps` a program that has ended, and has not said so."""
    if _stage(pid)[0]:
        return True
    with suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", "rb") as source:
        # Of a program with threads the first may have ended alone, for as long as it likes.
        return keeps and all(_stage(int(child)) == (True, 1) for child in source.read().split())
    return False


def _stage(pid: int) -> tuple[bool, int]:
    """Whether its first thread has ended or is about to, and how many threads it has."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as source:
            state, *fields = source.read().rpartition(b")")[2].split()
    except OSError:
        return True, 1
    return state in (b"Z", b"X") or bool(int(fields[_FLAGS]) & _EXITING), max(1, int(fields[_THREADS]))
