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
