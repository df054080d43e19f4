"""Answers of one JSON object a line, sent as they come, for as long as the client listens."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fuyun.transports.api.calls import Life
from fuyun.transports.api.table import NDJSON

_encoder = msgspec.json.Encoder()

#: Lines kept for a client that reads slower than they come; beyond it the oldest are dropped and counted.
BACKLOG = 20_000
#: Lines sent in one piece.
_BATCH = 256


def wants_lines(request: Request) -> bool:
    """True when the request's Accept names application/x-ndjson."""
    accepted = request.headers.get("accept", "").lower()
    return any(part.partition(";")[0].strip() == NDJSON for part in accepted.split(","))


class Lines(Response):
    """A queue of lines between whoever produces them (on the loop, never waiting) and one client.

    The answer ends after `end`, when the client leaves, or when the application closes; then `on_gone` is called once.
    `notice(n)`, when given, is the line that tells the client that `n` lines were dropped because it read too slowly.
    """

    def __init__(
        self, life: Life, on_gone: Callable[[], None] = lambda: None, notice: Callable[[int], Any] | None = None
    ) -> None:
        super().__init__(media_type=NDJSON)
        del self.headers["content-length"]
        self._life = life
        self._on_gone = on_gone
        self._notice = notice
        self._lines: deque[Any] = deque()
        self._more = asyncio.Event()
        self._ended = life.closing
        self._left = False
        self._dropped = 0

    def put(self, line: Any) -> None:
        """Queue one line."""
        if self._left:
            return
        if len(self._lines) >= BACKLOG:
            self._lines.popleft()
            self._dropped += 1
        self._lines.append(line)
        self._more.set()

    def end(self) -> None:
        """No line follows."""
        self._ended = True
        self._more.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head, then lines until there is no more reason to."""
        self._life.streams.add(self.end)
        listener = self._life.scope.start(self._listen(receive), "stream listener")
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                await self._send_lines(send)
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._left = True
            self._life.streams.discard(self.end)
            listener.cancel()
            self._on_gone()

    async def _send_lines(self, send: Send) -> None:
        while not self._left:
            while self._lines and not self._left:
                await send({"type": "http.response.body", "body": self._take(), "more_body": True})
            if self._ended:
                return
            self._more.clear()
            await self._more.wait()

    def _take(self) -> bytes:
        batch = []
        if self._dropped and self._notice is not None:
            batch.append(self._notice(self._dropped))
            self._dropped = 0
        batch += [self._lines.popleft() for _ in range(min(_BATCH, len(self._lines)))]
        return b"".join(_encoder.encode(line) + b"\n" for line in batch)

    async def _listen(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._left = True
        self._more.set()
