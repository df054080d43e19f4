"""What a function can reach, seen from inside it, as root and rootless (DESIGN section 5, promise 9)."""

from __future__ import annotations

import os
import secrets
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running import Platform

pytestmark = pytest.mark.e2e

MIB = 1024 * 1024

#: Runs what the test sends. `syscall(number, ...)` gives (result, errno).
PROBE = """
import ctypes, os

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

def syscall(*arguments):
    ctypes.set_errno(0)
    result = libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    return [result, ctypes.get_errno()]

def attempt(call, *arguments):
    try:
        return ["done", repr(call(*arguments))[:200]]
    except OSError as error:
        return ["refused", type(error).__name__]

def handler(event, context):
    scope = {"syscall": syscall, "attempt": attempt, "os": os, "ctypes": ctypes, "arg": event.get("arg")}
    exec(event["code"], scope)
    return scope["result"]
"""

#: x86-64 and arm64 numbers of calls that reach beyond the sandbox, each with arguments that would work for root.
CALLS: dict[str, tuple[int, int, str]] = {
    "mount": (165, 40, "b'none', b'/tmp', b'tmpfs', 0, b''"),
    "umount2": (166, 39, "b'/tmp', 2"),
    "pivot_root": (155, 41, "b'/tmp', b'/tmp'"),
    "chroot": (161, 51, "b'/tmp'"),
    "unshare user": (272, 97, "0x10000000"),
    "unshare mount": (272, 97, "0x00020000"),
    "setns": (308, 268, "0, 0"),
    "ptrace attach": (101, 117, "16, 1, 0, 0"),
    "process_vm_readv": (310, 270, "1, 0, 0, 0, 0, 0"),
    "init_module": (175, 105, "b'', 0, b''"),
    "finit_module": (313, 273, "0, b'', 0"),
    "delete_module": (176, 106, "b'loop', 0"),
    "kexec_load": (246, 104, "0, 0, 0, 0"),
    "add_key": (248, 217, "b'user', b'x', b'y', 1, -3"),
    "request_key": (249, 218, "b'user', b'x', b'', -3"),
    "keyctl": (250, 219, "0, -3, 0"),
    "bpf": (321, 280, "5, 0, 0"),
    "perf_event_open": (298, 241, "0, 0, -1, -1, 0"),
    "io_uring_setup": (425, 425, "8, 0"),
    "userfaultfd": (323, 282, "0"),
    "open_by_handle_at": (304, 265, "-100, 0, 0"),
    "swapon": (167, 224, "b'/tmp', 0"),
    "reboot": (169, 142, "0xfee1dead, 672274793, 0, 0"),
    "sethostname": (170, 161, "b'x', 1"),
    "settimeofday": (164, 170, "0, 0"),
    "acct": (163, 89, "b'/tmp/a'"),
    "quotactl": (179, 60, "0, b'/tmp', 0, 0"),
    "syslog": (103, 116, "3, 0, 0"),
    "mknod block": (259, 33, "-100, b'/tmp/disk', 0o60600, 0x800"),
    "fsopen": (430, 430, "b'tmpfs', 0"),
    "move_mount": (429, 429, "-100, b'/', -100, b'/tmp', 0"),
}


@pytest.fixture(scope="module", params=["blank", "template"])
def probe(request: pytest.FixtureRequest, either_platform: Platform) -> Iterator[Any]:
    """Run Python inside a function of the platform and return its `result`: in an instance that was a blank, and in one
    that was forked from a template (docs/decisions/0003)."""
    either_platform.deploy("probe", PROBE, timeout_s=20.0, start=request.param)

    def run(code: str, arg: Any = None) -> Any:
        answer = either_platform.invoke("probe", {"code": textwrap.dedent(code), "arg": arg})
        assert answer.status_code == 200, answer.text
        return answer.json()

    run("result = None")
    assert [one["start"] for one in either_platform.instances_of("probe")] == [request.param]
    yield run
    either_platform.remove("probe")


@pytest.mark.parametrize("name", CALLS)
def test_calls_beyond_the_sandbox_fail(probe: Any, name: str) -> None:
    x86, arm, arguments = CALLS[name]
    number = x86 if os.uname().machine == "x86_64" else arm
    result, error = probe(f"result = syscall({number}, {arguments})")
    assert result == -1
    assert error != 0


