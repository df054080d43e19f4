"""Instances of the class `oci:<runtime>`: made by an OCI runtime, from a bundle of this process's own root.

A zygote of this class forks nothing itself. It stands in a root that holds one version's code (`plans.view`), has all
rights over its own namespaces and none on the host, writes `config.json` (OCI runtime specification 1.0) and runs the
runtime. What that has started (`contained.py`) is left to the warden, as other instances are. The state that
runtimes keep is in this process's /tmp, and gone with it.
"""

from __future__ import annotations

import json
import os
import socket

from fuyun.runtime import descriptors, sandbox, seccomp, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Name of a runtime -> its program, and what comes before its command: where they are, control groups are the warden's.
RUNTIMES = {
    "crun": ("crun", ("--cgroup-manager=disabled",)),
    "runc": ("runc", ()),
    "runsc": ("runsc", ("--ignore-cgroups", "--rootless")),
    "kata": ("kata-runtime", ()),
}
#: How one gets them.
SOURCES = {
    "crun": "install it: apt-get install crun",
    "runc": "install it: apt-get install runc",
    "runsc": "install gVisor, whose packages bring runsc",
    "kata": "install Kata Containers, whose packages bring kata-runtime",
}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BUNDLE, _STATE, _LOG = "/tmp/bundle", "/tmp/state", "/tmp/log"
#: A runtime that takes longer is stuck.
_LIMIT_S = 30.0
_CODE = "import sys;sys.path.insert(0,%r);from fuyun.runtime.contained import main;sys.exit(main(3,4,%r))"
_NAMESPACES = ("user", "mount", "pid", "network", "ipc", "uts", "cgroup")
#: What an instance has until it seals itself: who maps another namespace's user to root's number needs it
#: (user_namespaces(7)).
_KEPT = ["CAP_SETFCAP"]
#: Bytes a buffer of TCP has at least, at first and at most, where no control group counts them.
_SMALL_BUFFERS = "4096 16384 65536"
#: Calls that the strict filter, which an instance adds itself, decides by their arguments; `unshare` is one that it
#: makes before.
_BY_ARGUMENT = ("clone", "socket", "ioctl", "fcntl", "personality", "unshare")


def find(name: str) -> str:
    """The path of a runtime's program, "" where it is not installed."""
    program = RUNTIMES[name][0]
    for folder in PATH.split(":"):
        path = os.path.join(folder, program)
        if os.access(path, os.X_OK):
            return path
    return ""


def config(options: dict[str, Any]) -> dict[str, Any]:
    """`config.json` of one instance. `options`: `python`, `node` (or ""), `path` (of `fuyun`), `env`, `tmp_bytes`,
    `uncounted` (no control group counts). Its only user is this namespace's, who is nobody else's on the host."""
    tmp_bytes = max(4096, int(options["tmp_bytes"]))
    ids = [{"containerID": 0, "hostID": 0, "size": 1}]
    own = ["nosuid", "nodev"]
    return {
        "ociVersion": "1.0.2",
        "hostname": "fuyun",
        "root": {"path": "rootfs", "readonly": True},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "cwd": "/",
            "args": [options["python"], "-I", "-S", "-c", _CODE % (options["path"], options["node"])],
            "env": [f"{name}={value}" for name, value in options["env"].items()],
            "noNewPrivileges": True,
            "capabilities": {"bounding": _KEPT, "permitted": _KEPT, "effective": _KEPT},
            "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": [*own, "noexec", "hidepid=2"]},
            {"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind", "nosuid", "ro"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmp",
             "options": [*own, "mode=1777", f"size={tmp_bytes}", f"nr_inodes={max(16, tmp_bytes // 4096)}"]},
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in _NAMESPACES],
            "uidMappings": ids,
            "gidMappings": ids,
            "rootfsPropagation": "private",
            "readonlyPaths": ["/proc/sys"],
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "architectures": ["SCMP_ARCH_AARCH64" if os.uname().machine == "aarch64" else "SCMP_ARCH_X86_64"],
                "syscalls": [
                    {"names": sorted((*seccomp.names(), *_BY_ARGUMENT)), "action": "SCMP_ACT_ALLOW"},
                    {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
                ],
            },
            **({"sysctl": {f"net.ipv4.tcp_{way}": _SMALL_BUFFERS for way in ("rmem", "wmem")}}
               if options["uncounted"] else {}),
        },
    }  # fmt: skip


def main(control: socket.socket, options: dict[str, Any]) -> int:
    """Serve the warden until it closes the socket, as `zygote.main` does. `options`: `isolation`, and what `config`
    takes."""
    sandbox.show_packages(sandbox.LAYER_SLOTS)
    os.makedirs(_BUNDLE + "/rootfs")
    syscalls.mount("/", _BUNDLE + "/rootfs", "", syscalls.MS_BIND | syscalls.MS_REC)
    _show_groups()
    return descriptors.serve(control, lambda message, passed: _start(message, passed, options))


def _show_groups() -> None:
    """Runtimes look for control groups, even where they are to make none. Those of this process are all they see, and
    nothing can be written there: instances get theirs from the warden."""
    syscalls.call("unshare", syscalls.NEWCGROUP)
    syscalls.mount("fuyun", "/sys", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "size=64k")
    os.makedirs("/sys/fs/cgroup")
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC | syscalls.MS_RDONLY
    syscalls.mount("cgroup2", "/sys/fs/cgroup", "cgroup2", flags)


def _start(message: dict[str, Any], passed: list[int], options: dict[str, Any]) -> None:
    """Run the runtime once; OSError with what it said when it did not start the instance."""
    channel, output, hello = passed
    name = options["isolation"].partition(":")[2]
    with open(_BUNDLE + "/config.json", "w", encoding="utf-8") as file:
        json.dump(config(options), file)
    argv = [
        find(name), *RUNTIMES[name][1], "--root", _STATE, "--log", _LOG, "run", "--detach", "--bundle", _BUNDLE,
        "--preserve-fds", "2", str(message["id"]),
    ]  # fmt: skip
    pid = os.fork()
    if pid == 0:
        try:
            empty = os.open("/dev/null", os.O_RDWR)
            for target, source in enumerate(descriptors.aside((empty, output, output, channel, hello))):
                os.dup2(source, target)
            os.closerange(5, 200)
            os.execve(argv[0], argv, {"PATH": PATH, "XDG_RUNTIME_DIR": "/tmp", "HOME": "/tmp"})
        finally:
            os._exit(127)
    _, status = os.waitpid(pid, 0)
    if status:
        raise OSError(0, f"{name} ended with status {os.waitstatus_to_exitcode(status)}: {_last_words()}")


def _last_words() -> str:
    try:
        with open(_LOG, encoding="utf-8", errors="replace") as file:
            return " ".join(file.read()[-600:].split())
    except OSError:
        return "it said nothing"
