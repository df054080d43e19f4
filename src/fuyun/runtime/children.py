"""What the warden knows of a process it started."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from fuyun.runtime import cgroups
from fuyun.runtime.orders import Orders

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@dataclass(eq=False)
class Child:
    """A zygote, an instance or a run."""

    id: str
    kind: str
    control: socket.socket | None = None
    pid: int = 0
    pidfd: int = -1
    group: cgroups.Group | None = None
    memory_bytes: int = 0
    killed: str = ""
    frozen: bool = False
    orders: Orders | None = None  # of a zygote
    zygote: Child | None = None  # the one that is making it
    network: dict[str, Any] | None = None  # the link it gets before it begins
    options: dict[str, Any] = field(default_factory=dict)


class Numbers:
    """The host's user ids from `base` on that zygotes map; 0 without root, where there is one."""

    def __init__(self, base: int) -> None:
        self.all = (base, 65536) if base else (0, 1)
        self._taken = 0

    def take(self) -> int:
        """The next id, counted from the first, for an instance of its own."""
        self._taken = self._taken % 60000 + 1
        return 999 + self._taken

    def of_zygote(self, isolation: str) -> tuple[int, int]:
        """First id and how many. One of an OCI runtime makes a single instance, which has the only one."""
        if self.all[0] and isolation.startswith("oci:"):
            return self.all[0] + self.take(), 1
        return self.all
