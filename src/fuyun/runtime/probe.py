"""What this host can and cannot give, found by trying: `python -m fuyun.runtime.probe` prints it as JSON.

Every attempt that changes something runs in a child process that ends with it. `fuyun doctor` shows the result.
Sources: namespaces(7), user_namespaces(7), cgroups(7), seccomp(2), landlock(7), fsopen and pidfd_open(2).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fuyun.runtime import gate, jdks, netlink, nodes, pythons, syscalls
from fuyun.runtime.findings import attempt, check, read

NAMESPACES = {
    "user": syscalls.NEWUSER,
    "mount": syscalls.NEWNS,
    "pid": syscalls.NEWPID,
    "net": syscalls.NEWNET,
    "ipc": syscalls.NEWIPC,
    "uts": syscalls.NEWUTS,
    "cgroup": syscalls.NEWCGROUP,
}
OCI_RUNTIMES = ("crun", "runc", "runsc", "kata-runtime")
GIB = 2**30

#: Asked of each candidate: its version, whether it is final, whether it is optimised.
_WHO = """
import sys
told = {"__name__": "pythons"}
exec(compile(open(sys.argv[1], encoding="utf-8").read(), sys.argv[1], "exec"), told)
print(".".join(map(str, sys.version_info[:3])), int(sys.version_info[3] == "final"), int(told["optimised"]()))
"""


def unshare(flags: int) -> None:
    """unshare(2)."""
    syscalls.call("unshare", flags)


def become_root() -> None:
    """Enter a user namespace in which the caller is root."""
    uid, gid = os.getuid(), os.getgid()
    unshare(syscalls.NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open("/proc/self/" + name, "w") as file:
            file.write(text)


def host() -> Iterator[dict[str, Any]]:
    """Kernel, processor, account."""
    release, machine = platform.release(), platform.machine()
    numbers = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    state = "ok" if numbers >= (5, 10) and sys.platform == "linux" else "limited"
    yield check("kernel", state, f"{platform.system()} {release}", "use Linux 5.10 or newer")
    known = machine in ("x86_64", "aarch64")
    yield check("processor", "ok" if known else "missing", machine, "use x86_64 or aarch64", required=True)
    account = "root" if os.geteuid() == 0 else f"uid {os.geteuid()} (rootless)"
    yield check("account", "ok", account)


def namespaces() -> Iterator[dict[str, Any]]:
    """Each kind of namespace alone, then all of them with what a sandbox does inside."""
    limit = read("/proc/sys/user/max_user_namespaces")
    state = (
        "ok" if limit.isdigit() and int(limit) >= 256 else "limited" if limit.isdigit() and int(limit) else "missing"
    )
    yield check(
        "max_user_namespaces", state, limit or "unknown", "sysctl -w user.max_user_namespaces=15000", required=True
    )
    todo = _user_namespace_todo()
    for name, flag in NAMESPACES.items():

        def one(flag: int = flag) -> str:
            if flag == syscalls.NEWUSER or os.geteuid() != 0:
                become_root()
            if flag != syscalls.NEWUSER:
                unshare(flag)
            return "created"

        ok, said = attempt(one)
        yield check(f"{name} namespace", "ok" if ok else "missing", said, todo, required=name != "cgroup")
    ok, said = attempt(_sandbox)
    yield check("sandbox", "ok" if ok else "missing", said, todo, required=True)
    built = "in a sandbox" if ok else "WITHOUT ISOLATION: a package built from source can do what the platform can"
    risk = "make sandboxes possible (see above); until then deploy only requirements you trust"
    yield check("dependency builds", "ok" if ok else "limited", built, risk)


def _sandbox() -> str:
    become_root()
    unshare(syscalls.ALL_NAMESPACES & ~syscalls.NEWUSER)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
            syscalls.mount("tmpfs", "/tmp", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "size=65536")
            syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
            code = 0
        except OSError as exc:
            code = min(exc.errno or 1, 255)
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1
    if code:
        raise OSError(code, f"mounting /tmp and /proc inside: {os.strerror(code)}")
    return "all namespaces at once, with /tmp and /proc of its own"


def _user_namespace_todo() -> str:
    if read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "run as root, or: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    if read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return "run as root, or: sysctl -w kernel.unprivileged_userns_clone=1"
    if os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv"):
        return "inside a container: start it with --privileged, or with seccomp and AppArmor unconfined"
    return "run as root, or allow user namespaces (sysctl user.max_user_namespaces)"


def cgroups() -> Iterator[dict[str, Any]]:
    """Version, controllers, and whether groups can be made."""
    wanted = ("cpu", "memory", "pids")
    advice = "without control groups memory, cpu and process limits are rlimits only; "
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        own = next((line[3:] for line in read("/proc/self/cgroup").splitlines() if line.startswith("0::")), "/")
        folder = "/sys/fs/cgroup" + own.rstrip("/")
        controllers = read(folder + "/cgroup.controllers").split()
        found, writable = "version 2", _writable_group(folder)
        todo = advice + "run as root, or delegate: systemd-run --user --scope -p Delegate=yes fuyun up"
    else:
        controllers = [name for name in wanted if os.path.isdir("/sys/fs/cgroup/" + name)]
        folders = ["/sys/fs/cgroup/" + name for name in controllers]
        found = "version 1" if controllers else "none mounted"
        writable = bool(folders) and all(_writable_group(folder) for folder in folders)
        todo = advice + ("run as root" if controllers else "mount /sys/fs/cgroup")
    absent = [name for name in wanted if name not in controllers]
    present = " ".join(name for name in wanted if name in controllers) or "none"
    text = f"{found}; controllers {present}; groups {'can' if writable else 'cannot'} be made"
    yield check("cgroups", "limited" if absent or not writable else "ok", text, todo)
    yield _frozen(found if writable else "")


def _frozen(groups: str) -> dict[str, Any]:
    """What a frozen instance gives back: `groups` is the version of the control groups that can be made, or ""."""
    swap = len(read("/proc/swaps").splitlines()) > 1
    newer = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2]) >= (5, 19)
    if groups and swap and (newer or groups == "version 1"):
        return check("frozen memory", "ok", "idle pages go to swap, free ones to the kernel")
    found = "only what a function has freed, and clean pages of files" if groups else "only what a function has freed"
    lacks = [] if groups else ["control groups"]
    lacks += [] if swap else ["swap"]
    lacks += [] if newer or not groups or groups == "version 1" else ["Linux 5.19 (memory.reclaim)"]
    return check("frozen memory", "limited", found, f"for more it takes {' and '.join(lacks)}")


def _writable_group(folder: str) -> bool:
    path = os.path.join(folder, f"fuyun-probe-{os.getpid()}")
    try:
        os.mkdir(path)
        os.rmdir(path)
    except OSError:
        return False
    return True


def kernel_features() -> Iterator[dict[str, Any]]:
    """seccomp, Landlock, no_new_privs, mount descriptors, pidfd."""
    actions = read("/proc/sys/kernel/seccomp/actions_avail")
    state = "ok" if "errno" in actions or "Seccomp:" in read("/proc/self/status") else "missing"
    yield check("seccomp", state, actions or state, "use a kernel with CONFIG_SECCOMP_FILTER", required=True)
    try:
        version = syscalls.call("landlock_create_ruleset", None, 0, 1)
        yield check("landlock", "ok", f"ABI {version}")
    except OSError as exc:
        todo = "boot with lsm=landlock,...; without it the mount namespace alone keeps files apart"
        yield check("landlock", "limited", str(exc.strerror).partition(": ")[2] or str(exc), todo)
    ok, said = attempt(lambda: "can be set" if syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1) == 0 else "")
    yield check("no_new_privs", "ok" if ok else "missing", said, "use Linux 3.5 or newer", required=True)

    def new_mounts() -> str:
        if os.geteuid() != 0:
            become_root()
            unshare(syscalls.NEWNS)
        os.close(syscalls.tmpfs_descriptor(65536))
        return "fsopen, fsmount"

    ok, said = attempt(new_mounts)
    yield check("mount descriptors", "ok" if ok else "missing", said, "use Linux 5.2 or newer", required=True)
    ok, said = attempt(lambda: "pidfd_open" if syscalls.pidfd_open(os.getpid()) >= 0 else "")
    yield check("pidfd", "ok" if ok else "missing", said, "use Linux 5.3 or newer", required=True)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = hard == resource.RLIM_INFINITY or hard >= 4096
    text = "unlimited" if hard == resource.RLIM_INFINITY else f"{hard} at most"
    yield check("open files", "ok" if enough else "limited", text, "raise it: ulimit -Hn 65536")


def tools() -> Iterator[dict[str, Any]]:
    """OCI runtimes, uv."""
    found = [name for name in OCI_RUNTIMES if shutil.which(name)]
    todo = "only isolation oci:<runtime> needs one: apt-get install crun"
    yield check("oci runtimes", "ok" if found else "limited", " ".join(found) or "none on PATH", todo)
    beside = Path(sys.executable).with_name("uv")
    uv = shutil.which("uv") or (str(beside) if beside.exists() else "")
    yield check(
        "uv", "ok" if uv else "missing", uv or "not found", "pip install uv; dependencies cannot be built without it"
    )


#: Every kind of rule the gate needs, on nothing.
_RULES = """table inet probe {
  map policies { type devgroup : verdict; }
  set told { type iface_index; size 16; flags dynamic,timeout; timeout 1m; }
  set names { type ipv4_addr; flags timeout; }
  chain refuse { update @told { iif limit rate 1/second } log group 7
    reject with icmpx admin-prohibited; }
  chain forward { type filter hook forward priority filter; policy drop;
    ct state established accept; fib saddr . iif oif 0 drop; ip daddr @names tcp dport 1-2 accept
    iifgroup vmap @policies; goto refuse; }
  chain leave { type nat hook postrouting priority srcnat; masquerade; }
}"""


def network() -> Iterator[dict[str, Any]]:
    """What network policies need: nftables, veth pairs, a way out."""
    unable = gate.unable()
    todo = "without it functions have no network (network: none); "
    install = todo + "apt-get install nftables slirp4netns"
    yield check("way out", "limited" if unable else "ok", unable or "slirp4netns, /dev/net/tun",
                todo + "chmod 666 /dev/net/tun" if "/dev/net/tun" in unable else install)  # fmt: skip

    def rules() -> str:
        _own_network()
        done = subprocess.run([gate.find_program("nft"), "-f", "-"], input=_RULES, capture_output=True, text=True,
                              timeout=20, check=False)  # fmt: skip
        if done.returncode:
            raise OSError(0, done.stderr.strip()[:200])
        return "sets, verdict maps, fib, log, reject, masquerade"

    ok, said = attempt(rules) if gate.find_program("nft") else (False, "nft is not installed")
    yield check("nftables", "ok" if ok else "limited", said, install + "; the kernel needs CONFIG_NF_TABLES")

    def pair() -> str:
        _own_network()
        with open("/proc/self/ns/net") as here:
            netlink.Routes().make_pair("probe", 1, "eth0", here.fileno(), 1500)
        return "can be made"

    ok, said = attempt(pair)
    yield check("veth pairs", "ok" if ok else "limited", said, todo + "the kernel needs CONFIG_VETH")


def _own_network() -> None:
    if os.geteuid() != 0:
        become_root()
    unshare(syscalls.NEWNET)


def interpreters(folders: str) -> Iterator[dict[str, Any]]:
    """All that were found, the one that serves each runtime, and the platform's own."""
    found = _pythons(folders)
    text = ", ".join(f"{version} ({path})" for version, _, path in found)
    yield check("interpreters", "ok" if found else "missing", text or "none of python3.9 to python3.14",
                "install one: apt-get install python3", required=True)  # fmt: skip
    serving: dict[str, tuple[str, bool, str]] = {}
    for version, fast, path in found:
        serving.setdefault("python" + version.rpartition(".")[0], (version, fast, path))
    quick = next((f"name `runtime: {name}`, or " for name, (_, fast, _) in serving.items() if fast), "")
    for position, (name, (version, fast, path)) in enumerate(serving.items()):
        if position == 0:
            state, name = "ok" if fast else "limited", "python3"
        else:
            state = "ok"  # it is used by name only
        yield check(f"runtime {name}", state, _built(version, fast, path), quick + pythons.ADVICE)
    fast = pythons.optimised()
    text = _built(platform.python_version(), fast, os.path.realpath(sys.executable))
    yield check("platform runs on", "ok" if fast else "limited", text, pythons.ADVICE)


