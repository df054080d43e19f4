"""Landlock: after it, this process and all it starts can write below the given folders only, whatever is mounted.

Source: landlock(7), Linux `include/uapi/linux/landlock.h`. From ABI 6 on it also keeps signals and abstract Unix
sockets inside. Kernels without Landlock have the mounts alone; `fuyun doctor` says so.
"""

from __future__ import annotations

import os
import struct

from fuyun.runtime import syscalls

_WRITE_FILE, _IOCTL_DEV = 1 << 1, 1 << 15
_WRITES = _WRITE_FILE | 0b1111111110000  # remove and make every kind of file
_SCOPES = 3


def abi() -> int:
    """The kernel's Landlock ABI; 0 where it has none."""
    try:
        return syscalls.call("landlock_create_ruleset", None, 0, 1)
    except OSError:
        return 0


def prepare(writable: tuple[str, ...], touchable: tuple[str, ...]) -> int:
    """A ruleset descriptor: everything may be written below `writable`, existing files below `touchable`. -1 without
    Landlock."""
    version = abi()
    if not version:
        return -1
    handled = _WRITES | (1 << 13 if version >= 2 else 0) | (1 << 14 if version >= 3 else 0)
    handled |= _IOCTL_DEV if version >= 5 else 0
    attributes = struct.pack("=QQQ", handled, 0, _SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = syscalls.call("landlock_create_ruleset", attributes[:size], size, 0)
    for folders, access in ((writable, handled), (touchable, handled & (_WRITE_FILE | 1 << 14 | _IOCTL_DEV))):
        for folder in folders:
            below = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            syscalls.call("landlock_add_rule", ruleset, 1, struct.pack("=Qi", access, below), 0)
            os.close(below)
    return ruleset


def restrict(ruleset: int) -> None:
    """Enforce a ruleset for good; needs no_new_privs. -1 does nothing."""
    if ruleset >= 0:
        syscalls.call("landlock_restrict_self", ruleset, 0)
        os.close(ruleset)
