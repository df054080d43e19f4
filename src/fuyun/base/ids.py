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


def _renew_after_fork() -> None:
    global _tag
    _tag = secrets.token_hex(5)


os.register_at_fork(after_in_child=_renew_after_fork)


def new_id() -> str:
    """A fresh id; lexicographic order is time order (to the millisecond)."""
    return f"{int(clock.wall_s() * 1000):012x}{_tag}{next(_count) & 0xFFFFFFFFFF:010x}"


def time_of(id_: str) -> float:
    """Wall-clock seconds at which `id_` was made; ValueError when it is no id of ours."""
    if not _ID.fullmatch(id_):
        raise ValueError(f"not a Fuyun id: {id_!r}")
    return int(id_[:12], 16) / 1000
