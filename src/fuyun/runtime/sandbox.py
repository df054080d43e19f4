"""How a process is shut in: the root it sees, an instance's own mounts, and the seal nothing gets out of.

Three steps, by three owners. The warden's child runs `build_root` and `leave_host` and becomes a zygote. A zygote's
child runs `enter` in its new namespaces. Just before the first line of user code the child runs `seal`.
"""

from __future__ import annotations

import os
import resource
import socket
import struct

from fuyun.runtime import landlock, seccomp, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CODE, LAYERS, STORE, EMPTY, LAYER_SLOTS = "/code", "/layers", "/store", "/empty", 12
#: Where the layers' npm packages are shown together. Its name is one that Node looks for.
PACKAGES = LAYERS + "/packages/node_modules"
INSTANCE_UID = 1000
#: What `write_maps` writes for a process that maps itself.
_OWN_MAPS = (
    ("/proc/self/setgroups", b"deny"),
    ("/proc/self/uid_map", b"%d %d 1" % (INSTANCE_UID, INSTANCE_UID)),
    ("/proc/self/gid_map", b"%d %d 1" % (INSTANCE_UID, INSTANCE_UID)),
)
#: Size of /tmp before a function asks for another.
TMP_BYTES = 64 * 1024 * 1024
_DEVICES = ("null", "zero", "full", "random", "urandom")
#: struct ifreq: UP and RUNNING.
_LOOPBACK_UP = struct.pack("16sh", b"lo", 0x1 | 0x40) + b"\0" * 14
_INET, _DGRAM = int(socket.AF_INET), int(socket.SOCK_DGRAM)
_NO_CORE, _NO_PRIORITY = struct.pack("=QQ", 0, 0), struct.pack("=i", 0)
#: Signals that may wait, and timers there may be, in an instance, or in a template with its copies: both count for a
#: user namespace and for the users of those above it (getrlimit(2), user_namespaces(7)).
SIGNALS = 4096
_FEW_SIGNALS = struct.pack(
    "=QQ", *[min(SIGNALS, limit if limit >= 0 else SIGNALS) for limit in resource.getrlimit(resource.RLIMIT_SIGPENDING)]
)
_DEVICE_LINKS = (("/proc/self/fd", "/dev/fd"), ("/proc/self/fd/0", "/dev/stdin"), ("/proc/self/fd/1", "/dev/stdout"),
                 ("/proc/self/fd/2", "/dev/stderr"), ("/tmp", "/dev/shm"))  # fmt: skip


def _touch(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))


def _bind_opened(descriptor: int, target: str, mode: str) -> None:
    """Bind what `descriptor` (O_PATH) names to `target`, made as the same kind."""
    source = f"/proc/self/fd/{descriptor}"
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        _touch(target)
    syscalls.bind(source, target, read_only=mode != "rw", device=mode == "dev")


