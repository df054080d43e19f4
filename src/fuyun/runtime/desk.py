"""Where synchronous handlers run: what the inline and the threaded mode have in common.

A desk gives a runner (`handlers.py`, `wsgi.py`) three things: the request's body, room to answer in, and `send`.
"""

from __future__ import annotations

from _thread import allocate_lock
from abc import ABC, abstractmethod

from fuyun.runtime.answers import (
    LARGEST_RESULT,
    PIECE,
    Meter,
    chunk_frame,
    error_frame,
    finish_frame,
    head_frame,
    opening,
    piece_of,
    result_frame,
)
from fuyun.runtime.problems import Hangup
from fuyun.runtime.streams import spool
from fuyun.runtime.wire import BODY, CREDIT, META, WINDOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator, Optional

    from fuyun.runtime.answers import Answer, Headers, Streamed
    from fuyun.runtime.calls import Call
    from fuyun.runtime.channel import Channel
    from fuyun.runtime.loader import App


class Leave(BaseException):
    """The process must end with `code` after the author's code asked for it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Desk(ABC):
    """One per mode. `wait` blocks until a frame for the call arrived.

    An abstract class costs a call nothing: only `isinstance` with it is slower (35 to 190 ns on CPython 3.11), and
    nobody asks that of a desk.
    """

    def __init__(self, channel: Channel, app: App) -> None:
        self.channel = channel
        self.send = channel.send
        self.app = app
        self.meter = Meter()
        self._loop: Any = None
        self._counting = allocate_lock()  # of room: one thread sends, another may read the CREDIT

    @abstractmethod
    def wait(self, call: Call) -> None:
        """Block until something about `call` changed. Hangup when the platform is gone."""

    def note(self, call: Call, kind: int, flags: int, payload: bytes) -> None:
        """A frame for a running call: CREDIT, BODY or CANCEL."""
        if kind == CREDIT:
            with self._counting:
                call.room += META.unpack(payload)[0]
        elif kind == BODY:
            call.feed(payload, bool(flags & 1))
        else:
            call.cancelled = True

    # the request's body ------------------------------------------------------------------------------------------

    def read(self, call: Call) -> bytes:
        """The next piece of the body, b"" at its end. Returns room to the platform as it goes."""
        if call.body:
            data, call.body = call.body, b""
            return data
        while True:
            over = call.ended or call.cancelled  # looked at first: the last part and the end may come in between
            if call.parts:
                break
            if over:
                return b""
            self.wait(call)
        data = call.parts.popleft()
        call.unacknowledged += len(data)
        if call.unacknowledged >= WINDOW // 4 and not call.ended:
            self.channel.credit(call.stream, call.unacknowledged)
            call.unacknowledged = 0
        return data

    def collect(self, call: Call) -> None:
        """Make `call.body` the whole body."""
        pieces = []
        while True:
            piece = self.read(call)
            if not piece:
                break
            pieces.append(piece)
        call.body = b"".join(pieces)

    # the answer --------------------------------------------------------------------------------------------------

    def result(self, call: Call, answer: Answer) -> None:
        """A whole answer; one too long for a frame leaves as a stream."""
        if call.partial is not None:
            spool.finish(call)
        if len(answer[2]) > LARGEST_RESULT:
            self.head(call, answer[0], answer[1] or [("content-type", "application/json")])
            self.write(call, answer[2])
            self.finish(call)
            return
        self.send(result_frame(call.stream, self.meter.usage(call.started_ns), answer))

    def head(self, call: Call, status: int, headers: Headers) -> None:
        """A streamed answer begins."""
        self.send(head_frame(call.stream, status, headers))

    def write(self, call: Call, data: bytes) -> bool:
        """A piece of it, waiting for room. False when the caller is gone and the rest may be skipped."""
        start, size = 0, len(data)
        while start < size:
            while call.room <= 0:
                if call.cancelled:
                    return False
                self.wait(call)
            with self._counting:
                piece = data[start : start + min(call.room, PIECE)]
                call.room -= len(piece)
            start += len(piece)
            self.send(chunk_frame(call.stream, piece))
        return not call.cancelled

    def finish(self, call: Call) -> None:
        """It is complete."""
        if call.partial is not None:
            spool.finish(call)
        self.send(finish_frame(call.stream, self.meter.usage(call.started_ns)))

    def stream(self, call: Call, streamed: Streamed, http: bool) -> None:
        """Send an iterator's pieces as they come. Nothing leaves before the first one: what fails until then is a plain
        error."""
        pieces = self._iterate(streamed.pieces)
        number = 0
        try:
            for value in pieces:
                if number == 0:
                    status, headers, data = opening(streamed, value, http)
                    self.head(call, status, headers)
                else:
                    data = piece_of(value, f"chunk {number}")
                number += 1
                if not self.write(call, data):
                    break
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
        if number:
            self.finish(call)
        else:
            self.result(call, (streamed.status, streamed.headers or [], b""))

    def fail(self, call: Call, exc: BaseException) -> None:
        """Answer with what `exc` means. Leave when the process must end after it, Hangup when nobody listens."""
        if isinstance(exc, (Hangup, Leave)):
            raise exc
        problem = self.app.problem_of(exc)
        if call.partial is not None:
            spool.finish(call)
        if problem["traceback"]:
            spool.record("error", "\n".join(problem["traceback"]))
        self.send(error_frame(call.stream, self.meter.usage(call.started_ns), problem))
        if isinstance(exc, SystemExit):
            raise Leave(exit_code(exc))

    # asynchronous odds and ends in a synchronous mode --------------------------------------------------------------

    def complete(self, awaitable: Any) -> Any:
        """The result of an awaitable that a synchronous handler returned, on a loop of this thread."""
        return self._own_loop().run_until_complete(_await(awaitable))

    def _own_loop(self) -> Any:
        if self._loop is None:
            import asyncio

            self._loop = asyncio.new_event_loop()
        return self._loop

    def _iterate(self, pieces: Any) -> Iterator[Any]:
        if hasattr(pieces, "__next__"):
            return iter(pieces)
        if hasattr(pieces, "__aiter__"):
            return self._iterate_async(pieces.__aiter__())
        return iter(pieces)

    def _iterate_async(self, pieces: Any) -> Iterator[Any]:
        loop = self._own_loop()
        over = object()
        try:
            yield from iter(lambda: loop.run_until_complete(_next(pieces, over)), over)
        finally:
            if hasattr(pieces, "aclose"):
                loop.run_until_complete(pieces.aclose())


async def _await(awaitable: Any) -> Any:
    return await awaitable


async def _next(pieces: Any, over: object) -> Any:
    try:
        return await pieces.__anext__()
    except StopAsyncIteration:
        return over


def exit_code(exc: SystemExit) -> int:
    """The status a SystemExit asks for, as the interpreter would give it."""
    code: Optional[object] = exc.code
    if code is None:
        return 0
    return code & 0xFF if isinstance(code, int) else 1
