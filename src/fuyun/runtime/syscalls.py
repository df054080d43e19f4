"""System calls that the standard library does not wrap, by number, for x86_64 and aarch64 with glibc.

Each wrapper raises OSError with the call's name. Sources: clone(2), mount(2), the kernel's `fs/namespace.c` for the
mount descriptors (`open_tree`, `fsopen`, `fsmount`, `move_mount`; Linux 5.2), pidfd_open(2), capabilities(7).
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
from contextlib import contextmanager
from functools import partial
from itertools import cycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator

NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
CLONE_PARENT = 0x00008000
_CHILD_SETTID, _CHILD_CLEARTID = 0x01000000, 0x00200000
#: Namespaces of an instance that `clone` creates; the cgroup namespace follows once the instance is in its cgroup.
INSTANCE_NAMESPACES = NEWNS | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET
ALL_NAMESPACES = INSTANCE_NAMESPACES | NEWCGROUP

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
MS_REC, MS_PRIVATE = 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38

#: capability.h: what the warden and a zygote keep.
CAP_DAC_OVERRIDE, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN, CAP_SETFCAP = 1, 5, 6, 7, 21, 31
CAP_SETPCAP, CAP_NET_ADMIN = 8, 12
#: struct __user_cap_header_struct (version 3, this process) and struct __user_cap_data_struct, twice.
_CAP_HEADER, _NO_CAPABILITIES = struct.pack("=Ii", 0x20080522, 0), bytes(24)
_ARM = platform.machine() == "aarch64"
_NR = {
    "clone": (56, 220), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "unshare": (272, 97),
    "capset": (126, 91), "seccomp": (317, 277), "setns": (308, 268), "sethostname": (170, 161),
    "pidfd_send_signal": (424, 424), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "pidfd_open": (434, 434), "mount_setattr": (442, 442),
    "socket": (41, 198), "ioctl": (16, 29), "setresuid": (117, 147), "setresgid": (119, 149),
    "sched_setscheduler": (144, 119), "prlimit64": (302, 261), "memfd_create": (319, 279), "shmget": (29, 194),
    "landlock_create_ruleset": (444, 444), "landlock_add_rule": (445, 445), "landlock_restrict_self": (446, 446),
}  # fmt: skip
NUMBERS = {name: pair[_ARM] for name, pair in _NR.items()}

_libc = ctypes.PyDLL(None, use_errno=True)
_syscall: Any = _libc.syscall
_syscall.restype = ctypes.c_long
_prctl: Any = _libc.prctl
#: This is a rehearsal.
pretending = False
# Looked up once: the first look-up of a name makes an object, which each forked child would do again.
_before_fork = ctypes.pythonapi.PyOS_BeforeFork
_after_fork_in_parent = ctypes.pythonapi.PyOS_AfterFork_Parent
_after_fork_in_child = ctypes.pythonapi.PyOS_AfterFork_Child
_ulong = ctypes.c_ulong
_WORD = 0xFFFFFFFFFFFFFFFF
_SIGCHLD = int(signal.SIGCHLD)
#: The address that `_tid_address` found last and, as a view, what it holds. A forked child finds it valid for itself.
_tid_known: tuple[int, Any] = (0, (0,))


def call(name: str, *arguments: object) -> int:
    """The system call `name`; ints, bytes and None as arguments. OSError on failure."""
    passed: list[Any] = []
    for each in arguments:  # a comprehension or `isinstance` would write to more pages (docs/decisions/0009)
        as_is = each is None or type(each) is bytes
        passed.append(each if as_is else _ulong(each & _WORD))  # type: ignore[operator]
    result = _syscall(ctypes.c_long(NUMBERS[name]), *passed)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return int(result)


@contextmanager
def pretended() -> Iterator[None]:
    """In the block, `call` and `prctl` do nothing and succeed, but for those that only make a descriptor, and `clone`
    returns as in a child and as in a parent, in turns: for a rehearsal."""
    global _syscall, _prctl, pretending
    real = _syscall, _prctl
    harmless = {NUMBERS[name] for name in ("landlock_create_ruleset", "landlock_add_rule", "socket")}
    pids = cycle((0, 1))
    idle = _libc.getppid
    idle.restype = ctypes.c_long

    def pretend(number: Any, *arguments: object) -> int:
        if number.value in harmless:
            return int(real[0](number, *arguments))
        idle(number, *arguments)
        return next(pids) if number.value == NUMBERS["clone"] else 0

    def pretend_prctl(option: int, *arguments: object) -> int:
        idle(option, *arguments)
        return 0

    # `partial` objects are called as foreign functions are: the callers' code is not adapted to a Python function.
    _syscall, _prctl, pretending = partial(pretend), partial(pretend_prctl), True
    try:
        yield
    finally:
        (_syscall, _prctl), pretending = real, False


def _tid_address() -> int:
    """Where glibc caches the main thread's id, by the offset it publishes for debuggers; 0 when it does not."""
    try:
        described = (ctypes.c_uint32 * 3).in_dll(_libc, "_thread_db_pthread_tid")
        _libc.pthread_self.restype = ctypes.c_void_p
        address = _libc.pthread_self() + described[2]
    except (ValueError, AttributeError):
        return 0
    return address if ctypes.c_int.from_address(address).value == os.getpid() else 0


