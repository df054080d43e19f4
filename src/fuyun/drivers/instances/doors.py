"""The door of an instance: connections to the program's port, made inside its network namespace and handed out.

The keeper of the program (`runtime/web.py`) holds the other end, a SOCK_SEQPACKET socket. Every message towards it asks
for one connection; every message back, in order, is the error number of `connect` (4 bytes, 0 or EINPROGRESS: none) and
carries the socket where there is one. What comes is looked at before it is believed.
"""

from __future__ import annotations

import array
import asyncio
import errno
import os
import socket
import stat
import struct
from collections import deque
from collections.abc import Callable
from typing import Final, final

_FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
_ERRNO: Final = struct.Struct("<i")
_ANCILLARY: Final = socket.CMSG_SPACE(array.array("i").itemsize)
#: Connections asked for at once; others wait here instead of filling the socket's buffer.
_ASKED: Final = 64

#: Gets the connected socket, or None and the error number.
Then = Callable[[socket.socket | None, int], None]


@final
class Door:
    """The platform's end. `inside` is the other one, to be passed into the instance and closed here."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.inside = theirs
        self._ours = ours
        self._loop = asyncio.get_running_loop()
        self._asked: deque[Then] = deque()
        self._waiting: deque[Then] = deque()
        self.closed = False
        self._loop.add_reader(ours.fileno(), self._readable)

    def ask(self, then: Then) -> None:
        """Have a connection made; `then` gets it in a later turn of the loop. Nothing is called after `close`."""
        self._waiting.append(then)
        self._send()

    def close(self) -> None:
        """Forget what was asked."""
        self.inside.close()
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self._ours.fileno())
            self._ours.close()
            self._asked.clear()
            self._waiting.clear()

    def _send(self) -> None:
        while self._waiting and len(self._asked) < _ASKED and not self.closed:
            try:
                self._ours.send(b"\0", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return  # the next answer makes room
            except OSError:
                self.close()
                return
            self._asked.append(self._waiting.popleft())

    def _readable(self) -> None:
        try:
            data, ancillary, flags, _ = self._ours.recvmsg(
                16, _ANCILLARY, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, ancillary, flags = b"", [], 0
        passed = _descriptors(ancillary)
        if len(data) != _ERRNO.size or not self._asked:
            for descriptor in passed:
                os.close(descriptor)
            self.close()
            return
        then = self._asked.popleft()
        number = _ERRNO.unpack(data)[0]
        connection = _connection(passed[0]) if passed else None
        if connection is None and number in (0, errno.EINPROGRESS):
            # The kernel leaves out what this process has no descriptor for (unix(7)).
            number = errno.EMFILE if flags & socket.MSG_CTRUNC and not passed else errno.EPROTO
        self._send()
        then(connection, number)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def _connection(descriptor: int) -> socket.socket | None:
    """The TCP socket that `descriptor` is; None, and it is closed, when it is anything else."""
    try:
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            found = socket.socket(fileno=descriptor)
            if found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM:
                found.setblocking(False)
                return found
            found.detach()
    except OSError:
        pass
    os.close(descriptor)
    return None