def test_clone_into_a_user_namespace_fails(probe: Any) -> None:
    number = 56 if os.uname().machine == "x86_64" else 220
    result, _ = probe(
        f"""
        result = syscall({number}, 0x10000000 | 17, 0, 0, 0, 0)
        if result[0] == 0:
            os._exit(0)
        """
    )
    assert result == -1


def test_no_capability_and_no_way_to_one(probe: Any) -> None:
    found = probe(
        """
        with open("/proc/self/status") as file:
            result = dict(line.split(":", 1) for line in file)
        """
    )
    found = {name: value.strip() for name, value in found.items()}
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(found[name], 16) == 0, name
    assert found["NoNewPrivs"] == "1"
    assert found["Seccomp"] == "2"


def test_the_hosts_files_are_out_of_reach(probe: Any, either_platform: Platform) -> None:
    marker = either_platform.root / f"marker-{secrets.token_hex(8)}"
    marker.write_text("the host's")
    marker.chmod(0o644)
    places = [
        str(marker), str(either_platform.data), str(either_platform.data / "fuyun.db"),
        str(either_platform.data / "secret.key"), str(either_platform.data / "objects"),
        "/etc/shadow", "/etc/ssh", "/root", "/home", "/var/lib", "/var/log", "/run/docker.sock", "/proc/1/environ/..",
        "/proc/kcore", "/proc/sysrq-trigger", "/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/vda", "/sys/kernel/debug",
        "/sys/firmware/efi", "/proc/1/root/root", str(Path(__file__).resolve()),
    ]  # fmt: skip
    found = probe(
        """
        def peek(path):
            if os.path.isdir(path):
                return os.listdir(path) or os.open("/nonexistent", 0)
            with open(path, "rb") as file:
                return file.read(16)

        result = {path: attempt(peek, path) for path in arg}
        """,
        places,
    )
    assert {path: what for path, what in found.items() if what[0] == "done"} == {}


def test_nothing_but_tmp_can_be_written(probe: Any) -> None:
    found = probe(
        """
        here = os.path.dirname(os.path.abspath(__import__("handler").__file__))
        places = ["/", "/etc", "/usr", "/usr/lib", "/usr/bin", "/var", "/bin", "/lib", "/dev", "/proc", "/sys", here]

        def write(folder):
            with open(os.path.join(folder, "x"), "w") as file:
                file.write("x")

        result = {place: attempt(write, place) for place in places}
        write("/tmp")
        os.unlink("/tmp/x")
        """
    )
    assert {place: what for place, what in found.items() if what[0] == "done"} == {}


def test_the_handlers_code_cannot_be_changed(probe: Any) -> None:
    found = probe(
        """
        path = os.path.abspath(__import__("handler").__file__)
        result = [attempt(open, path, "a"), attempt(os.unlink, path), attempt(os.chmod, path, 0o777)]
        """
    )
    assert [what for what, _ in found] == ["refused"] * 3


def test_no_process_of_the_host_is_seen(probe: Any) -> None:
    found = probe(
        """
        result = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/cmdline", "rb") as file:
                        result[name] = file.read().replace(bytes(1), b" ").decode()
                except OSError as error:
                    result[name] = type(error).__name__
        """
    )
    assert 1 <= len(found) <= 4, found
    assert not [line for line in found.values() if "pytest" in line or " up " in line], found


def test_no_process_beyond_the_sandbox_can_be_signalled(probe: Any, either_platform: Platform) -> None:
    pids = [either_platform.process.pid, os.getpid(), os.getppid()]
    found = probe("result = [attempt(os.kill, pid, 0) for pid in arg]", pids)
    assert [what for what, _ in found] == ["refused"] * 3


def test_the_platforms_ports_are_out_of_reach(probe: Any, either_platform: Platform) -> None:
    ports = [int(address.rpartition(":")[2]) for address in (either_platform.gateway, either_platform.api)]
    found = probe(
        """
        import socket

        HOSTS = ("127.0.0.1", "localhost", "169.254.169.254")

        def connect(host, port):
            with socket.create_connection((host, port), timeout=1):
                return "connected"

        result = [attempt(connect, host, port) for port in arg for host in HOSTS]
        """,
        ports,
    )
    assert [what for what, _ in found] == ["refused"] * len(found)


