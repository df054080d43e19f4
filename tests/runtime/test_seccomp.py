"""The system call filter: read by an interpreter of the kernel's filter machine, and tried in real processes."""

from __future__ import annotations

import errno
import json
import os
import platform
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuyun.runtime import seccomp, syscalls

SOURCE = Path(__file__).resolve().parents[2] / "src"
X86, ARM = 0xC000003E, 0xC00000B7
ARCH = ARM if platform.machine() == "aarch64" else X86

ALLOW, KILL = "allow", "kill"
EPERM, ENOSYS, EAFNOSUPPORT = (errno.errorcode[n] for n in (errno.EPERM, errno.ENOSYS, errno.EAFNOSUPPORT))


def run(program: bytes, number: int, *arguments: int, arch: int = ARCH) -> tuple[str, int]:
    """What the filter says to a system call, and in how many instructions (Linux `filter.h`, `seccomp.h`)."""
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, arch, 0, *[value & (2**64 - 1) for value in padded])
    instructions = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    position = steps = accumulator = 0
    while True:
        code, yes, no, value = instructions[position]
        position += 1
        steps += 1
        if code == 0x20:  # load a word of the data
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif code == 0x15:
            position += yes if accumulator == value else no
        elif code == 0x35:
            position += yes if accumulator >= value else no
        elif code == 0x45:
            position += yes if accumulator & value else no
        elif code == 0x06:
            return _meaning(value), steps
        else:
            raise AssertionError(f"instruction {code:#x}")


def _meaning(value: int) -> str:
    if value == 0x7FFF0000:
        return ALLOW
    if value == 0x80000000:
        return KILL
    assert value >> 16 == 0x0005
    return errno.errorcode[value & 0xFFFF]


STRICT, TEMPLATE = seccomp.program(False), seccomp.program(True)
LISTED = seccomp._numbers()
SPECIAL = {
    "clone": syscalls.NUMBERS["clone"],
    "clone3": 435,
    "socket": 198 if ARCH == ARM else 41,
    "personality": 92 if ARCH == ARM else 135,
    "ioctl": 29 if ARCH == ARM else 16,
    "fcntl": 25 if ARCH == ARM else 72,
}
NAMESPACES = {
    "time": 0x80, "mount": 0x00020000, "cgroup": 0x02000000, "uts": 0x04000000, "ipc": 0x08000000,
    "user": 0x10000000, "pid": 0x20000000, "net": 0x40000000,
}  # fmt: skip


# --- every number


@pytest.mark.parametrize("program", [STRICT, TEMPLATE], ids=["strict", "template"])
def test_every_number_has_the_verdict_it_should(program: bytes) -> None:
    ours = set(SPECIAL.values())
    if program is TEMPLATE:
        ours |= {syscalls.NUMBERS["move_mount"], syscalls.NUMBERS["unshare"]}
    listed = set(LISTED.values())
    for number in range(1024):
        if number in ours:
            continue
        verdict, steps = run(program, number)
        expected = ALLOW if number in listed else ENOSYS if number > 449 else EPERM
        assert verdict == expected, f"{number}: {verdict}"
        assert steps <= 40, f"{number} takes {steps} instructions"


@pytest.mark.parametrize("program", [STRICT, TEMPLATE], ids=["strict", "template"])
def test_other_architectures_end_the_process(program: bytes) -> None:
    for arch in (0x40000003, X86 if ARCH == ARM else ARM, 0, 0xFFFFFFFF):
        assert run(program, LISTED["read"], arch=arch)[0] == KILL


@pytest.mark.skipif(ARCH != X86, reason="a trick of x86_64")
def test_the_second_set_of_numbers_of_x86_64_does_not_exist() -> None:
    for number in (0, 1, 41, 56, 165, 435, 520):
        assert run(STRICT, 0x40000000 | number)[0] == ENOSYS


