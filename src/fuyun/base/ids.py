"""Globally unique, time-ordered ids without coordination.

An id is 32 lower-case hex digits: 12 of wall-clock milliseconds, 10 of a random process tag, 10 of a counter.
Two processes collide only if they drew the same 40-bit tag in the same millisecond with the same count.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
from typing import Final, final

from fuyun.base import clock

_ID = re.compile(r"[0-9a-f]{32}")
_next: Final = itertools.count(secrets.randbits(32)).__next__


@final
class _Start:
    """The 22 digits that ids of this millisecond begin with, and whose process they name."""

    def __init__(self) -> None:
        self.ms = -1
        self.text = ""
        self.tag = ""
        self.renew()

    def renew(self) -> None:
        """In a new process."""
        self.tag = secrets.token_hex(5)
        self.ms = -1


_start: Final = _Start()
os.register_at_fork(after_in_child=_start.renew)


def new_id(at_s: float = -1.0) -> str:
    """A fresh id; lexicographic order is time order (to the millisecond). `at_s`: the wall-clock second, for who has
    asked for it already."""
    ms = int((at_s if at_s >= 0 else clock.wall_s()) * 1000)
    start = _start
    if ms != start.ms:
        start.ms, start.text = ms, f"{ms:012x}{start.tag}"
    return start.text + "%010x" % (_next() & 0xFFFFFFFFFF)


def time_of(id_: str) -> float:
    """Wall-clock seconds at which `id_` was made; ValueError when it is no id of ours."""
    if not _ID.fullmatch(id_):
        raise ValueError(f"not a Fuyun id: {id_!r}")
    return int(id_[:12], 16) / 1000
