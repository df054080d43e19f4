"""One invocation as the worker sees it, and which one is current."""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar

from fuyun.runtime.wire import WINDOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fuyun.runtime.context import Context


class Call:
    """State of one stream. `body` is the part of the request body that came with INVOKE; `parts` what came after it."""

    __slots__ = (
        "body",
        "cancelled",
        "context",
        "ended",
        "head",
        "log_bytes",
        "log_cut",
        "partial",
        "parts",
        "room",
        "started_ns",
        "stream",
        "unacknowledged",
        "waiter",
    )

    def __init__(
        self, stream: int, head: dict[str, Any], body: bytes, ended: bool, started_ns: int, log_bytes: int
    ) -> None:
        self.stream = stream
        self.head = head
        self.body = body
        self.ended = ended  # the request body is complete
        self.started_ns = started_ns
        self.log_bytes = log_bytes  # bytes of log text it may still write
        self.log_cut = False
        self.parts: deque[bytes] | None = None
        self.partial: list[str] | None = None  # unfinished lines of stdout, stderr
        self.room = WINDOW  # bytes of CHUNK the platform will take
        self.unacknowledged = 0  # bytes of BODY consumed but not yet credited
        self.cancelled = False
        self.context: Context | None = None
        self.waiter: Any = None  # what a mode waits with: a Condition (threads) or a Future (asyncio)

    def feed(self, data: bytes, end: bool) -> None:
        """A BODY frame arrived."""
        if data:
            if self.parts is None:
                self.parts = deque()
            self.parts.append(data)
        if end:
            self.ended = True


class Current:
    """Finds the invocation that code belongs to: the context variable where several run at once (threads and tasks
    set it), else `only`, the one that runs in the inline mode, so that threads a handler starts are attributed too."""

    def __init__(self) -> None:
        self.only: Call | None = None
        self.var: ContextVar[Call | None] = ContextVar("fuyun_call", default=None)

    def find(self) -> Call | None:
        """The current invocation, or None outside any."""
        return self.var.get() or self.only


current = Current()
