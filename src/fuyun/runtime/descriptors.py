"""Messages with descriptors over Unix sequenced-packet sockets, as JSON."""

from __future__ import annotations

import array
import errno
import json
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SIZE = 65536


def pack(message: dict[str, Any]) -> bytes:
    """The message as it is sent. OSError when it is longer than `receive` takes."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > _SIZE:
        raise OSError(errno.EMSGSIZE, f"a message of {len(data)} bytes, {_SIZE} are the most")
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
    """The next message and its descriptors, ours to close; (None, []) at the end of the connection."""
    try:
        data, ancillary, _, _ = sock.recvmsg(_SIZE, socket.CMSG_SPACE(8 * 4))
    except ConnectionResetError:
        return None, []
    found = array.array("i")
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(payload[: len(payload) - len(payload) % found.itemsize])
    if not data:
        for descriptor in found:
            os.close(descriptor)
        return None, []
    return json.loads(data), list(found)
