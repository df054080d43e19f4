"""Namespaces: making one to be root of, entering another's, time and the host's name."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from fuyun.testing.attacks.attempt import FENCED, NEVER, Nothing, attempt, by_number, number, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fuyun.testing.attacks.attempt import Facts

_SPACES, _CLOCK, _NAME = "namespaces", "time", "the host's name"
_SECCOMP = "seccomp: no namespace flags"
_KINDS = {"mnt": 0x00020000, "cgroup": 0x02000000, "uts": 0x04000000, "ipc": 0x08000000, "user": 0x10000000,
          "pid": 0x20000000, "net": 0x40000000, "time": 0x80}  # fmt: skip


def _unshare(kind: str) -> None:
    @attempt(
        _SPACES, f"unshare {kind}", f"make a {kind} namespace of its own (unshare)", "EPERM", "seccomp: no unshare"
    )
    def run(facts: Facts) -> object:
        return syscall("unshare", _KINDS[kind])


for _kind in _KINDS:
    _unshare(_kind)


@attempt(_SPACES, "clone user", "fork into a user namespace of its own (clone)", "EPERM", _SECCOMP)
def clone_user(facts: Facts) -> object:
    if syscall("clone", _KINDS["user"] | 17, 0, 0, 0, 0) == 0:
        os._exit(0)
    return os.wait()


@attempt(_SPACES, "clone all", "fork into all namespaces, as a template does", "EPERM", _SECCOMP)
def clone_all(facts: Facts) -> object:
    flags = 0x20000 | 0x4000000 | 0x8000000 | 0x10000000 | 0x20000000 | 0x40000000 | 0x01200000 | 17
    if syscall("clone", flags, 0, 0, 0, 0) == 0:
        os._exit(0)
    return os.wait()


@attempt(_SPACES, "clone3", "fork into a user namespace by clone3, whose flags no filter can see", "ENOSYS",
         "seccomp answers as a kernel without the call, so that libraries fall back to clone")  # fmt: skip
def clone3(facts: Facts) -> object:
    arguments = struct.pack("=8Q", _KINDS["user"], 0, 0, 0, 17, 0, 0, 0)
    if by_number(number("clone3"), arguments, len(arguments)) == 0:
        os._exit(0)
    return os.wait()


@attempt(_SPACES, "setns", "enter a namespace by its file in /proc/self/ns", "EPERM", "seccomp: no setns")
def setns(facts: Facts) -> object:
    return syscall("setns", os.open("/proc/self/ns/uts", os.O_RDONLY), 0)


@attempt(_SPACES, "setns by pidfd", "enter the namespaces of a process by a pidfd", "EPERM", "seccomp: no setns")
def setns_pidfd(facts: Facts) -> object:
    return syscall("setns", syscall("pidfd_open", os.getppid(), 0), _KINDS["uts"])


@attempt(_SPACES, "parent of a namespace", "get a descriptor of the user namespace above (NS_GET_PARENT)", "EPERM",
         "the kernel gives none beyond one's own", NEVER)  # fmt: skip
def parent_of_namespace(facts: Facts) -> object:
    return fcntl.ioctl(os.open("/proc/self/ns/user", os.O_RDONLY), 0xB702)


@attempt(_SPACES, "namespace of a socket", "get a descriptor of a socket's network namespace (SIOCGSKNS)", "EPERM",
         "needs CAP_NET_ADMIN")  # fmt: skip
def namespace_of_socket(facts: Facts) -> object:
    with socket.socket(socket.AF_UNIX) as s:
        return fcntl.ioctl(s, 0x894C)


@attempt(_SPACES, "host's namespaces", "be in a mount, process, network, IPC, UTS, user or control group namespace of "
         "the host", "nothing", "every instance has all seven of its own")  # fmt: skip
def hosts_namespaces(facts: Facts) -> object:
    for kind, identity in facts["namespaces"].items():
        if os.readlink(f"/proc/self/ns/{kind}") == identity:
            return kind
    raise Nothing


@attempt(_CLOCK, "clock_settime", "set the host's clock", "EPERM", "seccomp, and no capability", NEVER)
def clock_settime(facts: Facts) -> object:
    return syscall("clock_settime", 0, struct.pack("=qq", 0, 0))


@attempt(_CLOCK, "settimeofday", "set the host's time zone", "EPERM", "seccomp, and no capability", NEVER)
def settimeofday(facts: Facts) -> object:
    return syscall("settimeofday", None, struct.pack("=ii", 0, 0))


@attempt(_CLOCK, "adjtimex", "read how the host's clock is steered", "EPERM", "seccomp")
def adjtimex(facts: Facts) -> object:
    return syscall("adjtimex", bytes(208))


@attempt(_NAME, "sethostname", "rename the host", "EPERM", "seccomp, and a UTS namespace of its own", FENCED)
def sethostname(facts: Facts) -> object:
    return syscall("sethostname", b"taken", 5)


@attempt(_NAME, "setdomainname", "change the host's domain", "EPERM", "seccomp, and a UTS namespace of its own", FENCED)
def setdomainname(facts: Facts) -> object:
    return syscall("setdomainname", b"taken", 5)


@attempt(_NAME, "name of the host", "learn the host's name", "nothing", "a UTS namespace of its own")
def name_of_host(facts: Facts) -> object:
    if os.uname().nodename == facts["hostname"]:
        return os.uname().nodename
    raise Nothing


@attempt(_NAME, "reboot", "restart the machine", "EPERM", "seccomp, and no capability", NEVER)
def reboot(facts: Facts) -> object:
    return syscall("reboot", 0xFEE1DEAD, 672274793, 0, None)  # LINUX_REBOOT_CMD_CAD_OFF
