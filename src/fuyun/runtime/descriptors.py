"""Messages with descriptors over Unix sequenced-packet sockets, as JSON."""

from __future__ import annotations

import array
import json
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SIZE = 65536


def send(sock: socket.socket, message: dict[str, Any], descriptors: tuple[int, ...] | list[int] = ()) -> None:
    """One message, at most 64 KiB, with copies of `descriptors`."""
    data = json.dumps(message, separators=(",", ":")).encode()
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    sock.sendmsg([data], ancillary)


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
