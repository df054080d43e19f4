"""Invocation records and log lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fuyun.domain.functions import Wire
from fuyun.domain.invocations import Invocation, LogLine, Row


class RecordQuery(Wire, frozen=True, kw_only=True):
    """What to list. Times are wall-clock seconds; the newest `limit` matching items come back, oldest first."""

    namespace: str
    function: str
    since_s: float = 0.0
    until_s: float = 4102444800.0
    request: str = ""
    status: str = ""
    limit: int = 1000


#: A place in a function's log: how far each of its segments was read, by name.
LogPlace = dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSlice:
    """Lines as they are kept, each with its segment and its place in it; and where to go on."""

    lines: list[tuple[tuple[str, int], LogLine]]
    place: LogPlace


class RecordStore(Protocol):
    """Append-only history per function.

    `append_nowait` only queues: it never blocks, never fails and never drops below its bound (100,000 items; beyond it
    the oldest queued are counted in `dropped` and discarded). Queued items reach the disk within a second, and at
    `close`.
    Reads see everything queued before the read began. Retention removes whole segments, and a function's oldest ones
    when it holds more than the driver's bound. Order is the order of completion, for records and for lines: that in
    which they were queued.
    """

    dropped: int

    def append_nowait(self, item: Invocation | LogLine) -> None:
        """Queue a record or a line."""
        ...

    def append_rows(self, namespace: str, function: str, at_s: int, rows: list[Row]) -> None:
        """Queue a function's records that arrived in the hour of wall-clock second `at_s`."""
        ...

    async def list_invocations(self, query: RecordQuery) -> list[Invocation]:
        """Matching records."""
        ...

    async def list_logs(self, query: RecordQuery) -> list[LogLine]:
        """Matching lines."""
        ...

    async def read_logs(self, namespace: str, function: str, place: LogPlace | None, limit: int) -> LogSlice:
        """Up to `limit` lines behind `place`, segment by segment in the order in which they were written; from {} on
        everything that is kept. None: no line, and the place behind all that there are. Every line that is kept is told
        once to who goes on from place to place."""
        ...

    async def find_invocation(self, namespace: str, function: str, id_: str) -> Invocation | None:
        """The record with this id, or None."""
        ...

    def follow(
        self, namespace: str, function: str, listener: Callable[[Sequence[Invocation | LogLine]], None]
    ) -> Callable[[], None]:
        """Call `listener` (on the loop) with items as they are queued, in batches; returns the call that stops it."""
        ...

    async def forget(self, namespace: str, function: str = "") -> None:
        """Remove everything of a function, or ("") of a namespace, so that its next owner sees nothing of it."""
        ...

    async def prune(self, before_s: float) -> int:
        """Drop segments that ended before; files removed."""
        ...

    async def close(self) -> None:
        """Flush and stop."""
        ...
