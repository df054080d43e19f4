"""Doors of the kernel: keyrings, io_uring, bpf, perf, userfaultfd, modules, other sets of system calls."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import struct

from fuyun.testing.attacks.attempt import NEVER, attempt, by_number, number, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fuyun.testing.attacks.attempt import Facts

_KEYS, _SURFACE, _CALLS = "keyrings", "kernel interfaces", "system call numbers"
_SECCOMP = "seccomp"


@attempt(_KEYS, "add_key", "put a key into a keyring", "EPERM", _SECCOMP)
def add_key(facts: Facts) -> object:
    return syscall("add_key", b"user", b"fuyun-attack", b"x", 1, -2)


@attempt(_KEYS, "request_key", "ask for a key of the host's users", "EPERM", _SECCOMP, NEVER)
def request_key(facts: Facts) -> object:
    return syscall("request_key", b"user", b"fuyun-attack", None, -2)


@attempt(_KEYS, "keyctl", "read the session's keyring", "EPERM", _SECCOMP)
def keyctl(facts: Facts) -> object:
    return syscall("keyctl", 0, -2, 1)  # KEYCTL_GET_KEYRING_ID of the process, made


@attempt(_SURFACE, "io_uring", "make a ring whose operations no filter sees", "EPERM", _SECCOMP)
def io_uring(facts: Facts) -> object:
    return syscall("io_uring_setup", 8, ctypes.create_string_buffer(120))


@attempt(_SURFACE, "bpf map", "make a BPF map", "EPERM", _SECCOMP)
def bpf_map(facts: Facts) -> object:
    return syscall("bpf", 0, ctypes.create_string_buffer(struct.pack("=IIII", 2, 4, 8, 1) + bytes(56), 72), 72)


@attempt(_SURFACE, "bpf program", "load a BPF program", "EPERM", _SECCOMP, NEVER)
def bpf_program(facts: Facts) -> object:
    return syscall("bpf", 5, ctypes.create_string_buffer(128), 128)


@attempt(_SURFACE, "perf_event_open", "count what the processor does", "EPERM", _SECCOMP)
def perf(facts: Facts) -> object:
    # PERF_TYPE_SOFTWARE, its size, PERF_COUNT_SW_CPU_CLOCK
    held = ctypes.create_string_buffer(struct.pack("=IIQ", 1, 112, 0) + bytes(96), 112)
    return syscall("perf_event_open", held, 0, -1, -1, 0)


@attempt(_SURFACE, "userfaultfd", "handle page faults itself, which stretches races in the kernel", "EPERM", _SECCOMP)
def userfaultfd(facts: Facts) -> object:
    return syscall("userfaultfd", 1)


@attempt(_SURFACE, "io_setup", "take all the asynchronous I/O contexts that the host has (fs.aio-max-nr)",
         "EPERM", "seccomp: their number is one for the whole host")  # fmt: skip
def io_setup(facts: Facts) -> object:
    return syscall("io_setup", 1, ctypes.create_string_buffer(8))


@attempt(_SURFACE, "inotify", "take all the inotify instances of the platform's user (fs.inotify.max_user_instances)",
         "EPERM", "seccomp: they are counted for all instances together")  # fmt: skip
def inotify(facts: Facts) -> object:
    return syscall("inotify_init1", 0)


@attempt(_SURFACE, "init_module", "load a kernel module", "EPERM", _SECCOMP, NEVER)
def init_module(facts: Facts) -> object:
    return syscall("init_module", b"", 0, b"")


@attempt(_SURFACE, "finit_module", "load a kernel module from a file", "EPERM", _SECCOMP, NEVER)
def finit_module(facts: Facts) -> object:
    return syscall("finit_module", 0, b"", 0)


@attempt(_SURFACE, "delete_module", "unload a kernel module", "EPERM", _SECCOMP, NEVER)
def delete_module(facts: Facts) -> object:
    return syscall("delete_module", b"loop", 0)


@attempt(_SURFACE, "kexec_load", "load another kernel", "EPERM", _SECCOMP, NEVER)
def kexec(facts: Facts) -> object:
    return syscall("kexec_load", 0, 0, None, 0)


@attempt(_SURFACE, "kernel log", "read or size the kernel's log (syslog)", "EPERM", _SECCOMP)
def kernel_log(facts: Facts) -> object:
    return syscall("syslog", 10, None, 0)


@attempt(_SURFACE, "vhangup", "hang up the terminal", "EPERM", _SECCOMP, NEVER)
def vhangup(facts: Facts) -> object:
    return syscall("vhangup")


@attempt(_SURFACE, "personality", "turn off address randomisation for what it starts", "EPERM", _SECCOMP)
def personality(facts: Facts) -> object:
    return syscall("personality", 0x0040000)


@attempt(
    _SURFACE, "terminal injection", "type into the terminal it was started from (TIOCSTI)", "EPERM", _SECCOMP, NEVER
)
def injection(facts: Facts) -> object:
    import fcntl

    return fcntl.ioctl(0, 0x5412, b"x")


@attempt(_CALLS, "new call", "make a system call newer than the filter's list", "ENOSYS",
         "seccomp answers as an older kernel would", NEVER)  # fmt: skip
def new_call(facts: Facts) -> object:
    return by_number(number("mseal"), 0, 0, 0)


@attempt(_CALLS, "second set of numbers", "mount by the numbers of the x32 interface (0x40000000)", "ENOSYS SIGSYS",
         "seccomp: above the list; an OCI runtime's filter ends the process", NEVER)  # fmt: skip
def x32(facts: Facts) -> object:
    return by_number(0x40000000 | number("mount"), b"none", b"/tmp", b"tmpfs", 0, None)


#: mov eax, 20 (getpid); int 0x80; ret
_INT80 = bytes.fromhex("b814000000cd80c3")


@attempt(_CALLS, "32-bit call", "make a system call by the 32-bit interface (int 0x80)", "SIGSYS",
         "seccomp ends the process: the filter is for one architecture", NEVER)  # fmt: skip
def int80(facts: Facts) -> object:
    if platform.machine() != "x86_64":  # no such door; what stands for it is a call of no number
        os.kill(os.getpid(), 31)
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(_INT80)
    return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