def node_runtimes(folders: str) -> Iterator[dict[str, Any]]:
    """The Node.js that serves each runtime `nodejs` and `nodejsN`, with its npm; why others do not do."""
    found: dict[tuple[int, ...], tuple[str, dict[str, Any]]] = {}
    for path in nodes.candidates(folders):
        said = nodes.ask(path)
        if isinstance(said, str):
            yield check(f"node {path}", "limited", said, f"install Node.js {nodes.OLDEST} or newer")
        else:
            found.setdefault(said["version"], (path, said))
    todo = "apt-get install nodejs npm; only functions of runtime nodejs need it"
    if not found:
        yield check("runtime nodejs", "limited", "not found", todo)
    serving = set()
    for position, (version, (path, said)) in enumerate(sorted(found.items(), reverse=True)):
        name = "nodejs" if position == 0 else f"nodejs{version[0]}"
        if version[0] not in serving:
            serving.add(version[0])
            npm = f"npm at {said['npm']}" if said["npm"] else "no npm, so package.json cannot be built"
            text = f"{'.'.join(map(str, version))} ({path}), {npm}"
            yield check(f"runtime {name}", "ok" if said["npm"] else "limited", text, "apt-get install npm")


def java_runtime() -> Iterator[dict[str, Any]]:
    """The JDK that serves the runtime `java`."""
    todo = "apt-get install openjdk-17-jdk-headless; only functions of runtime java need it"
    try:
        home, version = jdks.find_jdk()
        yield check("runtime java", "ok", f"{version} ({home})")
    except LookupError as error:
        yield check("runtime java", "limited", str(error), todo)


