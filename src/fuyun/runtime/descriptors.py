"""Messages with descriptors over Unix sequenced-packet sockets, as JSON."""

from __future__ import annotations

import array
import errno
import fcntl
import json
import os
import socket
import struct

from fuyun.runtime.jsontext import loads
from fuyun.runtime.wire import RECEIVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable

_SPACE, _SOCKET, _RIGHTS = socket.CMSG_SPACE(8 * 4), int(socket.SOL_SOCKET), int(socket.SCM_RIGHTS)
_number = struct.Struct("=i").unpack_from


#: Numbers below are given out anew in a process that is about to become another program.
ASIDE = 100


def aside(descriptors: Iterable[int]) -> list[int]:
    """Copies of `descriptors`, at numbers from `ASIDE` that were free: none that is still needed is overwritten."""
    return [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, ASIDE) for descriptor in descriptors]


def pack(message: dict[str, Any]) -> bytes:
    """The message as it is sent. OSError when it is longer than `receive` takes."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > RECEIVE:
        raise OSError(errno.EMSGSIZE, f"a message of {len(data)} bytes, {RECEIVE} are the most")
    return data


def send(
    sock: socket.socket, message: dict[str, Any], descriptors: tuple[int, ...] | list[int] = (), wait: bool = True
) -> None:
    """One message with copies of `descriptors`. OSError when it is too long, or the other end is gone, or (not `wait`)
    does not read."""
    send_packed(sock, pack(message), descriptors, wait)


def send_packed(
    sock: socket.socket, data: bytes, descriptors: tuple[int, ...] | list[int] = (), wait: bool = True
) -> None:
    """The same for what `pack` made."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    sock.sendmsg([data], ancillary, 0 if wait else socket.MSG_DONTWAIT)


def receive(sock: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """The next message and its descriptors, ours to close; (None, []) at the end of the connection. ValueError when it
    is no JSON object; nothing is left open then.

    A template does this between two forks. A page that it writes to here and its children do not write to is a page
    that each child keeps for itself: hence nothing but what an instance does, too."""
    try:
        data, ancillary, _, _ = sock.recvmsg(RECEIVE, _SPACE)
    except ConnectionResetError:
        return None, []
    found: list[int] = []
    for level, kind, payload in ancillary:
        if level == _SOCKET and kind == _RIGHTS:
            for start in range(0, len(payload) - 3, 4):
                found.append(_number(payload, start)[0])  # noqa: PERF401
    if not data:
        for descriptor in found:
            os.close(descriptor)
        return None, []
    try:
        message = loads(str(data, "utf-8"))
        if type(message) is not dict:
            raise ValueError("it is no object")
    except (ValueError, RecursionError) as error:
        for descriptor in found:
            os.close(descriptor)
        raise ValueError(f"a message of {len(data)} bytes is no JSON object: {error}") from None
    return message, found


def serve(control: socket.socket, act: Callable[[dict[str, Any], list[int]], None]) -> int:
    """Say that this zygote is there, then carry out the orders that come over `control` until its other end closes; 0.
    An order that fails, with OSError or ValueError, is told to have. Descriptors that come with it are closed."""
    send(control, {"ev": "zygote"})
    while True:
        message, passed = receive(control)
        if message is None:
            return 0
        try:
            act(message, passed)
        except (OSError, ValueError) as error:
            send(control, {"ev": "failed", "id": message["id"], "message": str(error)})
        finally:
            for descriptor in passed:
                os.close(descriptor)
