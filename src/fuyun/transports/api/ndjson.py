"""Answers of one JSON object a line, sent as they come, for as long as the client listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fuyun.transports.api.calls import Life
from fuyun.transports.api.table import NDJSON

log = structlog.get_logger("fuyun.api")

_encoder = msgspec.json.Encoder()


def wants_lines(request: Request) -> bool:
    """True when the request's Accept names application/x-ndjson."""
    accepted = request.headers.get("accept", "").lower()
    return any(part.partition(";")[0].strip() == NDJSON for part in accepted.split(","))


class Lines(Response):
    """Sends what `source` yields. The answer ends with the source, when the client leaves, or, for an `endless` source,
    when the application closes. The source is closed in every case."""

    def __init__(self, life: Life, source: AsyncIterator[Any], endless: bool = False) -> None:
        super().__init__(media_type=NDJSON)
        del self.headers["content-length"]
        self._life = life
        self._source = source
        self._endless = endless
        self._broken = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head, then lines until there is a reason to stop."""
        over = asyncio.Event()
        if self._endless:
            self._life.streams.add(over.set)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        pump = self._life.scope.start(self._pump(send, over), "line pump")
        listener = self._life.scope.start(_listen(receive, over), "line listener")
        try:
            if not (self._endless and self._life.closing):
                await over.wait()
        finally:
            self._life.streams.discard(over.set)
            pump.cancel()
            listener.cancel()
            await asyncio.gather(pump, listener, return_exceptions=True)
            if isinstance(self._source, AsyncGenerator):
                await self._source.aclose()
        if not self._broken:
            await send({"type": "http.response.body", "body": b""})

    async def _pump(self, send: Send, over: asyncio.Event) -> None:
        try:
            async for line in self._source:
                await send({"type": "http.response.body", "body": _encoder.encode(line) + b"\n", "more_body": True})
        except Exception as exc:
            self._broken = True
            log.error("a stream of lines broke off", exc_info=exc)
        finally:
            over.set()


async def wait_gone(receive: Receive) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _listen(receive: Receive, over: asyncio.Event) -> None:
    await wait_gone(receive)
    over.set()