def test_no_abstract_or_raw_socket_leads_out(probe: Any) -> None:
    with open("/proc/net/unix") as table:
        names = [line.split()[-1] for line in table if line.split()[-1].startswith("@")]
    found = probe(
        """
        import socket

        def connect(name):
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(bytes(1) + name[1:].encode())

        def raw(family, kind, protocol):
            socket.socket(family, kind, protocol).close()

        result = [attempt(connect, name) for name in arg]
        result += [attempt(raw, socket.AF_INET, socket.SOCK_RAW, 1), attempt(raw, socket.AF_PACKET, socket.SOCK_RAW, 3)]
        """,
        names,
    )
    assert [what for what, _ in found] == ["refused"] * len(found)


def test_only_its_own_descriptors_are_open(probe: Any) -> None:
    found = probe(
        """
        result = {}
        for fd in os.listdir("/proc/self/fd"):
            try:
                result[fd] = os.readlink(f"/proc/self/fd/{fd}")
            except OSError:
                pass
        """
    )
    kinds = ("socket:", "pipe:", "/dev/null", "anon_inode:", "/proc/")
    assert not [target for target in found.values() if not target.startswith(kinds)], found
    assert len(found) < 16


def test_the_environment_is_the_functions_own(probe: Any, either_platform: Platform) -> None:
    found = probe("result = dict(os.environ)")
    text = repr(found)
    assert either_platform.key not in text
    assert str(either_platform.root) not in text
    assert not [name for name in found if name.startswith(("PIP_", "UV_", "XDG_", "SSH_", "SUDO_"))]


def test_tmp_is_private_and_bounded(either_platform: Platform) -> None:
    source = """
def handler(event, context):
    import os
    if event["write"]:
        with open("/tmp/" + event["write"], "w") as file:
            file.write("x")
    try:
        with open("/tmp/big", "wb") as file:
            for _ in range(64):
                file.write(b"x" * 1024 * 1024)
        full = False
    except OSError:
        full = True
    os.path.exists("/tmp/big") and os.unlink("/tmp/big")
    return {"files": os.listdir("/tmp"), "full": full}
"""
    either_platform.deploy("tmp-a", source, tmp_bytes=8 * MIB)
    either_platform.deploy("tmp-b", source, tmp_bytes=8 * MIB)
    try:
        first = either_platform.invoke("tmp-a", {"write": "mine"}).json()
        second = either_platform.invoke("tmp-b", {"write": ""}).json()
    finally:
        either_platform.remove("tmp-a")
        either_platform.remove("tmp-b")
    assert first == {"files": ["mine"], "full": True}
    assert second == {"files": [], "full": True}


def test_other_tenants_code_is_out_of_reach(probe: Any, either_platform: Platform) -> None:
    api, marker = either_platform.api, f"m{secrets.token_hex(8)}"
    made = either_platform.http.post(f"{api}/v1/namespaces", json={"name": "tenant-b"})
    assert made.is_success, made.text
    source = f"{marker} = 1\n\ndef handler(event, context):\n    return {marker}\n"
    either_platform.deploy("hidden", {"handler.py": source, f"{marker}.txt": "here"}, namespace="tenant-b")
    try:
        assert either_platform.invoke("hidden", {}, namespace="tenant-b").json() == 1
        found = probe(
            """
            result = []
            for folder, folders, files in os.walk("/", followlinks=False):
                folders[:] = [f for f in folders if os.path.join(folder, f) not in ("/proc", "/sys", "/usr/share")]
                result += [os.path.join(folder, f) for f in files if arg in f]
            """,
            marker,
        )
        assert found == []
    finally:
        either_platform.remove("hidden", namespace="tenant-b")
        either_platform.http.delete(f"{api}/v1/namespaces/tenant-b")


def test_memory_and_processes_are_bounded(either_platform: Platform) -> None:
    source = """
import os

def handler(event, context):
    children = 0
    try:
        while children < 200:
            if os.fork() == 0:
                import time
                time.sleep(600)
            children += 1
    except OSError:
        pass
    return children
"""
    either_platform.deploy("counts", source, pids=24)
    try:
        answer = either_platform.invoke("counts", {})
    finally:
        either_platform.remove("counts")
    assert answer.status_code == 200, answer.text
    assert answer.json() < 24


def test_what_runs_in_a_process_of_no_isolation_was_asked_for_by_name(either_platform: Platform) -> None:
    either_platform.deploy("open-air", "import os\n\ndef handler(event, context):\n    return os.getpid()\n")
    try:
        inside = either_platform.invoke("open-air", {}).json()
    finally:
        either_platform.remove("open-air")
    assert inside < 100, "a sandboxed instance has a process namespace of its own"
