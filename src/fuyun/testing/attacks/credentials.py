"""Credentials: capabilities, ids, security bits, what survives an exec."""

from __future__ import annotations

import ctypes
import os
import socket
import struct

from fuyun.testing.attacks.attempt import NEVER, Nothing, attempt, libc, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fuyun.testing.attacks.attempt import Facts

_CAPABILITIES, _IDS = "capabilities", "ids"
_NONE = "every set of capabilities is empty, the bounding set too"


def _prctl(option: int, *arguments: int) -> int:
    ctypes.set_errno(0)
    result = int(libc.prctl(option, *[ctypes.c_ulong(one) for one in (*arguments, 0, 0, 0, 0)[:4]]))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


@attempt(_CAPABILITIES, "capabilities", "find a capability in any of its sets", "nothing", _NONE)
def capabilities(facts: Facts) -> object:
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("Cap") and int(line.split()[1], 16):
                return line
    raise Nothing


@attempt(_CAPABILITIES, "capset", "take all capabilities", "EPERM", _NONE)
def capset(facts: Facts) -> object:
    with open("/proc/self/status") as status:
        held = next((int(line.split()[1], 16) for line in status if line.startswith("CapPrm")), 0) or 2**38 - 1
    low, high = held & 0xFFFFFFFF, held >> 32
    return syscall("capset", struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", low, low, 0, high, high, 0))


@attempt(_CAPABILITIES, "ambient capability", "make a capability survive an exec", "EPERM", _NONE, NEVER)
def ambient(facts: Facts) -> object:
    return _prctl(47, 2, 21)  # PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN


@attempt(_CAPABILITIES, "securebits", "change what root means to it (PR_SET_SECUREBITS)", "EPERM", _NONE)
def securebits(facts: Facts) -> object:
    return _prctl(28, 1 << 4)


@attempt(_CAPABILITIES, "own memory map", "redraw its own memory map (PR_SET_MM)", "EPERM", _NONE, NEVER)
def memory_map(facts: Facts) -> object:
    return _prctl(35, 1, 4096)


@attempt(_CAPABILITIES, "no_new_privs", "clear no_new_privs", "EINVAL", "once set it stays set", NEVER)
def no_new_privs(facts: Facts) -> object:
    return _prctl(38, 0)


@attempt(_CAPABILITIES, "looser filter", "install a filter that allows everything, then mount", "EPERM",
         "of several filters the strictest verdict counts", NEVER)  # fmt: skip
def looser_filter(facts: Facts) -> object:
    held = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000), 8)
    syscall("seccomp", 1, 0, struct.pack("HxxxxxxP", 1, ctypes.addressof(held)))
    return syscall("mount", b"none", b"/tmp", b"tmpfs", 0, None)


@attempt(_IDS, "setuid", "become root (setuid 0)", "EINVAL EPERM", "root is not mapped")
def setuid(facts: Facts) -> None:
    os.setresuid(0, 0, 0)


@attempt(_IDS, "another user", "become the user of a neighbour's instance", "EINVAL EPERM", "no other id is mapped")
def another_user(facts: Facts) -> None:
    os.setresuid(1001, 1001, 1001)


@attempt(_IDS, "groups", "join another group", "EPERM", "setgroups is denied in its user namespace")
def groups(facts: Facts) -> None:
    os.setgroups([4, 6])


@attempt(_IDS, "forged credentials", "claim to be process 1 and root on a socket (SCM_CREDENTIALS)", "EPERM EINVAL",
         "the kernel checks them, and root is not mapped")  # fmt: skip
def forged(facts: Facts) -> object:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        return ours.sendmsg([b"x"], [(socket.SOL_SOCKET, 2, struct.pack("iII", 1, 0, 0))])


@attempt(_IDS, "ids on the host", "have root, or more than one user, mapped into its user namespace", "nothing",
         "one id is mapped, and it is not root's")  # fmt: skip
def host_ids(facts: Facts) -> object:
    with open("/proc/self/uid_map") as found:
        inside, outside, count = (int(word) for word in found.read().split())
    if inside == 0 or count != 1:
        return outside
    raise Nothing
