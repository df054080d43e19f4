"""Control groups: recorded trees of every kind of host, and this machine's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuyun.runtime import cgroups
from fuyun.runtime.cgroups import GroupV1, GroupV2, Tree
from tests.waiting import wait_until

GIB = 2**30
MIB = 2**20


class Host:
    """A recorded hierarchy: mount table, membership, and folders with the files that a kernel would make."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mounts: list[str] = ["proc /proc proc rw 0 0"]
        self.membership: list[str] = []

    def v2(self, at: str, here: str, controllers: str, below: str | None = None, procs: str = "") -> Path:
        """A mounted hierarchy of version 2, and this process's group `here` in it with `below` delegated to it."""
        point = self.root / at
        self.folder(point, controllers=controllers, root=True)
        self.mounts.append(f"cgroup2 {point} cgroup2 rw,nosuid 0 0")
        self.membership.append(f"0::{here}")
        group = point / here.lstrip("/")
        if group != point:
            self.folder(group, controllers=controllers if below is None else below, procs=procs)
        return group

    def v1(self, controllers: str, here: str) -> Path:
        """A mounted hierarchy of version 1."""
        point = self.root / controllers
        point.mkdir(exist_ok=True)
        self.mounts.append(f"cgroup {point} cgroup rw,{controllers} 0 0")
        self.membership.append(f"{len(self.membership)}:{controllers}:{here}")
        group = point / here.lstrip("/")
        group.mkdir(parents=True, exist_ok=True)
        return group

    @staticmethod
    def folder(path: Path, controllers: str, procs: str = "", root: bool = False) -> None:
        """A group of version 2."""
        path.mkdir(parents=True, exist_ok=True)
        if not root:
            (path / "cgroup.type").write_text("domain\n")
        (path / "cgroup.controllers").write_text(controllers + "\n")
        (path / "cgroup.subtree_control").write_text("")
        (path / "cgroup.procs").write_text(procs)

    def tree(self, name: str = "fuyun-x.1") -> Tree:
        """What the platform makes of it."""
        mounts, membership = self.root / "mounts", self.root / "membership"
        mounts.write_text("\n".join(self.mounts) + "\n")
        membership.write_text("".join(f"{line}\n" for line in self.membership))
        return Tree(name, str(mounts), str(membership))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host whose new groups get the files a kernel would put into them."""
    made = os.makedirs

    def makedirs(path: str, mode: int = 0o777, exist_ok: bool = False) -> None:
        made(path, mode, exist_ok)
        if "fuyun" in os.path.basename(path) and (Path(path).parent / "cgroup.controllers").exists():
            Host.folder(Path(path), controllers=(Path(path).parent / "cgroup.controllers").read_text().strip())

    monkeypatch.setattr(cgroups.os, "makedirs", makedirs)
    return Host(tmp_path)


# --- which hierarchy


def test_version_2_at_its_root(host: Host) -> None:
    root = host.v2("cgroup", "/", "cpuset cpu io memory pids")
    (root / "cgroup.procs").write_text("1\n2\n")
    tree = host.tree()
    assert (tree.version, tree.reason) == (2, "")
    assert tree.bases == [str(root / "fuyun-x.1")]
    assert (root / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    assert (root / "fuyun-x.1/cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    assert not (root / "fuyun-platform").exists()


def test_version_2_delegated_to_a_user(host: Host) -> None:
    """Processes beside groups are moved aside first: a group of version 2 has the ones or the others."""
    here = host.v2("cgroup", "/user.slice/user-1.slice/user@1.service/app", "cpu memory pids", "memory pids", "")
    (here / "cgroup.procs").write_text(f"{os.getpid()}\n")
    tree = host.tree()
    assert tree.version == 2
    assert (here / "fuyun-platform/cgroup.procs").read_text() == str(os.getpid())
    assert (here / "cgroup.subtree_control").read_text() == "+memory +pids"


def test_version_2_in_a_container(host: Host) -> None:
    """The mount's top looks like the root, but is a group as any other."""
    top = host.v2("cgroup", "/", "cpu memory pids")
    Host.folder(top, "cpu memory pids", procs=f"{os.getpid()}\n")
    assert host.tree().version == 2
    assert (top / "fuyun-platform/cgroup.procs").read_text() == str(os.getpid())