def _built(version: str, fast: bool, path: str) -> str:
    return f"{version} ({path}), {'optimised build' if fast else 'not an optimised build'}"


def _pythons(folders: str) -> list[tuple[str, bool, str]]:
    """(full version, optimised, path) of each python3.9 to python3.14 that starts, in the platform's order."""
    found: list[tuple[tuple[object, ...], tuple[str, bool, str]]] = []
    for path in pythons.candidates(folders):
        try:
            said = subprocess.run([path, "-I", "-S", "-c", _WHO, pythons.__file__],
                                  capture_output=True, text=True, timeout=20, check=True)  # fmt: skip
            version, final, fast = said.stdout.split()
            major, minor, patch = (int(part) for part in version.split("."))
        except (OSError, subprocess.SubprocessError, ValueError):
            continue
        order = pythons.order(True, final == "1", (major, minor, patch), fast == "1")
        found.append((order, (version, fast == "1", path)))
    return [item for _, item in sorted(found)]


def place(data: str, address: str, ports: list[int]) -> Iterator[dict[str, Any]]:
    """Disk space below the data directory, and ports that are free."""
    folder = Path(data).resolve()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    state = "ok" if free >= GIB else "limited" if free >= GIB // 10 else "missing"
    text = f"{free / GIB:.1f} GiB free below {folder}"
    yield check("disk", state, text, "free some space, or choose another place: --data DIR", required=True)
    if not os.access(folder, os.W_OK):
        yield check(
            "data directory", "missing", f"{folder} is not writable", "choose another: --data DIR", required=True
        )
    for port in ports:
        taken = _taken(address, port)
        todo = "if it is not Fuyun, choose others: --port, --api-port"
        yield check(f"port {port}", "limited" if taken else "ok", f"{address}: {taken or 'free'}", todo)


def _taken(address: str, port: int) -> str:
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
    except OSError as exc:
        return str(exc.strerror or exc)
    return ""


def probe(data: str, address: str, ports: list[int], folders: str) -> list[dict[str, Any]]:
    """Every check, in the order a person reads them."""
    own = [*host(), *namespaces(), *cgroups(), *kernel_features()]
    languages = [*interpreters(folders), *node_runtimes(folders), *java_runtime()]
    return [*own, *languages, *network(), *tools(), *place(data, address, ports)]


def main() -> None:
    """Print the checks as a JSON list."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=".")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, action="append", default=[])
    parser.add_argument("--interpreters", default="")
    options = parser.parse_args()
    json.dump(probe(options.data, options.host, options.port, options.interpreters), sys.stdout)
    print()


if __name__ == "__main__":
    main()
