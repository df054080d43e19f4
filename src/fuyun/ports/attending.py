"""The platform's address inside an instance: who makes it, who answers there."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

from fuyun.domain.functions import Version


class Attendance(Protocol):
    """The answering at one instance's address. All calls on the loop; none blocks."""

    @property
    def endpoint(self) -> str:
        """The address as code inside writes it, `http://HOST:PORT`."""
        ...

    @property
    def port(self) -> int:
        """Where in the instance's own network a listener is to be made; 0 when it listens already."""
        ...

    def credential(self, invocation: str, depth: int, hops: int, trail: str) -> str:
        """For an invocation that stands so deep below a request from outside, and so many hops behind the first event
        of its trail: text of letters, digits, `.`, `_` and `-`, good for minutes and at this address only."""
        ...

    def listen(self, listener: socket.socket) -> None:
        """Answer at a TCP socket that listens inside the instance; takes it over."""
        ...

    def close(self) -> None:
        """The instance is gone: close the listener and every connection. Again does no harm."""
        ...


class Attendant(Protocol):
    """Answers at the addresses of all instances of this node."""

    def attend(self, version: Version, instance: str, runs: Callable[[str], bool]) -> Attendance | None:
        """Begin for an instance that becomes `version`; None when it may ask nothing. `runs(id)` says whether the
        invocation of that id is inside. Unavailable without descriptors."""
        ...
