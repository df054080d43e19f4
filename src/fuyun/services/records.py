"""What happened: invocation records and logs, listed, found and followed; and pruned when their time is over."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Sequence

import structlog

from fuyun.base import clock
from fuyun.base.tasks import Scope
from fuyun.domain.errors import BadRequest, FuyunError, NotFound
from fuyun.domain.invocations import Invocation, LogLine
from fuyun.domain.tenants import Principal
from fuyun.ports.records import RecordQuery, RecordStore

_log = structlog.get_logger("fuyun.records")

#: Lines a slow follower may be behind before the oldest are skipped (and it is told so).
BEHIND_LINES = 10_000
#: Most items one list holds.
LIST_ITEMS = 10_000
#: Seconds between two looks for old segments; they are hours long.
PRUNE_EVERY_S = 600.0


class Records:
    """The history of every function, as its tenant may see it."""

    def __init__(self, store: RecordStore, retention_s: float) -> None:
        self._store = store
        self._retention_s = retention_s

    async def list_invocations(self, principal: Principal, query: RecordQuery) -> list[Invocation]:
        """The newest `query.limit` matching records, oldest first. Forbidden, BadRequest."""
        principal.require("read", query.namespace)
        return await self._store.list_invocations(_checked(query))

    async def get_invocation(self, principal: Principal, namespace: str, function: str, id_: str) -> Invocation:
        """NotFound when there is no such record (any more)."""
        principal.require("read", namespace)
        found = await self._store.find_invocation(namespace, function, id_)
        if found is None:
            kept = f"records are kept for {self._retention_s / 86400:g} days"
            raise NotFound(
                f"function {namespace}/{function} has no invocation {id_!r}",
                hint=f"see /v1/namespaces/{namespace}/functions/{function}/invocations; {kept}",
                kind="invocation",
                name=id_,
            )
        return found

    async def list_logs(self, principal: Principal, query: RecordQuery) -> list[LogLine]:
        """The newest `query.limit` matching lines, oldest first. Forbidden, BadRequest."""
        principal.require("read", query.namespace)
        return await self._store.list_logs(_checked(query))

    async def follow_logs(self, principal: Principal, query: RecordQuery) -> AsyncGenerator[LogLine, None]:
        """What `list_logs` gives, then every matching line as it comes, without gap or repetition, until closed.

        A follower that reads too slowly gets a line of stream `platform` in place of what it missed.
        """
        principal.require("read", query.namespace)
        _checked(query)
        mail = _Mailbox(query)
        stop = self._store.follow(query.namespace, query.function, mail.deliver)
        try:
            past = await self._store.list_logs(query)
            mail.skip(past)
            for line in past:
                yield line
            while True:
                for line in await mail.take():
                    yield line
        finally:
            stop()

    async def forget(self, namespace: str) -> None:
        """Remove a deleted namespace's history."""
        await self._store.forget(namespace)

    def start_pruning(self, scope: Scope) -> None:
        """Keep removing what is older than the retention, now and every `PRUNE_EVERY_S`."""
        scope.start(self._keep_pruning(), "prune-records")

    async def prune(self) -> int:
        """Remove what is older than the retention; files removed."""
        return await self._store.prune(clock.wall_s() - self._retention_s)

    async def _keep_pruning(self) -> None:
        while True:
            try:
                await self.prune()
            except (FuyunError, OSError) as error:  # a disk in trouble; it may be well the next time
                _log.warning("old records could not be removed", error=str(error))
            await asyncio.sleep(PRUNE_EVERY_S)


class _Mailbox:
    """Lines that arrived for one follower."""

    def __init__(self, query: RecordQuery) -> None:
        self._query = query
        self._lines: deque[LogLine] = deque()
        self._missed = 0
        self._filled = asyncio.Event()

    def deliver(self, items: Sequence[Invocation | LogLine]) -> None:
        for item in items:
            if isinstance(item, LogLine) and _wanted(item, self._query):
                self._lines.append(item)
                if len(self._lines) > BEHIND_LINES:
                    self._lines.popleft()
                    self._missed += 1
        if self._lines:
            self._filled.set()

    def skip(self, past: Sequence[LogLine]) -> None:
        """Forget what was delivered and is in `past` too."""
        seen = Counter(past)
        fresh: deque[LogLine] = deque()
        for line in self._lines:
            if seen[line] > 0:
                seen[line] -= 1
            else:
                fresh.append(line)
        self._lines = fresh

    async def take(self) -> list[LogLine]:
        """All that arrived; waits for the first."""
        while not self._lines:
            self._filled.clear()
            await self._filled.wait()
        lines = list(self._lines)
        self._lines.clear()
        if self._missed:
            text = f"{self._missed} lines were skipped here: they came faster than they were read"
            lines.insert(0, _notice(lines[0], text))
            self._missed = 0
        return lines


def _notice(after: LogLine, text: str) -> LogLine:
    return LogLine(
        at_s=after.at_s, namespace=after.namespace, function=after.function, version=after.version,
        instance=after.instance, stream="platform", level="warning", text=text,
    )  # fmt: skip


def _wanted(line: LogLine, query: RecordQuery) -> bool:
    return query.since_s <= line.at_s <= query.until_s and (not query.request or line.request == query.request)


def _checked(query: RecordQuery) -> RecordQuery:
    if not 1 <= query.limit <= LIST_ITEMS:
        raise BadRequest(f"limit {query.limit} is out of range", hint=f"use 1 to {LIST_ITEMS}", path="limit")
    if query.since_s > query.until_s:
        raise BadRequest("since is after until", hint="swap them", path="since")
    return query