def build_root(plan: dict[str, Any]) -> None:
    """Replace this mount namespace's root by a minimal view. `plan` holds `binds` [source, target, ro|rw|dev],
    `links` [to, at], `folders` [path], `closed` [path] (may be passed through, not listed), `files` {path: text}.
    The process must own its mount namespace; a source that does not exist is an OSError, targets are made."""
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    opened = [(os.open(source, os.O_PATH | os.O_CLOEXEC), target, mode) for source, target, mode in plan["binds"]]
    opened += [(os.open("/dev/" + name, os.O_PATH | os.O_CLOEXEC), "/dev/" + name, "dev") for name in _DEVICES]
    old_proc = os.open("/proc", os.O_PATH | os.O_CLOEXEC)
    root = "/tmp"
    syscalls.mount("fuyun", root, "tmpfs", syscalls.MS_NOSUID, "mode=755,size=4m,nr_inodes=4096")
    for folder in ("/proc", "/tmp", "/dev", CODE, STORE, EMPTY, *plan["folders"]):
        os.makedirs(root + folder, exist_ok=True)
    for index in range(LAYER_SLOTS):
        os.makedirs(f"{root}{LAYERS}/{index}", exist_ok=True)
    # Before the binds: one of them may lie below /tmp.
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    syscalls.mount("fuyun", root + "/tmp", "tmpfs", flags, f"mode=1777,size={plan['tmp_bytes']}")
    for path, text in plan["files"].items():
        _touch(root + path)
        with open(root + path, "w") as out:
            out.write(text)
    for to, at in (*plan["links"], *_DEVICE_LINKS):
        os.makedirs(os.path.dirname(root + at), exist_ok=True)
        os.symlink(to, root + at)
    for descriptor, target, mode in sorted(opened, key=lambda item: item[1].count("/")):
        _bind_opened(descriptor, root + target, mode)
        os.close(descriptor)
    for folder in plan["closed"]:
        os.chmod(root + folder, 0o111)
    os.fchdir(old_proc)
    os.close(old_proc)
    syscalls.mount("proc", root + "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    os.chdir(root)
    syscalls.call("pivot_root", b".", b".")
    syscalls.call("umount2", b".", syscalls.MNT_DETACH)
    os.chdir("/")
    syscalls.mount("", "/", "", syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY | syscalls.MS_NOSUID)


def leave_host(network: bool) -> None:
    """Become root of a new user namespace that owns its own mount, IPC, UTS and (unless `network`) network
    namespace."""
    kinds = syscalls.NEWUSER | syscalls.NEWNS | syscalls.NEWIPC | syscalls.NEWUTS
    syscalls.call("unshare", kinds | (0 if network else syscalls.NEWNET))


def write_maps(pid: object, inside: int, outside: tuple[int, int], count: int = 1) -> None:
    """Map `count` ids of the user namespace of `pid` (or "self"): from `inside` there to `outside` (user, group) here.
    Supplementary groups are given up, which is also what lets an unprivileged owner map (user_namespaces(7))."""
    maps = [f"{inside} {id_} {count}" for id_ in outside]
    for name, text in (("setgroups", "deny"), ("uid_map", maps[0]), ("gid_map", maps[1])):
        descriptor = os.open(f"/proc/{pid}/{name}", os.O_WRONLY)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def rename_user(uid: int, gid: int, more: int = 0) -> None:
    """Have these ids, in one more user namespace where they stand for the own ones: to everybody else this process is
    who it was (user_namespaces(7)). `more` namespaces are made with it."""
    own = os.getuid(), os.getgid()
    syscalls.call("unshare", syscalls.NEWUSER | more)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {own[0]} 1"), ("gid_map", f"{gid} {own[1]} 1")):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    syscalls.empty_bounding_set()


def loopback_up() -> None:
    """Bring the loopback interface of this network namespace up."""
    probe = syscalls.call("socket", _INET, _DGRAM, 0)
    try:
        syscalls.call("ioctl", probe, 0x8914, _LOOPBACK_UP)  # SIOCSIFFLAGS
    finally:
        os.close(probe)


def fixed_limits() -> None:
    """Limits of this process and what it starts that no function chooses."""
    syscalls.call("prlimit64", 0, resource.RLIMIT_CORE, _NO_CORE, None)
    syscalls.call("prlimit64", 0, resource.RLIMIT_SIGPENDING, _FEW_SIGNALS, None)


def _common(uid: int) -> None:
    loopback_up()
    if os.getuid() != uid:
        syscalls.call("setresgid", uid, uid, uid)
        syscalls.call("setresuid", uid, uid, uid)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.empty_bounding_set()
    fixed_limits()
    # A woken instance must not push the platform off its processor in the middle of a turn (sched(7)).
    syscalls.call("sched_setscheduler", 0, os.SCHED_BATCH, _NO_PRIORITY)


def enter(uid: int = INSTANCE_UID) -> int:
    """First steps of a zygote's child in its new namespaces (its ids are mapped): own /proc and /tmp, loopback, limits.
    It keeps its capabilities over these namespaces until `seal`. Returns the Landlock ruleset for it."""
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    syscalls.mount("proc", "/proc", "proc", flags | syscalls.MS_NOEXEC, "hidepid=2")
    syscalls.mount("tmp", "/tmp", "tmpfs", flags, f"mode=1777,size={TMP_BYTES},nr_inodes={TMP_BYTES // 4096}")
    syscalls.call("sethostname", b"fuyun", 5)
    _common(uid)
    return landlock.prepare(("/tmp",), ("/dev", "/proc"))


def enter_from_template(tmp: int) -> int:
    """The same for a template's child: `tmp` is a mount descriptor made by the warden; /proc stays the template's,
    where hidepid shows it only itself."""
    for path, text in _OWN_MAPS:
        descriptor = os.open("/dev/null" if syscalls.pretending else path, os.O_WRONLY)
        os.write(descriptor, text)
        os.close(descriptor)
    syscalls.attach(tmp, "/tmp")
    os.close(tmp)
    _common(INSTANCE_UID)
    return landlock.prepare(("/tmp",), ("/dev", "/proc"))


def mount_code(code: str, layers: list[str], tmp_bytes: int) -> None:
    """Show this instance its code ("" for none yet) and layers (paths below the store) and nothing else of the
    store."""
    if code:
        syscalls.mount(f"{STORE}/{code}", CODE, "", syscalls.MS_BIND)
    for index, layer in enumerate(layers):
        syscalls.mount(f"{STORE}/{layer}", f"{LAYERS}/{index}", "", syscalls.MS_BIND)
    syscalls.mount(EMPTY, STORE, "", syscalls.MS_BIND)
    if layers:
        show_packages(len(layers))
    if tmp_bytes != TMP_BYTES:
        flags = syscalls.MS_REMOUNT | syscalls.MS_NOSUID | syscalls.MS_NODEV
        sizes = f"size={max(4096, tmp_bytes)},nr_inodes={max(16, tmp_bytes // 4096)}"
        syscalls.mount("tmp", "/tmp", "tmpfs", flags, sizes)


def show_packages(layers: int) -> None:
    """Show the npm packages of the layers in one folder: that of the only layer with any, else links to each, of which
    those of earlier layers come first."""
    tries = [f"{LAYERS}/{index}/{name}" for index in range(layers) for name in ("nodejs/node_modules", "node_modules")]
    folders = [folder for folder in tries if os.path.isdir(folder)]
    if len(folders) < 2:
        if folders:
            syscalls.mount(folders[0], PACKAGES, "", syscalls.MS_BIND)
        return
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    syscalls.mount("packages", PACKAGES, "tmpfs", flags, "mode=755,size=1m")
    for folder in folders:
        for name in os.listdir(folder):
            if name.startswith("@"):  # a scope, which is a folder of packages
                os.makedirs(f"{PACKAGES}/{name}", exist_ok=True)
            inner = os.listdir(f"{folder}/{name}") if name.startswith("@") else ("",)
            for part in inner:
                path = f"{name}/{part}" if part else name
                if not os.path.lexists(f"{PACKAGES}/{path}"):
                    os.symlink(f"{folder}/{path}", f"{PACKAGES}/{path}")
    syscalls.mount("", PACKAGES, "", syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY | flags)


def resource_limits(limits: dict[str, int]) -> None:
    """Limits of the process where no control group gives them: `pids` (per user namespace), `memory` (bytes of
    data). `all_pids`, `all_memory`: what they may be raised to by a process that others are forked from."""
    for name, kind in (("pids", resource.RLIMIT_NPROC), ("memory", resource.RLIMIT_DATA)):
        if name in limits:
            wanted, most = max(limits[name], limits.get(f"all_{name}", 0)), resource.getrlimit(kind)[1]
            hard = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
            resource.setrlimit(kind, (min(limits[name], hard), hard))


def raise_limits() -> None:
    """Before a template forks: the processes of its copies count as its own, and the limit it has when it makes their
    user namespace is that of them together (user_namespaces(7), getrlimit(2)). Its memory is no limit of theirs."""
    for kind in (resource.RLIMIT_NPROC, resource.RLIMIT_DATA):
        _, most = resource.getrlimit(kind)
        resource.setrlimit(kind, (most, most))


_STRICT, _TEMPLATE = seccomp.Filter(seccomp.program(False)), seccomp.Filter(seccomp.program(True))
_UNCOUNTED = seccomp.Filter(seccomp.uncounted())
#: Bytes a buffer of TCP has at least, at first and at most.
_SMALL_BUFFERS = b"4096 16384 65536"


def small_buffers() -> None:
    """Where no control group counts the buffers of TCP, they are small in this network namespace. Needs the
    capabilities that `seal` gives up."""
    for name in ("tcp_rmem", "tcp_wmem"):
        descriptor = os.open(f"/proc/sys/net/ipv4/{name}", os.O_WRONLY)
        os.write(descriptor, _SMALL_BUFFERS)
        os.close(descriptor)


def refuse_uncounted() -> None:
    """Where no control group counts it, memory of no process is refused; copies inherit this."""
    _UNCOUNTED.install()


def seal(ruleset: int, template: bool = False) -> None:
    """The last step before user code: no way to write outside /tmp, no capability, only the listed system calls. A
    `template` keeps the calls its fork needs and gets its ruleset with its children (a ruleset forbids mounts)."""
    if template:
        if ruleset >= 0:
            os.close(ruleset)
    else:
        landlock.restrict(ruleset)
    syscalls.drop_capabilities()
    (_TEMPLATE if template else _STRICT).install()


def seal_program() -> None:
    """The same for a program that is executed next (a dependency build): no capability, only the listed calls."""
    syscalls.empty_bounding_set()
    syscalls.drop_capabilities()
    _STRICT.install()
