"""One request of a function to a service of the platform: body and answer, whole or streamed."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import msgspec

from fuyun.domain.errors import FuyunError, Internal
from fuyun.runtime.wire import WINDOW
from fuyun.services.deferring import Acceptance
from fuyun.services.invoking import Responder
from fuyun.services.requests import Request
from fuyun.services.routes import Route

#: What is told of the bytes of a streamed answer: JSON in ASCII.
TOLD_FIELD = "fuyun-told"


class Answering(Acceptance):
    """One request to an offer. Implements `services.invoking.Flight`: its body is collected; it leaves no record."""

    def __init__(
        self, serve: Callable[[Answering, bytes], None], route: Route, request: Request, body: bytes, end: bool,
        responder: Responder,
    ) -> None:  # fmt: skip
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._room = WINDOW
        self._freed = asyncio.Event()
        super().__init__(lambda _, whole: serve(self, whole), route, request, body, end, responder)

    def cancel(self) -> None:
        """The client is gone."""
        super().cancel()
        self._freed.set()
        if not self.left.done():
            self.left.set_result(None)

    def tell(self, answer: Any) -> None:
        """It is answered."""
        if self._responder is not None:
            headers = [("content-type", "application/json"), ("cache-control", "no-store")]
            self._responder.on_result(200, headers, msgspec.json.encode(answer))

    async def stream(self, told: Any, size_bytes: int, pieces: AsyncGenerator[bytes, None]) -> None:
        """Answer with bytes, as fast as the client takes them. What `pieces` raises before the first of them."""
        async with aclosing(pieces):
            piece = await anext(pieces, b"")
            if (responder := self._responder) is None:
                return
            headers = [
                ("content-type", "application/octet-stream"), ("cache-control", "no-store"),
                ("content-length", str(size_bytes)), (TOLD_FIELD, as_field(told)),
            ]  # fmt: skip
            responder.on_head(200, headers)
            while piece:
                while self._room <= 0 and self._responder is not None:
                    self._freed.clear()
                    await self._freed.wait()
                if self._responder is None:
                    return
                self._room -= len(piece)
                responder.on_body(piece)
                piece = await anext(pieces, b"")
            if self._responder is not None:
                responder.on_end()

    def consumed(self, size_bytes: int) -> None:
        """The client took that much."""
        self._room += size_bytes
        self._freed.set()


class Receiving(Answering):
    """One whose body is streamed: `pieces` gives it as it comes, within the window of `runtime.wire`."""

    def __init__(
        self, serve: Callable[[Receiving], None], route: Route, request: Request, body: bytes, end: bool,
        responder: Responder,
    ) -> None:  # fmt: skip
        self._arrived: deque[tuple[bytes, int]] = deque([(body, 0)] if body else ())  # and what to ask for in its place
        self._ended = end
        self._news = asyncio.Event()
        super().__init__(lambda *_: None, route, request, b"", False, responder)
        serve(self)

    def send_body(self, chunk: bytes, end: bool) -> None:
        """More of it."""
        if chunk:
            self._arrived.append((chunk, len(chunk)))
        self._ended = self._ended or end
        self._news.set()

    def cancel(self) -> None:
        """The client is gone."""
        super().cancel()
        self._news.set()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body. Raises when the client is gone before its end."""
        while True:
            while not self._arrived and not self._ended and self._responder is not None:
                self._news.clear()
                await self._news.wait()
            if not self._arrived:
                if not self._ended:
                    raise Internal("the function left before its body was complete", hint="nothing was written")
                return
            chunk, owed = self._arrived.popleft()
            yield chunk
            if owed:
                self._credit(owed)

    def fail(self, error: FuyunError) -> None:
        """It was refused: what still comes is not kept."""
        super().fail(error)
        self._arrived.clear()


def as_field(value: Any) -> str:
    """JSON as a header field can carry it: what is not ASCII is escaped (RFC 8259, section 7)."""
    return json.dumps(msgspec.to_builtins(value))