def test_version_2_without_delegation_says_where(host: Host) -> None:
    here = host.v2("cgroup", "/user.slice/session-1.scope", "cpu memory pids", "cpu")
    tree = host.tree()
    assert tree.version == 0
    assert tree.reason == f"{here}: memory and pids are not delegated to this group"
    assert not (here / "fuyun-x.1").exists()


def test_version_2_that_cannot_be_written_says_why(host: Host) -> None:
    root = host.v2("cgroup", "/", "cpu memory pids")
    (root / "cgroup.subtree_control").unlink()
    (root / "cgroup.subtree_control").mkdir()
    tree = host.tree()
    assert tree.version == 0
    assert tree.reason == f"{root}/cgroup.subtree_control: Is a directory"


def test_both_versions_mounted_and_the_controllers_in_the_old_one(host: Host) -> None:
    """As systemd's hybrid layout and some virtual machines have it."""
    host.v2("unified", "/", "")
    for controllers, here in (("memory", "/own"), ("pids", "/"), ("cpu,cpuacct", "/own"), ("freezer", "/")):
        host.v1(controllers, here)
    host.v1("name=systemd", "/")
    tree = host.tree()
    assert tree.version == 1
    assert tree.bases == sorted(
        str(host.root / place / "fuyun-x.1") for place in ("memory/own", "pids", "cpu,cpuacct/own", "freezer")
    )


def test_an_old_group_that_is_not_visible_here(host: Host) -> None:
    """In a container the path of the membership may belong to the host: then the mount's own top is ours."""
    for controllers in ("memory", "pids"):
        host.v1(controllers, "/")
        host.membership[-1] = host.membership[-1].replace(":/", ":/docker/abc")
    tree = host.tree()
    assert tree.version == 1
    assert tree.bases == [str(host.root / "memory/fuyun-x.1"), str(host.root / "pids/fuyun-x.1")]


@pytest.mark.parametrize("mounted", [(), ("memory",), ("cpu", "freezer")])
def test_no_hierarchy_that_will_do(host: Host, mounted: tuple[str, ...]) -> None:
    for controllers in mounted:
        host.v1(controllers, "/")
    tree = host.tree()
    assert tree.version == 0
    assert tree.reason == "no mounted hierarchy has the controllers memory and pids"
    tree.close()


# --- groups


