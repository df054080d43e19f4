"""Attempts that take more than their share instead of breaking out. Each runs in a function of its own, beside a
neighbour that must not notice; `spec` holds the limits it is to meet."""

from __future__ import annotations

import array
import ctypes
import errno
import os
import resource
import signal
import socket
import threading
from dataclasses import dataclass
from time import monotonic, sleep  # noqa: TID251  (runs as a function's code, without fuyun.base)

from fuyun.testing.attacks.attempt import libc, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

MIB = 1024 * 1024


@dataclass(frozen=True)
class Pressure:
    """One thing to exhaust. `take()` yields each time it got more and raises OSError when it gets no more; `met` lists
    what may stop it (an errno, or an error code of the platform), `most` bounds how often it may yield."""

    name: str
    takes: str
    met: tuple[str, ...]
    most: int
    why: str
    spec: dict[str, Any]
    take: Callable[[], Iterator[object]]


PRESSURES: dict[str, Pressure] = {}


def pressure(
    name: str, takes: str, met: str, most: int, why: str, **spec: Any
) -> Callable[[Callable[[], Iterator[object]]], Callable[[], Iterator[object]]]:
    """Register the decorated generator."""

    def register(take: Callable[[], Iterator[object]]) -> Callable[[], Iterator[object]]:
        PRESSURES[name] = Pressure(name, takes, tuple(met.split()), most, why, {"timeout_s": 30.0, **spec}, take)
        return take

    return register


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """`{"outcome", "count"}`: what stopped it, and how much it had by then."""
    if "until" in event:
        return {"count": spin(event["processes"], event["since"], event["until"])}
    count = 0
    try:
        for _ in PRESSURES[event["name"]].take():
            count += 1
            if count > 4_000_000:
                return {"outcome": "nothing stops it", "count": count}
    except OSError as error:
        return {"outcome": errno.errorcode.get(error.errno or 0, str(error)), "count": count}
    finally:
        try:
            os.killpg(os.getpgid(0), signal.SIGCONT)
        except OSError:
            pass
    return {"outcome": "done", "count": count}


@pressure("processes", "fork until it may not", "EAGAIN", 24, "the control group's number, or RLIMIT_NPROC",
          pids=24)  # fmt: skip
def processes() -> Iterator[object]:
    children = []
    try:
        while True:
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            children.append(pid)
            yield pid
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pressure("threads", "start threads until it may not", "EAGAIN", 24, "threads count as processes", pids=24)
def threads() -> Iterator[object]:
    over = threading.Event()
    try:
        while True:
            try:
                threading.Thread(target=over.wait, daemon=True).start()
            except RuntimeError:
                raise OSError(errno.EAGAIN, "can't start new thread") from None
            yield over
    finally:
        over.set()


@pressure("memory", "allocate and write memory without end", "function_out_of_memory", 64,
          "the control group's memory, or RLIMIT_DATA and the warden's watch", memory_bytes=64 * MIB)  # fmt: skip
def memory() -> Iterator[object]:
    held = []
    while True:
        held.append(bytearray(b"x" * MIB))
        yield held


@pressure("memory of many", "have its children allocate what it may not itself", "function_out_of_memory EAGAIN", 128,
          "all processes of an instance are counted together", memory_bytes=64 * MIB, pids=32)  # fmt: skip
def memory_of_many() -> Iterator[object]:
    reader, writer = os.pipe()
    while True:
        if os.fork() == 0:
            held = [bytearray(b"x" * MIB) for _ in range(24)]
            os.write(writer, b"x")
            signal.pause()
            os._exit(len(held))
        yield os.read(reader, 1)


@pressure("nameless files", "write to files that have no name (memfd_create)", "function_out_of_memory EPERM", 64,
          "counted as its memory; refused where nothing counts it", memory_bytes=64 * MIB)  # fmt: skip
def nameless_files() -> Iterator[object]:
    descriptor = syscall("memfd_create", b"held", 0)
    while True:
        os.write(descriptor, b"x" * MIB)
        yield descriptor


@pressure("shared memory", "fill System V segments that nobody is attached to", "function_out_of_memory EPERM", 64,
          "counted as its memory; refused where nothing counts it", memory_bytes=64 * MIB)  # fmt: skip
def shared_memory() -> Iterator[object]:
    import ctypes

    from fuyun.testing.attacks.attempt import libc

    libc.shmat.restype = ctypes.c_void_p
    while True:
        segment = syscall("shmget", 0, MIB, 0o1600)
        address = libc.shmat(segment, None, 0)
        ctypes.memset(address, 1, MIB)
        libc.shmdt(ctypes.c_void_p(address))
        yield segment


