"""What an attempt is, the register of all, and system calls by name."""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    #: What the run tells attempts of the host: paths, process numbers, ports, names (`tests/e2e/test_attacks.py`).
    Facts = dict[str, Any]
    Try = Callable[[Facts], object]

#: Outcomes that are no errno: nothing was refused, what was looked for is not there, the process was ended.
DONE, NOTHING, ENDED = "done", "nothing", "SIGSYS"
#: How an attempt is made outside a sandbox, where it must succeed, so that a refusal is the sandbox's doing: as it is,
#: in mount, UTS and IPC namespaces of its own (it would change the host's), or not (it would harm, or no host lets it).
OPEN, FENCED, NEVER = "open", "fenced", "never"


class Nothing(Exception):
    """What the attempt looked for is not there."""


@dataclass(frozen=True)
class Attempt:
    """One way to try. `run(facts)` raises OSError or Nothing when it is refused; `refused` lists the outcomes that are
    right in a sandbox, `why` what refuses it."""

    name: str
    subject: str
    tries: str
    refused: tuple[str, ...]
    why: str
    outside: str
    run: Try


_registered: dict[str, Attempt] = {}


def attempt(subject: str, name: str, tries: str, refused: str, why: str, outside: str = OPEN) -> Callable[[Try], Try]:
    """Register the decorated function. `refused`: outcomes by name, separated by spaces."""

    def register(run: Try) -> Try:
        if name in _registered:
            raise ValueError(f"two attempts are called {name!r}: give one of them another name")
        _registered[name] = Attempt(name, subject, tries, tuple(refused.split()), why, outside, run)
        return run

    return register


def all_attempts() -> dict[str, Attempt]:
    """Every attempt by name, in the order of the table."""
    from fuyun.testing.attacks import (  # noqa: F401
        credentials,
        files,
        kernel,
        mounts,
        namespaces,
        network,
        processes,
        procfs,
        services,
    )

    return dict(_registered)


_ARM = platform.machine() == "aarch64"
#: name: x86_64, aarch64 (Linux `asm/unistd_64.h` and `asm-generic/unistd.h`).
_NR = {
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "clone": (56, 220), "clone3": (435, 435), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "bpf": (321, 280), "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425), "userfaultfd": (323, 282), "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264), "swapon": (167, 224), "reboot": (169, 142), "sethostname": (170, 161),
    "setdomainname": (171, 162), "clock_settime": (227, 112), "settimeofday": (164, 170), "adjtimex": (159, 171),
    "acct": (163, 89), "quotactl": (179, 60), "syslog": (103, 116), "fsopen": (430, 430), "move_mount": (429, 429),
    "open_tree": (428, 428), "mount_setattr": (442, 442), "fanotify_init": (300, 262), "personality": (135, 92),
    "io_setup": (206, 0), "inotify_init1": (294, 26), "vhangup": (153, 58), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "seccomp": (317, 277), "move_pages": (279, 239),
    "capset": (126, 91), "mq_open": (240, 180), "shmget": (29, 194), "shmctl": (31, 195), "mq_unlink": (241, 181),
    "memfd_create": (319, 279), "syncfs": (306, 267), "socket": (41, 198), "listmount": (458, 458),
    "mseal": (462, 462),
}  # fmt: skip

libc: Any = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def number(name: str) -> int:
    """The number of a system call on this machine."""
    return _NR[name][_ARM]


def syscall(name: str, *arguments: int | bytes | Any | None) -> int:
    """The system call `name`; OSError on failure."""
    return by_number(number(name), *arguments)


def by_number(call: int, *arguments: int | bytes | Any | None) -> int:
    """The system call of that number; OSError on failure."""
    passed = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    ctypes.set_errno(0)
    result = int(libc.syscall(ctypes.c_long(call), *passed))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def first_that_opens(paths: list[str], flags: int = os.O_RDONLY) -> str:
    """The first of the paths that can be opened; Nothing when none can."""
    for path in paths:
        try:
            os.close(os.open(path, flags | os.O_NONBLOCK))
        except OSError:
            continue
        return path
    raise Nothing


def family(facts: Facts) -> list[str]:
    """This process and those before it that are the function's own, as many as `generations` of the facts says (the
    instance; a program's may start another one), as /proc numbers them: in a template's child that is not the number
    that getpid(2) gives."""
    found = [os.readlink("/proc/self")]
    for _ in range(facts.get("generations", 1)):
        with open(f"/proc/{found[-1]}/status") as status:
            found.append(next((line.split()[1] for line in status if line.startswith("PPid:")), "0"))
    return found