def _files(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("")


def test_limits_of_version_1(tmp_path: Path) -> None:
    names = ("memory", "pids", "cpu", "freezer")
    group = GroupV1({name: str(tmp_path / name) for name in names})
    _files(tmp_path / "memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes",
           "memory.kmem.tcp.limit_in_bytes", "cgroup.procs")  # fmt: skip
    _files(tmp_path / "pids", "pids.max", "cgroup.procs")
    _files(tmp_path / "cpu", "cpu.shares", "cpu.cfs_quota_us", "cgroup.procs")
    _files(tmp_path / "freezer", "freezer.state", "cgroup.procs")
    group.limits(GIB // 2, 0.25, 64)
    read = {path.name: path.read_text() for path in tmp_path.glob("*/*") if path.name != "cgroup.procs"}
    assert read == {
        "memory.limit_in_bytes": str(GIB // 2), "memory.memsw.limit_in_bytes": str(GIB // 2),
        "memory.kmem.tcp.limit_in_bytes": str(GIB // 2),
        "pids.max": "64", "cpu.shares": "512", "cpu.cfs_quota_us": "25000", "freezer.state": "",
    }  # fmt: skip
    group.freeze(True)
    assert (tmp_path / "freezer/freezer.state").read_text() == "FROZEN"
    group.attach(4711)
    assert {(tmp_path / name / "cgroup.procs").read_text() for name in names} == {"4711"}
    assert group.pids() == [4711]


def test_version_1_without_swap_accounting_or_cpu(tmp_path: Path) -> None:
    group = GroupV1({name: str(tmp_path / name) for name in ("memory", "pids")})
    _files(tmp_path / "memory", "memory.limit_in_bytes")
    _files(tmp_path / "pids", "pids.max")
    group.limits(GIB, 1.0, 8)
    group.freeze(True)  # there is nothing to do it with
    assert group.stats() == {"memory": 0, "peak": 0, "cpu_us": 0, "oom_kills": 0}


def test_limits_of_version_2(tmp_path: Path) -> None:
    group = GroupV2(str(tmp_path / "g"))
    names = ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max", "cpu.weight", "cgroup.freeze")
    _files(tmp_path / "g", *names, "cgroup.procs")
    group.limits(GIB, 1.5, 32)
    group.freeze(True)
    assert {name: (tmp_path / "g" / name).read_text() for name in names} == {
        "memory.max": str(GIB), "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": "32",
        "cpu.max": "150000 100000", "cpu.weight": "100", "cgroup.freeze": "1",
    }  # fmt: skip


@pytest.mark.parametrize(("memory", "weight"), [(16 * MIB, "1"), (2 * GIB, "200"), (2**50, "10000")])
def test_weights_of_the_cpu_follow_memory_within_what_the_kernel_takes(
    tmp_path: Path, memory: int, weight: str
) -> None:
    group = GroupV2(str(tmp_path / "g"))
    _files(tmp_path / "g", "memory.max", "pids.max", "cpu.max", "cpu.weight")
    group.limits(memory, 1.0, 8)
    assert (tmp_path / "g/cpu.weight").read_text() == weight


def test_figures(tmp_path: Path) -> None:
    two = GroupV2(str(tmp_path / "two"))
    for name, text in (
        ("memory.current", "4096\n"), ("memory.peak", "8192\n"), ("cpu.stat", "usage_usec 77\nuser_usec 70\n"),
        ("memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 1\n"),
    ):  # fmt: skip
        (tmp_path / "two" / name).write_text(text)
    assert two.stats() == {"memory": 4096, "peak": 8192, "cpu_us": 77, "oom_kills": 2}
    (tmp_path / "two/memory.peak").unlink()  # before Linux 5.19
    assert two.stats()["peak"] == 4096
    one = GroupV1({name: str(tmp_path / "one" / name) for name in ("memory", "pids", "cpuacct")})
    for name, text in (
        ("memory/memory.usage_in_bytes", "4096\n"), ("memory/memory.max_usage_in_bytes", "8192\n"),
        ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
        ("cpuacct/cpuacct.usage", "77123\n"),
    ):  # fmt: skip
        (tmp_path / "one" / name).write_text(text)
    assert one.stats() == {"memory": 4096, "peak": 8192, "cpu_us": 77, "oom_kills": 2}


def test_groups_are_removed_and_what_is_gone_is_gone(tmp_path: Path) -> None:
    group = GroupV1({name: str(tmp_path / name / "g") for name in ("memory", "pids")})
    (tmp_path / "pids/g/child").mkdir()
    assert not group.remove()
    assert not (tmp_path / "memory/g").exists()
    (tmp_path / "pids/g/child").rmdir()
    assert group.remove()
    assert group.remove()


# --- the whole part


def test_what_is_left_is_ended_and_swept(host: Host) -> None:
    root = host.v2("cgroup", "/", "memory pids")
    tree = host.tree("fuyun-x.new")
    for run in ("fuyun-x.old", "fuyun-x.new", "fuyun-y.1"):
        (root / run / "a").mkdir(parents=True, exist_ok=True)
        for file in (root / run).glob("cgroup.*"):
            file.unlink()  # a kernel's files go with their folder
    killed: list[int] = []
    tree.sweep_others()
    assert sorted(path.name for path in root.glob("fuyun*")) == ["fuyun-x.new", "fuyun-y.1"]
    procs = root / "fuyun-x.new/a/cgroup.procs"
    procs.write_text("11\n0\n12\n")
    assert not tree.sweep(killed.append)  # not before they are gone
    assert killed == [11, 12]
    procs.unlink()
    assert tree.sweep(killed.append)
    tree.close()
    assert sorted(path.name for path in root.glob("fuyun*")) == ["fuyun-y.1"]
    cgroups.clear_up([str(root / "fuyun-y.9")])
    assert list(root.glob("fuyun*")) == []
    cgroups.clear_up(["/nonexistent/folder"])


def test_thawing(tmp_path: Path) -> None:
    for name in ("a", "b/c"):
        _files(tmp_path / "base" / name, "freezer.state")
    cgroups.thaw([str(tmp_path / "base"), "/nonexistent"])
    assert {path.read_text() for path in tmp_path.rglob("freezer.state")} == {"THAWED"}


# --- this machine


@pytest.fixture
def tree() -> Iterator[Tree]:
    """A tree of this machine's own."""
    tree = Tree(f"fuyun-test-{os.getpid()}.1")
    if not tree.version:
        assert os.getuid() != 0, tree.reason
        pytest.skip(f"no control groups for this user: {tree.reason}")
    yield tree
    wait_until(lambda: tree.sweep(lambda pid: os.kill(pid, signal.SIGKILL)), "the groups to be empty")
    tree.close()
    assert not [base for base in tree.bases if os.path.exists(base)]


HOG = """
import sys
sys.stdin.readline()
held = bytearray(b"x") * (int(sys.argv[1]) << 20)
print("held", flush=True)
sys.stdin.read()
"""
FORKS = """
import os, sys
sys.stdin.readline()
made = 0
try:
    while made < 50 and os.fork():
        made += 1
except OSError:
    print(made)
"""


def _hog(size_mib: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", HOG, str(size_mib)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def _go(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


def test_real_limits_and_figures(tree: Tree) -> None:
    group = tree.create("a")
    group.limits(64 * MIB, 1.0, 16)
    with _hog(20) as process:
        group.attach(process.pid)
        assert group.pids() == [process.pid]
        _go(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        stats = group.stats()
        assert 20 * MIB <= stats["memory"] <= stats["peak"] <= 64 * MIB
        assert stats["cpu_us"] > 0
        assert stats["oom_kills"] == 0
        group.limits(48 * MIB, 0.5, 16)  # down
        group.limits(96 * MIB, 2.0, 16)  # and up again
        assert not group.remove()
        process.kill()
    wait_until(group.remove, "the group to be removable")


def test_a_real_memory_limit_kills(tree: Tree) -> None:
    group = tree.create("a")
    group.limits(48 * MIB, 1.0, 16)
    with _hog(200) as process:
        group.attach(process.pid)
        _go(process)
        assert process.wait(20) == -signal.SIGKILL
    assert group.stats()["oom_kills"] >= 1
    wait_until(group.remove, "the group to be removable")


def test_a_real_freezer_holds_and_lets_go(tree: Tree) -> None:
    group = tree.create("a")
    group.limits(64 * MIB, 1.0, 16)
    with _hog(1) as process:
        group.attach(process.pid)
        group.freeze(True)
        _go(process)
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
        assert process.stdout.read() is None
        group.freeze(False)
        wait_until(lambda: process.stdout is not None and process.stdout.read() == b"held\n", "its word")
        group.freeze(True)
        process.kill()
        cgroups.thaw(tree.bases)  # without it version 1 would keep it for ever
        assert process.wait(5) == -signal.SIGKILL
    wait_until(group.remove, "the group to be removable")


def test_a_real_bound_of_processes(tree: Tree) -> None:
    group = tree.create("a")
    group.limits(128 * MIB, 1.0, 3)
    command = [sys.executable, "-I", "-S", "-c", FORKS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        group.attach(process.pid)
        _go(process)
        out, _ = process.communicate(timeout=10)
        assert out == b"2\n"
    wait_until(group.remove, "the group to be removable")