@pytest.mark.parametrize(
    "name",
    ["mount", "umount2", "pivot_root", "setns", "unshare", "move_mount", "fsopen", "fsconfig", "fsmount",
     "mount_setattr", "sethostname"],
)  # fmt: skip
def test_namespaces_and_mounts_are_out_of_reach(name: str) -> None:
    assert run(STRICT, syscalls.NUMBERS[name])[0] == EPERM


X86_NUMBERS = {
    "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "init_module": 175,
    "finit_module": 313, "delete_module": 176, "kexec_load": 246, "kexec_file_load": 320, "add_key": 248,
    "request_key": 249, "keyctl": 250, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "io_uring_setup": 425,
    "io_uring_enter": 426, "io_uring_register": 427, "settimeofday": 164, "clock_settime": 227, "clock_adjtime": 305,
    "adjtimex": 159, "swapon": 167, "swapoff": 168, "quotactl": 179, "open_by_handle_at": 304, "name_to_handle_at": 303,
    "fanotify_init": 300, "mknod": 133, "mknodat": 259, "reboot": 169, "syslog": 103, "acct": 163, "chroot": 161,
    "iopl": 172, "ioperm": 173, "lookup_dcookie": 212, "vhangup": 153, "pidfd_getfd": 438, "process_madvise": 440,
    "open_tree": 428, "fspick": 433, "setdomainname": 171, "migrate_pages": 256, "move_pages": 279, "uselib": 134,
    "modify_ldt": 154, "io_setup": 206, "inotify_init": 253, "inotify_init1": 294, "mq_open": 240, "sync": 162,
    "syncfs": 306,
}  # fmt: skip


@pytest.mark.skipif(ARCH != X86, reason="numbers of x86_64")
def test_what_reaches_beyond_the_sandbox_is_out_of_reach() -> None:
    for name, number in X86_NUMBERS.items():
        for program in (STRICT, TEMPLATE):
            assert run(program, number)[0] in (EPERM, ENOSYS), name


# --- calls whose arguments decide


def test_clone_without_namespaces_only() -> None:
    number = SPECIAL["clone"]
    for program in (STRICT, TEMPLATE):
        for flags in (17, 0x01200011, 0x003D0F00, 0x00010F00 | 0x100 | 0x4000):  # fork, glibc's fork, a thread, vfork
            assert run(program, number, flags)[0] == ALLOW
        for flag in NAMESPACES.values():
            if flag != NAMESPACES["time"]:
                for others in (0, 17, 0x003D0F00):
                    assert run(program, number, flag | others)[0] == EPERM
        assert run(program, SPECIAL["clone3"])[0] == ENOSYS


def test_a_template_may_clone_with_one_exact_set_of_flags() -> None:
    number = SPECIAL["clone"]
    exact = syscalls.INSTANCE_NAMESPACES | 0x01200000 | 17
    assert run(TEMPLATE, number, exact)[0] == ALLOW
    assert run(STRICT, number, exact)[0] == EPERM
    for bit in range(32):
        changed = exact ^ 1 << bit
        if changed & (syscalls.ALL_NAMESPACES):
            assert run(TEMPLATE, number, changed)[0] == EPERM, hex(changed)


def test_a_template_may_mount_its_tmp_and_leave_its_cgroup_namespace() -> None:
    assert run(TEMPLATE, syscalls.NUMBERS["move_mount"])[0] == ALLOW
    unshare = syscalls.NUMBERS["unshare"]
    assert run(TEMPLATE, unshare, syscalls.NEWCGROUP)[0] == ALLOW
    for flag in NAMESPACES.values():
        if flag != syscalls.NEWCGROUP:
            assert run(TEMPLATE, unshare, flag)[0] == EPERM
            assert run(TEMPLATE, unshare, flag | syscalls.NEWCGROUP)[0] == EPERM


def test_sockets_of_three_families_only() -> None:
    for family in range(64):
        verdict = run(STRICT, SPECIAL["socket"], family, 1, 0)[0]
        assert verdict == (ALLOW if family in (1, 2, 10) else EAFNOSUPPORT)


def test_personality_may_be_read_or_reset() -> None:
    for persona, verdict in ((0, ALLOW), (0xFFFFFFFF, ALLOW), (0x0040000, EPERM), (8, EPERM), (1, EPERM)):
        assert run(STRICT, SPECIAL["personality"], persona)[0] == verdict


