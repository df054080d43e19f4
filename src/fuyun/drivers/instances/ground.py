"""What the parts of the instance host share: its options, the warden, the processes there are, their output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from fuyun.base import clock
from fuyun.base.tasks import Scope
from fuyun.domain.errors import Unavailable
from fuyun.domain.invocations import LogLine
from fuyun.drivers.instances.networks import Networks
from fuyun.drivers.instances.process import Process
from fuyun.drivers.instances.warden import Warden
from fuyun.ports.attending import Attendant

_log = structlog.get_logger("fuyun.host")


@dataclass(frozen=True, kw_only=True)
class HostOptions:
    """What wiring tells the host. `store`: folder of the blob store. `tree`: name of its control groups.
    `spare_from_ms`: templates whose fork takes so long keep a spare. `name_servers`: who is asked about names for
    instances, () for the host's own."""

    store: Path
    tree: str
    blanks: int = 4
    template_budget_bytes: int = 2**30
    template_from_ms: float = 8.0
    spare_from_ms: float = 3.0
    limits: str = "auto"
    uid_base: int = 2_000_000_000
    namespaces: bool = True
    name_servers: tuple[str, ...] = ()


class Ground:
    """One per host. `warden` and `networks` are set once the host has made them."""

    warden: Warden
    networks: Networks
    attendant: Attendant | None = None  # told by wiring

    def __init__(self, options: HostOptions, log: Callable[[LogLine], None]) -> None:
        """`log` gets lines that belong to no invocation."""
        self.options = options
        self.processes: dict[str, Process] = {}
        self.scope = Scope("host", lambda error: _log.error("host task failed", exc_info=error))
        self.closing = False
        self.on_dismiss: Callable[[Process], None] = lambda process: None
        self.log = log

    def new_process(self, kind: str, zygote: str) -> Process:
        """A process that is to be made, in the list of all."""
        process = Process(kind, zygote, self.try_send, self._on_output)
        process.on_end = self.dismiss
        self.processes[process.id] = process
        return process

    def dismiss(self, process: Process) -> None:
        """It is gone."""
        self.processes.pop(process.id, None)
        self.networks.release(process)
        if process.attendance is not None:
            process.attendance.close()
        self.on_dismiss(process)

    def try_send(self, message: dict[str, Any]) -> None:
        """Tell the warden, if there is one; without one the process it is about is gone too."""
        try:
            self.warden.send(message)
        except Unavailable:
            return

    def tell(self, process: Process, text: str) -> None:
        """A line of the platform's own in the log of the process's function."""
        process.emit("platform", "warning", text)

    def _on_output(self, process: Process, stream: str, level: str, text: str) -> None:
        version = process.version
        if version is None or stream not in ("stdout", "stderr", "log", "platform"):
            return
        self.log(
            LogLine(
                at_s=clock.wall_s(), namespace=version.namespace, function=version.function, version=version.number,
                instance=process.id, stream=stream, level=level, text=text,  # type: ignore[arg-type]
            )
        )  # fmt: skip
