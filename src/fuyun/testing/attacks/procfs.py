"""procfs, sysfs and device nodes: the kernel's own files, and other processes through them."""

from __future__ import annotations

import os
from contextlib import suppress

from fuyun.testing.attacks.attempt import NEVER, Nothing, attempt, family, first_that_opens, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fuyun.testing.attacks.attempt import Facts

_PROC, _SYS, _DEV = "procfs", "sysfs and control groups", "device nodes"
_OWNER = "the file belongs to the host's root, whom no id inside maps to"


def _read(path: str, size: int = 64) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read(size) or b""


def _others(facts: Facts) -> list[str]:
    """Processes that are not the function's own."""
    own = family(facts)
    return [name for name in os.listdir("/proc") if name.isdigit() and name not in own]


@attempt(_PROC, "kcore", "read the kernel's memory from /proc/kcore", "EACCES EPERM ENOENT", _OWNER, NEVER)
def kcore(facts: Facts) -> object:
    return _read("/proc/kcore")


@attempt(_PROC, "kmsg", "read the kernel's log from /proc/kmsg", "EACCES EPERM", _OWNER)
def kmsg(facts: Facts) -> object:
    return os.open("/proc/kmsg", os.O_RDONLY | os.O_NONBLOCK)


@attempt(_PROC, "kallsyms", "read the kernel's addresses from /proc/kallsyms", "nothing EACCES",
         "without CAP_SYSLOG the kernel shows addresses as zeros")  # fmt: skip
def kallsyms(facts: Facts) -> object:
    with open("/proc/kallsyms") as symbols:
        for line in symbols:
            if line.split()[0].strip("0"):
                return line
    raise Nothing


@attempt(_PROC, "sysrq", "open /proc/sysrq-trigger, which restarts a machine, for writing", "EACCES EPERM ENOENT",
         _OWNER, NEVER)  # fmt: skip
def sysrq(facts: Facts) -> object:
    return os.open("/proc/sysrq-trigger", os.O_WRONLY)


@attempt(_PROC, "core_pattern", "open /proc/sys/kernel/core_pattern, which names a program for the host to run, "
         "for writing", "EACCES EPERM EROFS", _OWNER)  # fmt: skip
def core_pattern(facts: Facts) -> object:
    return os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY)


@attempt(_PROC, "sysctls", "open any file below /proc/sys for writing", "nothing",
         "all belong to root of the host or of the network namespace, whom no id inside maps to")  # fmt: skip
def sysctls(facts: Facts) -> object:
    for folder, _, names in os.walk("/proc/sys"):
        for name in names:
            path = os.path.join(folder, name)
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
                if name == "ns_last_pid":  # anyone may open it; writing is another matter
                    os.write(descriptor, b"100")
            except OSError:
                continue
            return path
    raise Nothing


@attempt(_PROC, "other processes", "find the command line of a process that is not the function's own", "nothing",
         "a process namespace of its own, and hidepid")  # fmt: skip
def other_processes(facts: Facts) -> object:
    for name in _others(facts):
        try:
            return _read(f"/proc/{name}/cmdline", 4096)
        except OSError:
            continue
    raise Nothing


@attempt(_PROC, "root of a process", "reach the host's files through /proc/*/root", "nothing",
         "only processes in the same root are there")  # fmt: skip
def roots(facts: Facts) -> object:
    return first_that_opens([f"/proc/{name}/root{facts['marker']}" for name in os.listdir("/proc") if name.isdigit()])


@attempt(_PROC, "folder of a process", "reach the host's files through /proc/*/cwd", "nothing",
         "only processes in the same root are there")  # fmt: skip
def folders(facts: Facts) -> object:
    up = "/.." * 40
    return first_that_opens([f"/proc/{name}/cwd{up}{facts['marker']}" for name in os.listdir("/proc")])


@attempt(_PROC, "environment of a process", "read the environment of a process that is not the function's own",
         "nothing", "a process namespace of its own, and hidepid")  # fmt: skip
def environments(facts: Facts) -> object:
    return first_that_opens([f"/proc/{name}/environ" for name in _others(facts)])


@attempt(_PROC, "memory of a process", "open the memory of a process that is not the function's own", "nothing",
         "a process namespace of its own, and hidepid")  # fmt: skip
def memories(facts: Facts) -> object:
    return first_that_opens([f"/proc/{name}/mem" for name in _others(facts)], os.O_RDWR)


@attempt(_PROC, "own executable", "open the interpreter for writing through /proc/self/exe", "EROFS EACCES",
         "it is mounted read-only, and Landlock lets nothing be written there", NEVER)  # fmt: skip
def own_executable(facts: Facts) -> object:
    return os.open("/proc/self/exe", os.O_WRONLY)


@attempt(_PROC, "uid_map", "map more ids through /proc/self/uid_map", "EPERM",
         "a map is written once, and needs a capability", NEVER)  # fmt: skip
def uid_map(facts: Facts) -> object:
    descriptor = os.open("/proc/self/uid_map", os.O_WRONLY)
    return os.write(descriptor, b"0 0 4294967295")


