"""Listeners in the networks of instances, made by a process of its own.

A socket belongs to the network namespace its maker was in when it made it. Who enters an instance's has to come back,
and without root nobody may enter the host's again: so the maker has a network namespace of its own to come back to, as
the gate has (`gate.py`), and the warden stays where it is.

From the warden: {port} [pidfd]; answered by {error} [listener, if there is none].
"""

from __future__ import annotations

import os
import socket
import sys

from fuyun.runtime import descriptors, syscalls

#: What the kernel keeps of a connection in each direction, and how many wait.
_BUFFER_BYTES, _BACKLOG = 65536, 32
#: Making one takes some 50 µs; a maker that needs so much longer does not work any more.
_PATIENCE_S = 5.0
_KEPT = (syscalls.CAP_SYS_ADMIN,)


class Maker:
    """The warden's side. The process is started with the first listener, and ends with the warden."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self.pids: set[int] = set()

    def make(self, pidfd: int, port: int) -> socket.socket:
        """A TCP socket that listens at 127.0.0.1:`port` in the network of a process. No descriptor of it was ever
        inside: who listens there is who was told to. OSError says why there is none."""
        if self._socket is None:
            self._start()
        assert self._socket is not None
        try:
            descriptors.send(self._socket, {"port": port}, [pidfd])
            message, passed = descriptors.receive(self._socket)
        except OSError:
            self.close()
            raise
        if message is None:
            self.close()
            raise OSError(0, "the process that makes listeners ended")
        if message["error"] or not passed:
            raise OSError(0, message["error"] or "no descriptor left")
        return socket.socket(fileno=passed[0])

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = syscalls.clone(0)
        if pid == 0:
            status = 70
            try:
                os.dup2(theirs.fileno(), 100)
                os.closerange(3, 100)
                os.closerange(101, 65536)
                status = _serve(socket.socket(fileno=100))
            except BaseException as error:
                print(f"making listeners: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            finally:
                os._exit(status)
        theirs.close()
        ours.settimeout(_PATIENCE_S)
        self._socket, self.pids = ours, {pid}

    def close(self) -> None:
        """It is to end; the next listener starts another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            for pid in self.pids:
                pidfd = syscalls.pidfd_open(pid)
                syscalls.pidfd_kill(pidfd)
                os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
                os.close(pidfd)
            self.pids = set()


def _serve(warden: socket.socket) -> int:
    syscalls.call("unshare", syscalls.NEWNET)
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    syscalls.empty_bounding_set(_KEPT)
    syscalls.keep_capabilities(_KEPT)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    while True:
        message, passed = descriptors.receive(warden)
        if message is None:
            return 0
        try:
            with _listener(passed[0], message["port"], home) as listener:
                descriptors.send(warden, {"error": ""}, [listener.fileno()])
        except OSError as error:
            descriptors.send(warden, {"error": error.strerror or str(error)})
        finally:
            for descriptor in passed:
                os.close(descriptor)


def _listener(pidfd: int, port: int, home: int) -> socket.socket:
    syscalls.call("setns", pidfd, syscalls.NEWNET)
    try:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    finally:
        syscalls.call("setns", home, syscalls.NEWNET)
    try:
        for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):  # connections inherit them
            listener.setsockopt(socket.SOL_SOCKET, buffer, _BUFFER_BYTES)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
