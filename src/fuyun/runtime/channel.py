"""The connection to the platform: whole frames in, whole frames out.

The socket stays blocking in every mode. Reads that must not wait use MSG_DONTWAIT; writes may wait for the platform,
which always reads: it has room for every frame it allowed (windows, limits), so that a full socket buffer empties.
"""

from __future__ import annotations

import os
from _thread import allocate_lock

from fuyun.runtime import streams
from fuyun.runtime.problems import Hangup
from fuyun.runtime.wire import CREDIT, HEADER, HEADER_SIZE, MAX_FRAME, META, RECEIVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Optional

    #: kind, flags, stream, payload
    Frame = tuple[int, int, int, bytes]


class Splitter:
    """Cuts what arrives into frames. `feed` returns the complete ones; the rest waits for its remainder."""

    def __init__(self) -> None:
        self.rest = bytearray()
        self._need = HEADER_SIZE

    def feed(self, data: bytes) -> list[Frame]:
        """Complete frames, in order. Hangup when a frame is longer than the protocol allows."""
        if self.rest:
            self.rest += data
            if len(self.rest) < self._need:
                return []
            data = bytes(self.rest)
            self.rest = bytearray()
        frames: list[Frame] = []
        start, size = 0, len(data)
        self._need = HEADER_SIZE
        while size - start >= HEADER_SIZE:
            length, kind, flags, _, stream = HEADER.unpack_from(data, start)
            if length > MAX_FRAME:
                raise Hangup
            end = start + HEADER_SIZE + length
            if end > size:
                self._need = end - start
                break
            frames.append((kind, flags, stream, data[start + HEADER_SIZE : end]))
            start = end
        if start < size:
            self.rest = bytearray(data[start:]) if start else bytearray(data)
        return frames

    @property
    def wanted(self) -> int:
        """How much to read at once."""
        return max(RECEIVE, min(self._need - len(self.rest), 1024 * 1024))


class Channel:
    """Sends frames from any thread; never two at once."""

    def __init__(self, sock: socket.socket) -> None:
        global _open
        self.sock = sock
        self.foreign = False  # this is a child that the author's code forked
        self._lock = allocate_lock()
        self._sendall = sock.sendall
        sock.settimeout(None)
        _open = self

    def send(self, data: bytes) -> None:
        """One or more whole frames. Hangup when the platform is gone."""
        try:
            with self._lock:
                self._sendall(data)
        except OSError:
            if self.foreign:
                os._exit(0)
            raise Hangup from None

    def receive(self, size: int = RECEIVE) -> bytes:
        """Some bytes, waiting for them. Hangup at the end of the connection."""
        try:
            data = self.sock.recv(size)
        except OSError:
            data = b""
        if not data:
            if self.foreign:
                os._exit(0)
            raise Hangup
        return data

    def credit(self, stream: int, size_bytes: int) -> None:
        """Let the platform send that much more of a request body."""
        self.send(HEADER.pack(META.size, CREDIT, 0, 0, stream) + META.pack(size_bytes))


_open: Optional[Channel] = None


def _leave_connection_to_parent() -> None:
    if _open is not None:
        _open.foreign = True
        _open._lock = allocate_lock()  # another thread may have held it
        _open.sock.close()
        streams.escape_fork()


os.register_at_fork(after_in_child=_leave_connection_to_parent)


def release() -> None:
    """Forget the connection: the process is about to be forked into, or has been forked as, an instance."""
    global _open
    _open = None