def test_no_terminal_is_typed_into() -> None:
    for request, verdict in ((0x5412, EPERM), (0x541C, EPERM), (0x5401, ALLOW), (0x5413, ALLOW), (0x8914, ALLOW)):
        assert run(STRICT, SPECIAL["ioctl"], 0, request)[0] == verdict
        # the kernel reads 32 bits of it, so the upper ones may not hide it
        assert run(STRICT, SPECIAL["ioctl"], 0, request | 0xABCD << 32)[0] == verdict


def test_files_that_are_shared_are_neither_leased_nor_watched() -> None:
    for command, verdict in ((1024, EPERM), (1026, EPERM), (1025, ALLOW), (1, ALLOW), (6, ALLOW), (1030, ALLOW)):
        assert run(STRICT, SPECIAL["fcntl"], 0, command)[0] == verdict
        assert run(STRICT, SPECIAL["fcntl"], 0, command | 0xABCD << 32)[0] == verdict


@settings(max_examples=300)
@given(
    st.sampled_from([STRICT, TEMPLATE]), st.integers(0, 2**32 - 1) | st.integers(0, 500),
    st.lists(st.integers(0, 2**64 - 1), max_size=6),
)  # fmt: skip
def test_every_call_gets_a_verdict(program: bytes, number: int, arguments: list[int]) -> None:
    verdict, steps = run(program, number, *arguments)
    assert verdict in (ALLOW, EPERM, ENOSYS, EAFNOSUPPORT)
    assert steps <= 48


def test_what_no_control_group_counts_is_refused_and_nothing_else() -> None:
    code = seccomp.uncounted()
    refused = {syscalls.NUMBERS["memfd_create"], syscalls.NUMBERS["shmget"]}
    for number in range(1024):
        assert run(code, number)[0] == (EPERM if number in refused else ALLOW)
    assert run(code, LISTED["read"], arch=0x40000003)[0] == KILL


def test_the_programs_are_within_what_the_kernel_takes() -> None:
    for program in (STRICT, TEMPLATE):
        assert len(program) % 8 == 0
        assert len(program) // 8 < 4096
        for at in range(0, len(program), 8):
            code, yes, no, value = struct.unpack_from("=HBBI", program, at)
            assert at + 8 * (1 + max(yes, no)) < len(program) or code == 0x06
            assert code != 0x20 or value in (0, 4, 16, 24)


# --- the list itself


