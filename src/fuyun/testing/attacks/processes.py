"""Other processes: signals, tracing, their memory and descriptors, priorities."""

from __future__ import annotations

import ctypes
import os
import struct

from fuyun.testing.attacks.attempt import NEVER, Nothing, attempt, family, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fuyun.testing.attacks.attempt import Facts

_SIGNALS, _TRACE, _PRIORITY = "signals", "tracing", "priorities"
_PIDS = "a process namespace of its own: the number means nobody, or itself"


def _unknown(pid: int) -> None:
    """Nothing when no other process than this one and its parent has that number here."""
    if pid in (os.getpid(), os.getppid(), 1):
        raise Nothing


def _signal(name: str, tries: str) -> None:
    @attempt(_SIGNALS, f"signal {name}", f"signal {tries} by its number on the host", "ESRCH nothing", _PIDS, NEVER)
    def run(facts: Facts) -> None:
        _unknown(facts["pids"][name])
        os.kill(facts["pids"][name], 0)


for _name, _tries in (("platform", "the platform"), ("warden", "the warden"), ("zygote", "its zygote"),
                      ("neighbour", "a neighbour's instance"), ("operator", "the operator's shell")):  # fmt: skip
    _signal(_name, _tries)


@attempt(_SIGNALS, "signal everyone", "signal every process there is (kill -1), with signal 0", "ESRCH EPERM",
         "nobody but the instance itself is there")  # fmt: skip
def signal_everyone(facts: Facts) -> int:
    os.kill(-1, 0)
    own = {1, *map(int, family(facts))}
    for pid in range(2, 1 << 16):
        if pid not in own:
            try:
                os.close(syscall("pidfd_open", pid, 0))  # refuses the number of a thread, which kill(2) takes
                os.kill(pid, 0)
            except OSError:
                continue
            return pid
    raise ProcessLookupError(3, "nobody but the function itself")


@attempt(_SIGNALS, "pidfd", "open a pidfd of the warden", "ESRCH nothing EINVAL", _PIDS, NEVER)
def pidfd(facts: Facts) -> object:
    _unknown(facts["pids"]["warden"])
    return syscall("pidfd_open", facts["pids"]["warden"], 0)


@attempt(_SIGNALS, "owner of a descriptor", "have signals sent to the warden's number by a pipe (F_SETOWN)",
         "ESRCH nothing", _PIDS, NEVER)  # fmt: skip
def owner(facts: Facts) -> object:
    import fcntl

    _unknown(facts["pids"]["warden"])
    return fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, facts["pids"]["warden"])


@attempt(_TRACE, "ptrace", "trace its parent (PTRACE_SEIZE)", "EPERM", "seccomp: no ptrace")
def ptrace(facts: Facts) -> object:
    return syscall("ptrace", 0x4206, os.getppid(), 0, 0)


@attempt(_TRACE, "traceme", "have its parent trace it", "EPERM", "seccomp: no ptrace")
def traceme(facts: Facts) -> object:
    return syscall("ptrace", 0, 0, 0, 0)


def _vector(size: int) -> tuple[ctypes.Array[ctypes.c_char], bytes]:
    held = ctypes.create_string_buffer(size)
    return held, struct.pack("PN", ctypes.addressof(held), size)


@attempt(_TRACE, "process_vm_readv", "read its parent's memory", "EPERM", "seccomp: no process_vm_readv")
def read_memory(facts: Facts) -> object:
    held, vector = _vector(16)
    return syscall("process_vm_readv", os.getppid(), vector, 1, vector, 1, 0), held


@attempt(_TRACE, "process_vm_writev", "write its parent's memory", "EPERM", "seccomp: no process_vm_writev")
def write_memory(facts: Facts) -> object:
    held, vector = _vector(0)
    return syscall("process_vm_writev", os.getppid(), vector, 1, vector, 1, 0), held


@attempt(_TRACE, "kcmp", "compare kernel objects with its parent's", "EPERM", "seccomp: no kcmp")
def kcmp(facts: Facts) -> object:
    return syscall("kcmp", os.getpid(), os.getppid(), 1, 0, 0)


@attempt(_TRACE, "pidfd_getfd", "take a descriptor out of another process", "EPERM", "seccomp: no pidfd_getfd")
def take_descriptor(facts: Facts) -> object:
    return syscall("pidfd_getfd", syscall("pidfd_open", os.getppid(), 0), 0, 0)


@attempt(_TRACE, "process_madvise", "have another process's memory paged out", "EPERM", "seccomp: no process_madvise")
def page_out(facts: Facts) -> object:
    held, vector = _vector(0)
    return syscall("process_madvise", syscall("pidfd_open", os.getppid(), 0), vector, 1, 20, 0), held


@attempt(_TRACE, "move_pages", "move another process's memory between nodes", "EPERM", "seccomp: no move_pages", NEVER)
def move(facts: Facts) -> object:
    return syscall("move_pages", os.getppid(), 0, None, None, None, 0)


@attempt(_PRIORITY, "nice", "be scheduled before others (nice -10)", "EACCES EPERM", "needs CAP_SYS_NICE")
def nice(facts: Facts) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, -10)


@attempt(_PRIORITY, "real time", "be scheduled before everyone (SCHED_FIFO)", "EPERM", "needs CAP_SYS_NICE", NEVER)
def real_time(facts: Facts) -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


@attempt(_PRIORITY, "limits", "raise a limit above what it was given (RLIMIT_CORE)", "EPERM",
         "needs CAP_SYS_RESOURCE", NEVER)  # fmt: skip
def limits(facts: Facts) -> None:
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))
    except ValueError:
        raise PermissionError(1, "not allowed to raise the maximum limit") from None


@attempt(_PRIORITY, "limits of others", "change a limit of its parent's", "EPERM",
         "its hard limits may only sink", NEVER)  # fmt: skip
def limits_of_others(facts: Facts) -> object:
    import resource

    try:
        return resource.prlimit(os.getppid(), resource.RLIMIT_CORE, (1 << 20, 1 << 20))
    except ValueError:
        raise PermissionError(1, "not allowed to raise the maximum limit") from None


@attempt(_PRIORITY, "core dump", "leave a core file when it crashes", "nothing",
         "the limit of core files is 0, hard", NEVER)  # fmt: skip
def core_dump(facts: Facts) -> object:
    import resource

    pid = os.fork()
    if pid == 0:
        os.chdir("/dev/shm")
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (1 << 24, 1 << 24))
        except (ValueError, OSError):
            pass
        os.abort()
    _, status = os.waitpid(pid, 0)
    for name in ("core", f"core.{pid}"):
        if os.path.exists(f"/dev/shm/{name}"):
            os.unlink(f"/dev/shm/{name}")
    if not os.WCOREDUMP(status):
        raise Nothing
    return status
