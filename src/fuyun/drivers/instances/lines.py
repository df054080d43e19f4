"""A connected socket that came from inside an instance: bytes in, bytes out, nothing that waits.

Whoever made the descriptor shares its flags, so that "does not block" may be taken away from it at any time. Every call
here says MSG_DONTWAIT itself, and asyncio's transports, which trust the flag, are not used.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Final, final

_FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
#: Bytes read at once.
READ_BYTES: Final = 65536


@final
class Line:
    """One connection. `on_data(bytes)`, `on_end(error or None)` once, when nothing more can be read, and
    `on_flushed(bytes)` for what left. A failing write is told by `on_end`, after what can still be read."""

    __slots__ = (
        "_loop", "_on_data", "_on_end", "_on_flushed", "_out", "_reading", "_sock", "_writing", "broken", "closed",
        "shut",
    )  # fmt: skip

    def __init__(
        self,
        sock: socket.socket,
        on_data: Callable[[bytes], None],
        on_end: Callable[[OSError | None], None],
        on_flushed: Callable[[int], None],
    ) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._on_data = on_data
        self._on_end = on_end
        self._on_flushed = on_flushed
        self._out: deque[bytes | memoryview] = deque()
        self._writing = False
        self._reading = False
        self.broken: OSError | None = None  # nothing can be written any more
        self.shut = False  # nothing more is to be written
        self.closed = False
        self.read(True)

    def write(self, *pieces: bytes) -> None:
        """Send in order; what does not fit the kernel's buffer now is kept and follows."""
        if self.closed or self.broken is not None:
            self._on_flushed(sum(map(len, pieces)))
            return
        self._out.extend(piece for piece in pieces if piece)
        if not self._writing:
            self._flush()

    def end(self) -> None:
        """Send what is kept, then tell the other side that no more comes."""
        self.shut = True
        if not self._out:
            self._shut_down()

    def read(self, on: bool) -> None:
        """Read, or leave it to the other side to wait."""
        if on != self._reading and not self.closed:
            self._reading = on
            if on:
                self._loop.add_reader(self._sock.fileno(), self._readable)
            else:
                self._loop.remove_reader(self._sock.fileno())

    def acknowledge(self) -> None:
        """Tell the other side at once what has come: a server that writes twice without TCP_NODELAY waits for it, up
        to 40 ms (tcp(7), TCP_QUICKACK)."""
        try:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        except OSError:
            pass

    def close(self) -> None:
        """Be gone; no callback follows."""
        if self.closed:
            return
        self.read(False)
        if self._writing:
            self._loop.remove_writer(self._sock.fileno())
        self.closed = True
        self._out.clear()
        try:
            self._sock.shutdown(socket.SHUT_RDWR)  # a copy of the descriptor may be left inside
        except OSError:
            pass
        self._sock.close()

    def _readable(self) -> None:
        try:
            data = self._sock.recv(READ_BYTES, _FLAGS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._ended(self.broken or error)
            return
        if data:
            self._on_data(data)
        else:
            self._ended(self.broken)

    def _ended(self, error: OSError | None) -> None:
        self.read(False)
        self._on_end(error)

    def _flush(self) -> None:
        flushed = 0
        while self._out:
            piece = self._out[0]
            try:
                sent = self._sock.send(piece, _FLAGS)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self.broken = error
                flushed += sum(map(len, self._out))
                self._out.clear()
                break
            flushed += sent
            if sent < len(piece):
                self._out[0] = memoryview(piece)[sent:]
                break
            self._out.popleft()
        self._watch(bool(self._out))
        if self.shut and not self._out:
            self._shut_down()
        if flushed:
            self._on_flushed(flushed)

    def _watch(self, on: bool) -> None:
        if on != self._writing:
            self._writing = on
            if on:
                self._loop.add_writer(self._sock.fileno(), self._flush)
            else:
                self._loop.remove_writer(self._sock.fileno())

    def _shut_down(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.broken = self.broken or error