def _cell(address: int) -> memoryview:
    """The number at an address, to be read again and again."""
    return memoryview((ctypes.c_int * 1).from_address(address)).cast("B").cast("i")


def clone(flags: int) -> int:
    """Fork with namespace flags: 0 in the child, its pid in the parent. The caller must be the only thread.

    One `clone` with flags costs 0.8 ms where fork and unshare cost 2.2 ms (DESIGN section 5). glibc's cached thread
    id is renewed by the kernel itself, as its own fork does."""
    global _tid_known
    address, cell = _tid_known
    if cell[0] != os.getpid():
        address = _tid_address()
        _tid_known = address, _cell(address) if address else (0,)
    if address:
        flags |= _CHILD_SETTID | _CHILD_CLEARTID
    _before_fork()
    third, fourth = (0, address) if _ARM else (address, 0)
    none = _ulong(0)
    number_of_call, all_flags = ctypes.c_long(NUMBERS["clone"]), _ulong(flags | _SIGCHLD)
    pid = _syscall(number_of_call, all_flags, none, none, _ulong(third), _ulong(fourth))
    if pid == 0:
        _after_fork_in_child()
        return 0
    number = ctypes.get_errno() if pid < 0 else 0
    _after_fork_in_parent()
    if pid < 0:
        raise OSError(number, f"clone: {os.strerror(number)}")
    return int(pid)


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2); empty strings pass NULL."""
    encode = os.fsencode
    call("mount", encode(source) or None, encode(target) or None, encode(kind) or None, flags, encode(data) or None)


def bind(source: str, target: str, read_only: bool = True, device: bool = False) -> None:
    """Bind `source` with what is mounted below it; nosuid, nodev (unless a device node) and read-only as asked."""
    mount(source, target, "", MS_BIND | MS_REC)
    attributes = MS_NOSUID | (MS_RDONLY if read_only else 0) | (0 if device else MS_NODEV)
    # struct mount_attr {attr_set, attr_clr, propagation, userns_fd}, AT_RECURSIVE; its bits equal MS_* up to nodev
    try:
        call("mount_setattr", -100, os.fsencode(target), 0x8000, struct.pack("=QQQQ", attributes, 0, 0, 0), 32)
    except OSError:  # before Linux 5.12: the top mount only, keeping what the source's mount had
        kept = os.statvfs(target).f_flag
        locked = kept & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | 1024 | 2048) | (1 << 21 if kept & 4096 else 0)
        mount("", target, "", MS_REMOUNT | MS_BIND | attributes | locked)


def tmpfs_descriptor(size_bytes: int) -> int:
    """A detached tmpfs of `size_bytes` as a mount descriptor that `attach` puts somewhere, also in another
    namespace."""
    context = call("fsopen", b"tmpfs", 1)
    try:
        inodes = str(max(1024, size_bytes // 4096)).encode()
        for key, value in ((b"size", str(size_bytes).encode()), (b"nr_inodes", inodes), (b"mode", b"1777")):
            call("fsconfig", context, 1, key, value, 0)
        call("fsconfig", context, 6, None, None, 0)
        return call("fsmount", context, 1, MS_NOSUID | MS_NODEV)
    finally:
        os.close(context)


def tree_descriptor(path: str) -> int:
    """A detached mount of the folder `path`, read-only, as a mount descriptor for `attach`."""
    descriptor = call("open_tree", -100, os.fsencode(path), 1 | os.O_CLOEXEC)  # OPEN_TREE_CLONE
    try:
        attributes = struct.pack("=QQQQ", MS_RDONLY | MS_NOSUID | MS_NODEV, 0, 0, 0)
        call("mount_setattr", descriptor, b"", 0x1000, attributes, 32)  # AT_EMPTY_PATH
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def attach(descriptor: int, target: str) -> None:
    """Attach a mount descriptor at `target`."""
    call("move_mount", descriptor, b"", -100, target.encode(), 4)


def prctl(option: int, value: int = 0) -> int:
    """prctl(2) with one argument; OSError on failure."""
    result = _prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}: {os.strerror(ctypes.get_errno())}")
    return int(result)


def empty_bounding_set(kept: tuple[int, ...] = ()) -> None:
    """Drop every capability but `kept` from the bounding set: nothing executed later can gain one."""
    for capability in range(64):
        if capability not in kept and _prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) < 0:
            return


def keep_capabilities(kept: tuple[int, ...]) -> None:
    """Give up every permitted and effective capability but these. What a new user namespace gives its first process,
    and what root gets back when it executes a program, are other matters (user_namespaces(7), capabilities(7))."""
    bits = sum(1 << capability for capability in kept)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    call("capset", _CAP_HEADER, struct.pack("=6I", low, low, 0, high, high, 0))


def drop_capabilities() -> None:
    """Give up every permitted, effective and inheritable capability (ambient ones follow)."""
    call("capset", _CAP_HEADER, _NO_CAPABILITIES)


def pidfd_open(pid: int) -> int:
    """A descriptor that becomes readable when `pid` ends."""
    return call("pidfd_open", pid, 0)


def pidfd_kill(pidfd: int, number: int = signal.SIGKILL) -> None:
    """Signal the very process the descriptor was opened for; nothing when it has ended."""
    try:
        call("pidfd_send_signal", pidfd, int(number), None, 0)
    except ProcessLookupError:
        pass