def _kernel_numbers() -> Iterator[tuple[str, int]]:
    """Names and numbers of this machine's C library headers, where they are installed."""
    for path in ("/usr/include/asm/unistd_64.h", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"):
        if os.path.exists(path):
            for line in Path(path).read_text().splitlines():
                words = line.split()
                if len(words) == 3 and words[1].startswith("__NR_") and words[2].isdigit():
                    yield words[1].removeprefix("__NR_"), int(words[2])
            return


@pytest.mark.skipif(ARCH != X86, reason="the headers read are those of x86_64")
def test_the_numbers_are_the_kernels() -> None:
    known = dict(_kernel_numbers())
    if not known:
        pytest.skip("the C library's headers are not installed: apt-get install linux-libc-dev")
    for name, number in {**LISTED, **syscalls.NUMBERS}.items():
        assert name not in known or known[name] == number, name
    for name, number in X86_NUMBERS.items():
        assert name not in known or known[name] == number, name


def test_each_call_is_listed_once() -> None:
    names = [item.partition(":")[0] for item in seccomp.ALLOWED.split()]
    assert len(names) == len(set(names))
    for column in (0, 1):
        pairs = [item.partition(":")[2].split("/")[column] for item in seccomp.ALLOWED.split()]
        numbers = [number for number in pairs if number != "-"]
        assert len(numbers) == len(set(numbers))
        assert all(int(number) < 450 for number in numbers)


# --- real processes


def attempt(code: str, template: bool = False) -> Any:
    """Run `code` under the filter in a process of its own; what it puts into `found`."""
    program = f"""
import ctypes, errno, json, os, socket, sys
sys.path.insert(0, {str(SOURCE)!r})
from fuyun.runtime import seccomp, syscalls
libc = ctypes.CDLL(None, use_errno=True)
found = {{}}
def call(name, number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(number, *[ctypes.c_ulong(a) for a in arguments])
    found[name] = errno.errorcode.get(ctypes.get_errno(), "ok") if result < 0 else "ok"
syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
seccomp.Filter(seccomp.program({template})).install()
{textwrap.dedent(code)}
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_a_real_process_meets_the_verdicts() -> None:
    numbers = {name: syscalls.NUMBERS[name] for name in ("unshare", "setns", "mount", "umount2", "pivot_root")}
    found = attempt(
        f"""
        for name, number in {numbers!r}.items():
            call(name, number, 0, 0, 0, 0, 0)
        call("clone3", 435, 0, 0)
        call("future", 999)
        call("gettid", {LISTED["gettid"]})
        call("clone", {SPECIAL["clone"]}, {syscalls.NEWUSER | 17}, 0, 0, 0, 0)
        for family in (socket.AF_NETLINK, socket.AF_PACKET, 38, 40):
            call(f"socket {{family}}", {SPECIAL["socket"]}, family, 2, 0)
        """
    )
    assert found == {
        **dict.fromkeys(numbers, EPERM), "clone3": ENOSYS, "future": ENOSYS, "gettid": "ok", "clone": EPERM,
        "socket 16": EAFNOSUPPORT, "socket 17": EAFNOSUPPORT, "socket 38": EAFNOSUPPORT, "socket 40": EAFNOSUPPORT,
    }  # fmt: skip


def test_ordinary_programs_do_not_notice() -> None:
    found = attempt(
        """
        import subprocess, tempfile, threading, multiprocessing.shared_memory, select, mmap, signal, time, asyncio
        thread = threading.Thread(target=lambda: found.update(thread=1))
        thread.start()
        thread.join()
        found["child"] = subprocess.run(["/bin/sh", "-c", "echo out"], capture_output=True, text=True).stdout
        with tempfile.TemporaryDirectory() as folder:
            with open(folder + "/f", "w") as out:
                out.write("x")
            os.rename(folder + "/f", folder + "/g")
            found["file"] = os.stat(folder + "/g").st_size
        server = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(server.getsockname())
        client.sendall(b"hello")
        found["tcp"] = server.accept()[0].recv(5).decode()
        found["pair"] = [s.family.name for s in socket.socketpair()]
        poll = select.epoll()
        poll.register(client.fileno())
        signal.setitimer(signal.ITIMER_REAL, 10)
        found["map"] = len(mmap.mmap(-1, 4096))
        async def main():
            await asyncio.sleep(0)
            return await asyncio.to_thread(lambda: 7)
        found["asyncio"] = asyncio.run(main())
        found["fork"] = os.waitstatus_to_exitcode(os.waitpid(os.fork() or os._exit(3), 0)[1])
        found["time"] = time.sleep(0.001)
        """
    )
    assert found == {
        "thread": 1, "child": "out\n", "file": 1, "tcp": "hello", "pair": ["AF_UNIX", "AF_UNIX"], "map": 4096,
        "asyncio": 7, "fork": 3, "time": None,
    }  # fmt: skip


def test_the_strict_filter_goes_on_top_of_a_templates() -> None:
    found = attempt(
        f"""
        call("before", {syscalls.NUMBERS["unshare"]}, {syscalls.NEWCGROUP})
        seccomp.Filter(seccomp.program(False)).install()
        call("after", {syscalls.NUMBERS["unshare"]}, {syscalls.NEWCGROUP})
        call("move_mount", {syscalls.NUMBERS["move_mount"]}, 0, 0, 0, 0, 0)
        """,
        template=True,
    )
    assert found["after"] == found["move_mount"] == EPERM
    assert found["before"] == ("ok" if os.getuid() == 0 else EPERM)
