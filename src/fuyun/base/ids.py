"""Globally unique, time-ordered ids without coordination.

An id is 32 lower-case hex digits: 12 of wall-clock milliseconds, 10 of a random process tag, 10 of a counter.
Two processes collide only if they drew the same 40-bit tag in the same millisecond with the same count.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets

from fuyun.base import clock

_ID = re.compile(r"[0-9a-f]{32}")

_tag = secrets.token_hex(5)
_count = itertools.count(secrets.randbits(32))
_ms = -1  # of the id made last
_start = ""  # and the 22 digits that ids of this millisecond begin with


def _renew_after_fork() -> None:
    global _tag, _ms
    _tag = secrets.token_hex(5)
    _ms = -1


os.register_at_fork(after_in_child=_renew_after_fork)


def new_id() -> str:
    """A fresh id; lexicographic order is time order (to the millisecond)."""
    global _ms, _start
    ms = int(clock.wall_s() * 1000)
    if ms != _ms:
        _ms, _start = ms, f"{ms:012x}{_tag}"
    return _start + "%010x" % (next(_count) & 0xFFFFFFFFFF)


def time_of(id_: str) -> float:
    """Wall-clock seconds at which `id_` was made; ValueError when it is no id of ours."""
    if not _ID.fullmatch(id_):
        raise ValueError(f"not a Fuyun id: {id_!r}")
    return int(id_[:12], 16) / 1000