@pressure("file pages", "write /tmp full", "ENOSPC", 16, "/tmp has a size", tmp_bytes=16 * MIB)
def file_pages() -> Iterator[object]:
    with open("/tmp/full", "wb", buffering=0) as file:
        while True:
            if file.write(b"x" * MIB) < MIB:
                raise OSError(errno.ENOSPC, "a short write")
            yield file


@pressure("inodes", "make empty files until it may not", "ENOSPC", 4097, "/tmp has a number of inodes",
          tmp_bytes=16 * MIB)  # fmt: skip
def inodes() -> Iterator[object]:
    number = 0
    while True:
        number += 1
        os.close(os.open(f"/tmp/{number}", os.O_CREAT | os.O_WRONLY))
        yield number


def _all_descriptors() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pressure("descriptors", "open descriptors until it may not, its soft limit raised", "EMFILE", 16384,
          "a hard limit below the platform's own")  # fmt: skip
def descriptors() -> Iterator[object]:
    _all_descriptors()
    held = []
    try:
        while True:
            held.append(os.dup(0))
            yield held
    finally:
        for one in held:
            os.close(one)


@pressure("sockets", "open sockets until it may not", "EMFILE", 16384, "a hard limit of descriptors")
def sockets() -> Iterator[object]:
    _all_descriptors()
    held = []
    while True:
        held.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        yield held


@pressure("descriptors under way", "send descriptors over sockets that nobody reads, which a user has a number of",
          "ETOOMANYREFS EMFILE", 400, "the sender's own limit of descriptors stops it first")  # fmt: skip
def under_way() -> Iterator[object]:
    _all_descriptors()
    pairs = []
    passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 250))]
    while True:
        pairs.append(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
        try:
            for _ in range(10):
                pairs[-1][0].sendmsg([b"x"], passed, socket.MSG_DONTWAIT)
                yield pairs
        except BlockingIOError:
            continue


@pressure("socket buffers", "fill the buffers of 64 TCP connections to itself", "done function_out_of_memory", 96,
          "counted as its memory, or else small in its network namespace", memory_bytes=64 * MIB)  # fmt: skip
def socket_buffers() -> Iterator[object]:
    """Yields for each MiB under way."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    held, sent = [listener], 0
    for _ in range(64):
        one = socket.create_connection(listener.getsockname(), timeout=10)
        held += [one, listener.accept()[0]]
        one.setblocking(False)
        try:
            while True:
                before, sent = sent, sent + one.send(b"x" * 65536)
                if sent // MIB > before // MIB:
                    yield held
        except BlockingIOError:
            continue


@pressure("pending signals", "queue real-time signals to itself, which a user has a number of", "EAGAIN", 4096,
          "the limit of signals that wait, for its user namespace")  # fmt: skip
def pending_signals() -> Iterator[object]:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
    while True:
        if libc.sigqueue(os.getpid(), int(signal.SIGRTMIN), None):
            raise OSError(ctypes.get_errno(), "sigqueue")
        yield None


@pressure("timers", "make timers until it may not", "EAGAIN", 4096, "each keeps a signal that may wait")
def timers() -> Iterator[object]:
    made = ctypes.c_void_p()
    while True:
        if libc.timer_create(1, None, ctypes.byref(made)):
            raise OSError(ctypes.get_errno(), "timer_create")
        yield None


@pressure("log volume", "print 32 MiB", "done", 512, "beyond a rate it waits, beyond `log_bytes` lines are cut",
          log_bytes=65536)  # fmt: skip
def log_volume() -> Iterator[object]:
    for _ in range(512):
        print("x" * 65535)
        yield None


def spin(processes: int, since: float, until: float) -> int:
    """Count, on one and the same core, in so many processes of sessions of their own, from one moment of the monotonic
    clock to another; what all counted together."""
    readers = []
    for _ in range(processes):
        reader, writer = os.pipe()
        if os.fork() == 0:
            count = 0
            try:
                try:
                    os.setsid()  # a share of its own, where the scheduler groups by session
                except OSError:
                    pass
                os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
                sleep(max(0.0, since - monotonic()))
                while monotonic() < until:
                    count += 1
                os.write(writer, str(count).encode())
            finally:
                os._exit(0)
        os.close(writer)
        readers.append(reader)
    return sum(int(os.read(reader, 32) or b"0") for reader in readers)
