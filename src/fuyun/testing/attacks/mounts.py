"""Mounts and roots: every call that shows a process more of a file system than it was given."""

from __future__ import annotations

import os
import struct

from fuyun.testing.attacks.attempt import FENCED, NEVER, attempt, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fuyun.testing.attacks.attempt import Facts

_MOUNTS = "mounts"
_SECCOMP = "seccomp, and no capability"
_BIND, _REMOUNT, _RDONLY, _DETACH = 4096, 32, 1, 2


def _fresh() -> bytes:
    path = f"/tmp/mount-{os.getpid()}"
    os.makedirs(path, exist_ok=True)
    return path.encode()


@attempt(_MOUNTS, "mount tmpfs", "mount a file system of its own", "EPERM", _SECCOMP, FENCED)
def mount_tmpfs(facts: Facts) -> object:
    return syscall("mount", b"none", _fresh(), b"tmpfs", 0, None)


@attempt(_MOUNTS, "mount proc", "mount another procfs, without hidepid", "EPERM", _SECCOMP, FENCED)
def mount_proc(facts: Facts) -> object:
    return syscall("mount", b"none", _fresh(), b"proc", 0, None)


@attempt(_MOUNTS, "mount sysfs", "mount sysfs", "EPERM", _SECCOMP, FENCED)
def mount_sysfs(facts: Facts) -> object:
    return syscall("mount", b"none", _fresh(), b"sysfs", 0, None)


@attempt(_MOUNTS, "bind mount", "show / a second time in /tmp", "EPERM", _SECCOMP, FENCED)
def bind_mount(facts: Facts) -> object:
    return syscall("mount", b"/", _fresh(), None, _BIND, None)


@attempt(_MOUNTS, "remount", "make the root writable", "EPERM", _SECCOMP, FENCED)
def remount(facts: Facts) -> object:
    target = b"/code" if os.path.isdir("/code") else _fresh()
    if target != b"/code":
        syscall("mount", target, target, None, _BIND, None)
    return syscall("mount", None, target, None, _BIND | _REMOUNT, None)


@attempt(_MOUNTS, "unmount", "take /proc away, and see what was below it", "EPERM", _SECCOMP, FENCED)
def unmount(facts: Facts) -> object:
    return syscall("umount2", b"/proc", _DETACH)


@attempt(_MOUNTS, "pivot_root", "make another folder the root", "EPERM", _SECCOMP, FENCED)
def pivot_root(facts: Facts) -> object:
    target = _fresh()
    if os.getuid() == 0:  # a mount point is wanted; where that is refused, so is this
        syscall("mount", b"none", target, b"tmpfs", 0, None)
        os.chdir(target)
    return syscall("pivot_root", b".", b".")


@attempt(_MOUNTS, "chroot", "chroot, from where .. leads out", "EPERM", _SECCOMP)
def chroot(facts: Facts) -> object:
    return syscall("chroot", b"/tmp")


@attempt(_MOUNTS, "fsopen", "make a file system without mounting it", "EPERM", _SECCOMP)
def fsopen(facts: Facts) -> object:
    return syscall("fsopen", b"tmpfs", 0)


@attempt(_MOUNTS, "open_tree", "clone the tree of mounts", "EPERM", _SECCOMP, FENCED)
def open_tree(facts: Facts) -> object:
    return syscall("open_tree", -100, b"/", 1)


@attempt(_MOUNTS, "move_mount", "move a mount", "EPERM", _SECCOMP, FENCED)
def move_mount(facts: Facts) -> object:
    target = _fresh()
    tree = syscall("open_tree", -100, b"/proc", 1) if os.getuid() == 0 else 0
    return syscall("move_mount", tree, b"", -100, target, 4)


@attempt(_MOUNTS, "mount_setattr", "make the root's mount writable", "EPERM", _SECCOMP, FENCED)
def mount_setattr(facts: Facts) -> object:
    return syscall("mount_setattr", -100, b"/", 0, struct.pack("=QQQQ", 0, _RDONLY, 0, 0), 32)


@attempt(_MOUNTS, "statmount", "list every mount by its number", "ENOSYS", "seccomp: calls newer than the list", NEVER)
def listmount(facts: Facts) -> object:
    return syscall("listmount", struct.pack("=IIQQ", 24, 0, 2**64 - 1, 0), bytes(256), 16, 0)


@attempt(_MOUNTS, "swap", "give the host another swap file", "EPERM", _SECCOMP, NEVER)
def swap(facts: Facts) -> object:
    return syscall("swapon", b"/tmp", 0)


@attempt(_MOUNTS, "quota", "change the quotas of a file system", "EPERM", _SECCOMP, NEVER)
def quota(facts: Facts) -> object:
    return syscall("quotactl", 0, b"/tmp", 0, 0)


@attempt(_MOUNTS, "accounting", "have the host write accounts of every process into a file", "EPERM", _SECCOMP, NEVER)
def accounting(facts: Facts) -> object:
    return syscall("acct", b"/tmp/accounts")


@attempt(_MOUNTS, "fanotify", "watch whole file systems", "EPERM", _SECCOMP)
def fanotify(facts: Facts) -> object:
    return syscall("fanotify_init", 0, 0)
