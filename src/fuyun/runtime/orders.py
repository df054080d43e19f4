"""What a zygote was told to make: sent without waiting for it, bounded in number and in time.

A zygote that is stopped, or stuck, reads nothing. Its socket takes few messages (net.unix.max_dgram_qlen, ten by
default), and a write that waited for room would hold up the warden, and with it every other start.
"""

from __future__ import annotations

import errno
import os
from collections import deque

from fuyun.runtime import descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

#: Orders that wait for room in the socket. The platform has a dozen blanks made at a time.
QUEUE = 64
#: A blank takes milliseconds. A zygote of which none came in so long, though some are due, does not work any more.
STALL_S = 5.0
#: A zygote's own start: an interpreter and its imports, from a slow disk at worst.
FIRST_WORD_S = 20.0

_FULL = frozenset((errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS))


class Orders:
    """The orders of one zygote that are not carried out yet."""

    def __init__(self, control: socket.socket, now_s: float) -> None:
        self._control = control
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self._open: dict[str, None] = {}  # in the order they were given
        self._since_s = now_s  # nothing was heard since then
        self.up = False  # it has said that it is ready

    @property
    def due(self) -> bool:
        """Whether something is expected of the zygote."""
        return not self.up or bool(self._open)

    @property
    def waiting(self) -> bool:
        """Whether its socket had no room."""
        return bool(self._waiting)

    def first_word(self, now_s: float) -> None:
        """It is ready."""
        self.up, self._since_s = True, now_s

    def give(self, id_: str, message: dict[str, Any], passed: list[int], now_s: float) -> None:
        """Send an order, or keep it, with copies of its descriptors, until there is room. OSError when it is too long
        or the zygote is gone."""
        data = descriptors.pack(message)
        if not self._waiting:
            try:
                descriptors.send_packed(self._control, data, passed, wait=False)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._keep(data, passed)
        else:
            self._keep(data, passed)
        if not self._open:
            self._since_s = now_s
        self._open[id_] = None

    def _keep(self, data: bytes, passed: list[int]) -> None:
        copies: list[int] = []
        self._waiting.append((data, copies))
        try:
            for descriptor in passed:
                copies.append(os.dup(descriptor))  # noqa: PERF401  (those made so far are known when one fails)
        except OSError:
            self._discard(self._waiting.pop())
            raise

    def flush(self) -> None:
        """Send what waits, as far as there is room. What cannot be sent to one that is gone is dropped."""
        while self._waiting:
            data, passed = self._waiting[0]
            try:
                descriptors.send_packed(self._control, data, passed, wait=False)
            except OSError as error:
                if error.errno in _FULL:
                    return
            self._discard(self._waiting.popleft())

    def settle(self, id_: str, now_s: float) -> None:
        """An order was carried out, or has failed."""
        if id_ in self._open:
            del self._open[id_]
            self._since_s = now_s

    def gave(self, id_: object) -> bool:
        """Whether that is an order not carried out yet."""
        return type(id_) is str and id_ in self._open

    def why_stalled(self, now_s: float) -> str:
        """Why the zygote is to be ended; "" when it works."""
        quiet_s = now_s - self._since_s
        if not self.up:
            return f"the zygote was not ready in {FIRST_WORD_S:g} s" if quiet_s > FIRST_WORD_S else ""
        if len(self._waiting) > QUEUE:
            return f"{len(self._waiting)} orders wait for the zygote"
        if self._open and quiet_s > STALL_S:
            return f"the zygote made nothing in {STALL_S:g} s"
        return ""

    def close(self) -> list[str]:
        """Drop what waits; the ids of all orders that are not carried out."""
        while self._waiting:
            self._discard(self._waiting.pop())
        left = list(self._open)
        self._open.clear()
        return left

    @staticmethod
    def _discard(item: tuple[bytes, list[int]]) -> None:
        for descriptor in item[1]:
            os.close(descriptor)
