"""The inner end of an instance's door: connections to the program's port for the platform, and whether it is ready.

Runs in threads of the program's keeper, in its network namespace. See `drivers/instances/doors.py` for the messages.
"""

from __future__ import annotations

import array
import errno
import os
import socket
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Optional, Tuple

_ERRNO = struct.Struct("<i")
_LOOPBACK = "127.0.0.1"
#: Pauses between two looks at a port, seconds: the first is short because many servers are quick.
_FIRST_S, _LONGEST_S = 0.002, 0.05
#: How long a readiness path may take to answer one question.
_ANSWER_S = 1.0
_HEAD_BYTES = 4096


def connect(port: int) -> Tuple[Optional[socket.socket], int]:
    """A socket that is connected to the program or about to be, or None, and what `connect` said."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    number = made.connect_ex((_LOOPBACK, port))
    if number in (0, errno.EINPROGRESS):
        return made, number
    made.close()
    return None, number


def hand_out(door: socket.socket, port: int) -> None:
    """Answer every message on `door` with a connection, until the platform closes it."""
    while True:
        try:
            if not door.recv(1):
                return
            made, number = connect(port)
        except OSError as error:
            made, number = None, error.errno or errno.EIO
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                return
        ancillary = [] if made is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [made.fileno()]))]
        try:
            door.sendmsg([_ERRNO.pack(number)], ancillary)
        except OSError:
            return
        finally:
            if made is not None:
                made.close()


def wait_listening(port: int, path: str, still: Callable[[], bool]) -> str:
    """Wait until the program takes connections on `port` and, with a `path`, answers a GET of it with a status below
    400; the last thing found otherwise. `still` is asked whether waiting goes on; False ends it."""
    pause_s, found = _FIRST_S, "nothing listens"
    while still():
        found = _look(port, path)
        if not found:
            return ""
        time.sleep(pause_s)  # a port tells nobody that somebody listens: to look again is all there is
        pause_s = min(_LONGEST_S, pause_s * 1.5)
    return found


def _look(port: int, path: str) -> str:
    """What is missing, or "" when it is ready."""
    try:
        with socket.create_connection((_LOOPBACK, port), timeout=_ANSWER_S) as probe:
            return _ask(probe, path) if path else ""
    except ConnectionRefusedError:
        return "nothing listens"
    except OSError as error:
        return f"it answers no connection ({os.strerror(error.errno) if error.errno else 'timed out'})"


def _ask(probe: socket.socket, path: str) -> str:
    request = f"GET {path} HTTP/1.1\r\nhost: localhost\r\nuser-agent: fuyun-readiness\r\nconnection: close\r\n\r\n"
    probe.sendall(request.encode("ascii"))
    head = b""
    while b"\n" not in head and len(head) < _HEAD_BYTES:
        piece = probe.recv(_HEAD_BYTES)
        if not piece:
            break
        head += piece
    words = head.split(b"\n", 1)[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        return f"GET {path} is not answered in HTTP/1.1"
    return "" if int(words[1]) < 400 else f"GET {path} is answered with {int(words[1])}"