@attempt(_PROC, "oom_score_adj", "make the kernel spare it when memory runs out", "EACCES",
         "lowering the score needs CAP_SYS_RESOURCE", NEVER)  # fmt: skip
def oom_score(facts: Facts) -> object:
    descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    return os.write(descriptor, b"-1000")


@attempt(_PROC, "host's descriptors", "find descriptors of files or folders that came from the host",
         "nothing", "all but the channel, the output and the runtime's own are closed before the code loads",
         NEVER)  # fmt: skip
def descriptors(facts: Facts) -> object:
    for pid in family(facts)[1:]:
        folder = f"/proc/{pid}/fd"
        for fd in os.listdir(folder):
            with suppress(FileNotFoundError):  # closed since it was listed
                target = os.readlink(f"{folder}/{fd}")
                if target.startswith(("socket:", "pipe:", "anon_inode:", "/dev/null", "/proc/")):
                    continue
                if not (os.path.exists(target) and os.path.samefile(f"{folder}/{fd}", target)):  # not of its own root
                    return target
    raise Nothing


@attempt(_PROC, "folder descriptor", "climb to the host's files from a descriptor of a folder", "nothing",
         "no folder above its root can be named")  # fmt: skip
def folder_descriptors(facts: Facts) -> object:
    up = "/.." * 40 + facts["marker"]
    kept = os.open("/", os.O_RDONLY)  # what a process holds on to when its root changes
    folders = ("/proc/self/fd", *(f"/proc/{pid}/fd" for pid in family(facts)[1:]))
    found = first_that_opens([f"{folder}/{fd}{up}" for folder in folders for fd in os.listdir(folder)])
    os.close(kept)
    return found


@attempt(_SYS, "sysfs", "list /sys", "ENOENT nothing", "sysfs is not mounted; an empty folder may be in its place")
def sysfs(facts: Facts) -> object:
    found = os.listdir("/sys")
    if not found:
        raise Nothing
    return found


@attempt(_SYS, "control group files", "list the control groups", "ENOENT", "no control group file system is mounted")
def cgroups(facts: Facts) -> object:
    return os.listdir("/sys/fs/cgroup")


@attempt(_SYS, "control group path", "learn where in the host's tree of control groups it is", "nothing",
         "a control group namespace of its own: every path is /")  # fmt: skip
def cgroup_path(facts: Facts) -> object:
    with open("/proc/self/cgroup") as groups:
        for line in groups:
            path = line.rstrip("\n").split(":", 2)[2]
            if path != "/":
                return path
    raise Nothing


@attempt(_SYS, "control group mount", "mount a control group file system in /tmp", "EPERM",
         "seccomp: no mount", NEVER)  # fmt: skip
def cgroup_mount(facts: Facts) -> object:
    os.makedirs("/tmp/groups", exist_ok=True)
    return syscall("mount", b"none", b"/tmp/groups", b"cgroup2", 0, None)


@attempt(_DEV, "memory device", "open /dev/mem, /dev/kmem, /dev/port or /dev/kmsg", "nothing",
         "five device nodes are bound into the root, these are not", NEVER)  # fmt: skip
def memory_device(facts: Facts) -> object:
    return first_that_opens(["/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg"])


@attempt(_DEV, "disks and loop devices", "open a disk, a loop device or the device mapper", "nothing",
         "five device nodes are bound into the root, these are not", NEVER)  # fmt: skip
def disks(facts: Facts) -> object:
    names = ["sda", "vda", "nvme0n1", "xvda", "loop0", "loop-control", "mapper/control", "dm-0", "ram0"]
    return first_that_opens([f"/dev/{name}" for name in names])


@attempt(_DEV, "drivers", "open /dev/kvm, /dev/fuse, /dev/net/tun, /dev/vhost-net, /dev/uinput or /dev/userfaultfd",
         "nothing", "five device nodes are bound into the root, these are not", NEVER)  # fmt: skip
def drivers(facts: Facts) -> object:
    return first_that_opens([f"/dev/{n}" for n in ("kvm", "fuse", "net/tun", "vhost-net", "uinput", "userfaultfd")])


@attempt(_DEV, "terminals", "open a terminal, or make one from /dev/ptmx", "nothing",
         "five device nodes are bound into the root, these are not")  # fmt: skip
def terminals(facts: Facts) -> object:
    return first_that_opens(["/dev/tty", "/dev/console", "/dev/ptmx", "/dev/pts/ptmx"], os.O_RDWR | os.O_NOCTTY)


def _node(mode: int, device: int) -> object:
    path = f"/tmp/node-{os.getpid()}"
    os.mknod(path, mode | 0o600, device)
    os.unlink(path)
    return path


@attempt(_DEV, "character device", "make the node of a character device in /tmp", "EPERM", "seccomp: no mknod")
def character_device(facts: Facts) -> object:
    return _node(0o020000, os.makedev(1, 1))


@attempt(_DEV, "block device", "make the node of a block device in /tmp", "EPERM", "seccomp: no mknod")
def block_device(facts: Facts) -> object:
    return _node(0o060000, os.makedev(8, 0))
