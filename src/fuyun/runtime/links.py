"""What instances get in their networks, on behalf of the warden: links to the gate, which is started and watched here,
and the platform's listeners."""

from __future__ import annotations

import errno
import os
import socket
from collections import deque

from fuyun.runtime import descriptors, gate, syscalls
from fuyun.runtime.listening import Maker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from fuyun.runtime.children import Child

    #: Told how it went: why not, or "".
    Done = Callable[[str], None]

_NO_GATE = "there is no gate to the network"
#: What a socket says that has no room.
_FULL = frozenset((errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS))


class Links:
    """One gate at a time, on behalf of the warden, whose loop calls when a descriptor it `listen`s on is readable."""

    def __init__(
        self,
        listen: Callable[[int, Callable[[], None]], None],
        ignore: Callable[[int], None],
        tell: Callable[[dict[str, Any], tuple[int, ...]], None],
    ) -> None:
        self._listen, self._ignore, self._tell = listen, ignore, tell
        self._socket: socket.socket | None = None
        self._pidfd = -1
        self._waiting: dict[str, Done] = {}
        self._queue: deque[tuple[Child, dict[str, Any]]] = deque()
        self._gate: set[int] = set()  # its process number
        self.listeners = Maker()

    @property
    def pids(self) -> set[int]:
        """Of the processes it has started."""
        return self._gate | self.listeners.pids

    def open(self, platform: int) -> None:
        """Start a gate that the platform talks to over `platform`; an earlier one is ended."""
        self._close()
        pid, self._socket = gate.start(platform)
        self._pidfd = syscalls.pidfd_open(pid)
        self._gate = {pid}
        self._listen(self._pidfd, self._close)
        self._listen(self._socket.fileno(), self._on_answer)

    def link(self, child: Child, wanted: dict[str, Any] | None, done: Done) -> None:
        """Give a child what is `wanted` in its network: `listen` a listener at that port, which the platform gets;
        {slot, group, address} a link to the gate. `done` is called, often later."""
        if wanted is not None and "listen" in wanted:
            try:
                with self.listeners.make(child.pidfd, wanted["listen"]) as listener:
                    self._tell({"ev": "listening", "id": child.id}, (listener.fileno(),))
            except OSError as error:
                done(f"listening in its network: {error.strerror or error}")
                return
        if wanted is None or "slot" not in wanted:
            done("")
        elif self._socket is None:
            done(_NO_GATE)
        else:
            self._waiting[child.id] = done
            self._queue.append((child, {name: wanted[name] for name in wanted if name != "listen"}))
            self._flush()

    def _flush(self) -> None:
        """Send what there is room for. What is left goes when the gate has answered: it owes as many answers."""
        while self._queue and self._socket is not None:
            child, wanted = self._queue[0]
            try:
                if child.pidfd >= 0:
                    descriptors.send(self._socket, {"id": child.id, **wanted}, [child.pidfd], wait=False)
            except OSError as error:
                if error.errno in _FULL:
                    return  # or it has ended, which its other descriptor tells
            self._queue.popleft()

    def _on_answer(self) -> None:
        assert self._socket is not None
        message, _ = descriptors.receive(self._socket)
        if message is None:
            self._close()
        else:
            self._flush()
            done = self._waiting.pop(message["id"], None)
            if done is not None:
                done("linking it to the network: {}".format(message["error"]) if message["error"] else "")

    def _close(self) -> None:
        """It has ended, or is to."""
        if self._socket is None:
            return
        for descriptor in (self._socket.fileno(), self._pidfd):
            self._ignore(descriptor)
        self._socket.close()
        self._socket = None
        syscalls.pidfd_kill(self._pidfd)
        os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        os.close(self._pidfd)
        self._pidfd = -1
        self._gate = set()
        self._queue.clear()
        waiting, self._waiting = self._waiting, {}
        for done in waiting.values():
            done(_NO_GATE)
