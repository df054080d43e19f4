"""System calls of our own: forks with namespaces, mounts, descriptors of processes and of mounts, capabilities."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fuyun.runtime import syscalls
from tests.runtime.confined import run


def test_an_error_names_the_call() -> None:
    with pytest.raises(FileNotFoundError, match="umount2: No such file"):
        syscalls.call("umount2", b"/nonexistent", 0)
    with pytest.raises(OSError, match="prctl 38: Invalid argument"):
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 2)


def test_the_place_of_the_cached_thread_id_is_found() -> None:
    assert syscalls._tid_address() != 0


def test_a_clone_is_a_fork() -> None:
    """Also what glibc remembers of the thread: signals to itself, robust locks and further threads rely on it."""
    assert run(
        """
        import threading
        hooked = []
        os.register_at_fork(after_in_child=lambda: hooked.append(1))
        reader, writer = os.pipe()
        pid = syscalls.clone(0)
        if pid == 0:
            seen = {}
            seen["pid"] = os.getpid()
            seen["native"] = threading.get_native_id()
            seen["parent"] = os.getppid()
            address = syscalls._tid_address()
            seen["cached"] = address and ctypes.c_int.from_address(address).value
            caught = []
            signal.signal(signal.SIGUSR1, lambda *a: caught.append(1))
            signal.raise_signal(signal.SIGUSR1)  # glibc: tgkill(getpid(), the cached thread id)
            seen["caught"] = len(caught)
            thread = threading.Thread(target=lambda: seen.update(thread=1))
            thread.start()
            thread.join()
            seen["hooks"] = len(hooked)
            os.write(writer, json.dumps(seen).encode())
            os._exit(5)
        found["status"] = wait(pid)
        seen = json.loads(os.read(reader, 4096))
        for name in ("pid", "native", "cached"):
            found[name] = seen[name] == pid
        found["parent"] = seen["parent"] == os.getpid()
        found.update({name: seen[name] for name in ("caught", "thread", "hooks")})
        """
    ) == {
        "status": 5, "pid": True, "native": True, "cached": True, "parent": True, "caught": 1, "thread": 1, "hooks": 1,
    }  # fmt: skip


def test_a_clone_of_a_clone_knows_its_thread_id_and_looks_its_place_up_once() -> None:
    assert run(
        """
        looked = []
        real = syscalls._tid_address
        syscalls._tid_address = lambda: looked.append(1) or real()
        reader, writer = os.pipe()
        pid = syscalls.clone(0)
        if pid == 0:
            below = syscalls.clone(0)
            if below == 0:
                cached = ctypes.c_int.from_address(real()).value
                os.write(writer, json.dumps({"own": cached == os.getpid(), "looked": len(looked)}).encode())
                os._exit(0)
            os._exit(wait(below))
        found["status"] = wait(pid)
        found.update(json.loads(os.read(reader, 4096)))
        """
    ) == {"status": 0, "own": True, "looked": 1}


def test_a_clone_into_all_namespaces_of_an_instance() -> None:
    found = run(
        """
        kinds = ("mnt", "uts", "ipc", "user", "pid", "net", "cgroup")
        def mine():
            return {kind: os.readlink("/proc/self/ns/" + kind) for kind in kinds}
        reader, writer = os.pipe()
        gate, opener = os.pipe()
        pid = syscalls.clone(syscalls.INSTANCE_NAMESPACES)
        if pid == 0:
            os.read(gate, 1)
            address = syscalls._tid_address()
            told = {"ns": mine(), "pid": os.getpid(), "uid": os.getuid(), "cached": address != 0}
            os.write(writer, json.dumps(told).encode())
            os._exit(0)
        sandbox.write_maps(pid, 1000, (os.getuid(), os.getgid()))
        os.write(opener, b"m")
        told = json.loads(os.read(reader, 4096))
        found["status"] = wait(pid)
        found["shared"] = [kind for kind in kinds if told["ns"][kind] == mine()[kind]]
        found.update({name: told[name] for name in ("pid", "uid", "cached")})
        """
    )
    # /proc still shows the outer namespace of processes, so that the cached id equals the inner one
    assert found == {"status": 0, "shared": ["cgroup"], "pid": 1, "uid": 1000, "cached": True}


def test_a_clone_that_is_not_allowed_leaves_everything_as_it_was() -> None:
    assert run(
        """
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        seccomp.Filter(seccomp.program(False)).install()
        attempt("clone", lambda: syscalls.clone(syscalls.INSTANCE_NAMESPACES))
        pid = os.fork()
        if pid == 0:
            os._exit(4)
        found["fork"] = wait(pid)
        """
    ) == {"clone": "EPERM", "fork": 4}


def test_binds_are_read_only_and_harmless(tmp_path: Path) -> None:
    (tmp_path / "source/below").mkdir(parents=True)
    (tmp_path / "target").mkdir()
    (tmp_path / "file").write_text("")
    found = run(
        """
        source, target, plain = sys.argv[1] + "/source", sys.argv[1] + "/target", sys.argv[1] + "/file"
        namespaces(syscalls.NEWNS)
        syscalls.mount("inner", source + "/below", "tmpfs")
        syscalls.bind(source, target)
        flags = os.statvfs(target).f_flag
        found["flags"] = [bool(flags & bit) for bit in (os.ST_RDONLY, os.ST_NOSUID, os.ST_NODEV)]
        attempt("write", lambda: open(target + "/x", "w").close())
        attempt("below", lambda: open(target + "/below/x", "w").close())
        syscalls.call("umount2", target.encode(), syscalls.MNT_DETACH)
        syscalls.bind(source, target, read_only=False)
        attempt("writable", lambda: open(target + "/below/x", "w").close())
        syscalls.bind("/dev/null", plain, read_only=False, device=True)
        attempt("device", lambda: open(plain, "w").write("x"))
        attempt("absent", lambda: syscalls.bind(source + "/absent", target))
        """,
        str(tmp_path),
    )
    assert found == {
        "flags": [True, True, True], "write": "EROFS", "below": "EROFS", "writable": None, "device": 1,
        "absent": "ENOENT",
    }  # fmt: skip


def test_binds_without_the_newer_call(tmp_path: Path) -> None:
    """Before Linux 5.12 there is no mount_setattr; a bind in a user namespace must keep what its source has locked."""
    (tmp_path / "source").mkdir()
    (tmp_path / "target").mkdir()
    found = run(
        """
        real = syscalls.call
        def call(name, *arguments):
            if name == "mount_setattr":
                raise OSError(errno.ENOSYS, name)
            return real(name, *arguments)
        syscalls.call = call
        source, target = sys.argv[1] + "/source", sys.argv[1] + "/target"
        namespaces(syscalls.NEWNS)
        syscalls.mount("inner", source, "tmpfs", syscalls.MS_NOEXEC)
        namespaces(syscalls.NEWNS)
        syscalls.bind(source, target)
        flags = os.statvfs(target).f_flag
        found["flags"] = [bool(flags & bit) for bit in (os.ST_RDONLY, os.ST_NOSUID, os.ST_NODEV, os.ST_NOEXEC)]
        """,
        str(tmp_path),
    )
    assert found == {"flags": [True, True, True, True]}


def test_a_detached_tmpfs_is_attached_elsewhere(tmp_path: Path) -> None:
    found = run(
        """
        namespaces(syscalls.NEWNS)
        tmp = syscalls.tmpfs_descriptor(1 << 20)
        pid = syscalls.clone(syscalls.NEWUSER | syscalls.NEWNS)
        if pid == 0:
            import time
            while open("/proc/self/uid_map").read() == "":
                time.sleep(0.001)
            syscalls.attach(tmp, sys.argv[1])
            os.close(tmp)
            size = os.statvfs(sys.argv[1])
            mode = os.stat(sys.argv[1]).st_mode & 0o7777
            with open(sys.argv[1] + "/f", "wb") as out:
                try:
                    out.write(bytes(2 << 20))
                except OSError as error:
                    full = error.errno == errno.ENOSPC
            os._exit(0 if full and mode == 0o1777 and size.f_frsize * size.f_blocks == 1 << 20 else 9)
        sandbox.write_maps(pid, 0, (0, 0))
        found["child"] = wait(pid)
        found["here"] = os.listdir(sys.argv[1])
        """,
        str(tmp_path),
    )
    assert found == {"child": 0, "here": []}


def test_capabilities_are_given_up_for_good() -> None:
    found = run(
        """
        namespaces(syscalls.NEWNS)
        def sets():
            lines = dict(line.split(":\\t") for line in open("/proc/self/status") if line.startswith("Cap"))
            return {name: int(value, 16) for name, value in lines.items()}
        found["before"] = bool(sets()["CapEff"])
        syscalls.empty_bounding_set()
        syscalls.drop_capabilities()
        found["after"] = sets()
        attempt("mount", lambda: syscalls.mount("x", "/tmp", "tmpfs"))
        pid = os.fork()
        if pid == 0:
            os.execv("/bin/sh", ["sh", "-c", "grep -q 'CapEff:.*0000000000000000' /proc/self/status"])
        found["executed"] = wait(pid)
        """
    )
    assert found == {
        "before": True, "after": dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0), "mount": "EPERM",
        "executed": 0,
    }  # fmt: skip


def test_a_process_by_its_descriptor() -> None:
    pid = os.fork()
    if pid == 0:
        import signal

        signal.pause()
    descriptor = syscalls.pidfd_open(pid)
    syscalls.pidfd_kill(descriptor)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
    syscalls.pidfd_kill(descriptor)  # it has ended: nothing happens
    os.close(descriptor)
    with pytest.raises(ProcessLookupError):
        syscalls.pidfd_open(pid)


def test_a_rehearsal_calls_nothing() -> None:
    found = run(
        """
        def state():
            status = open("/proc/self/status").read()
            return [os.stat("/proc/self/ns/user").st_ino, os.getuid(), status[status.index("CapInh"):]]
        before = state()
        with syscalls.pretended():
            syscalls.call("unshare", syscalls.NEWUSER)
            syscalls.call("setresuid", 65534, 65534, 65534)
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
            syscalls.drop_capabilities()
            found["pids"] = [syscalls.clone(0), syscalls.clone(0)]
        found["same"] = state()[:2] == before[:2] and "NoNewPrivs:\t0" in state()[2]
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        found["real again"] = "NoNewPrivs:\t1" in state()[2]
        """
    )
    assert found == {"pids": [0, 1], "same": True, "real again": True}
