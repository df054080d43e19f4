"""Asynchronous handlers and ASGI applications: one event loop, one task per invocation."""

from __future__ import annotations

import asyncio
import sys
from socket import MSG_DONTWAIT
from time import monotonic_ns

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
    shape,
)
from fuyun.runtime.calls import Call, current
from fuyun.runtime.channel import Channel, Splitter
from fuyun.runtime.context import Context
from fuyun.runtime.desk import Leave, exit_code
from fuyun.runtime.events import http_event, payload
from fuyun.runtime.hooks import give_memory_back, hook_name, hooked_frame, run_hook
from fuyun.runtime.jsontext import scan
from fuyun.runtime.problems import Hangup, LoadProblem, problem, raised
from fuyun.runtime.streams import spool
from fuyun.runtime.wire import BODY, CANCEL, CREDIT, HOOK, INVOKE, META, WINDOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Coroutine, Optional

    from fuyun.runtime.answers import Answer, Headers, Streamed
    from fuyun.runtime.asgi import Application
    from fuyun.runtime.channel import Frame
    from fuyun.runtime.loader import App

_RECEIVE = 256 * 1024


class Hall:
    """The asynchronous counterpart of a desk: it owns the loop, the calls and their tasks."""

    def __init__(self, channel: Channel, app: App) -> None:
        self.channel = channel
        self.app = app
        self.loop = asyncio.new_event_loop()
        self.meter = Meter()
        self.calls: dict[int, Call] = {}
        self.application: Optional[Application] = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._chores: set[asyncio.Task[None]] = set()
        self._splitter = Splitter()
        self._log_bytes = int(app.task["log_bytes"])
        self._limit = int(app.task["output_bytes"])
        # A handler that does not wait for anything is done without a turn of the loop. Applications bring frameworks
        # that may not expect it.
        self._eager = sys.version_info >= (3, 12) and app.mode == "event"
        self._end: Optional[BaseException] = None
        self._respond = self._event
        asyncio.set_event_loop(self.loop)

    def start(self) -> None:
        """Run what start-up left for the loop: an asynchronous initializer, an application's lifespan. LoadProblem."""
        if self.app.initializer is not None or self.app.mode == "asgi":
            self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        from fuyun.runtime.loader import init_problem

        limit_s = self.app.hook_limit("initializer")
        if self.app.initializer is not None:
            try:
                await asyncio.wait_for(self.app.initializer(), limit_s)
            except asyncio.TimeoutError:
                raise LoadProblem("function_init_failed", f"the initializer did not end within {limit_s:g} s") from None
            except BaseException as exc:
                raise init_problem(exc, self.app.code_dir) from None
        if self.app.mode == "asgi":
            from fuyun.runtime.asgi import Application

            self.application = Application(self)
            self._respond = self.application.respond
            await self.application.start(limit_s)
            if self.application.alive:
                self.app.hooks.setdefault("pre_stop", _nothing)

    def serve(self) -> None:
        """Answer until Hangup or Leave."""
        self.loop.add_reader(self.channel.sock.fileno(), self._readable)
        self.loop.run_forever()
        assert self._end is not None
        raise self._end

    def stop(self, why: BaseException) -> None:
        """End `serve` with `why`."""
        if self._end is None:
            self._end = why
        self.loop.stop()

    # frames in ---------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            data = self.channel.sock.recv(_RECEIVE, MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        try:
            if not data:
                raise Hangup
            for frame in self._splitter.feed(data):
                self._take(frame)
        except Hangup as end:
            self.loop.remove_reader(self.channel.sock.fileno())
            self.stop(end)

    def _take(self, frame: Frame) -> None:
        kind, flags, stream, content = frame
        if kind == INVOKE:
            size = META.unpack_from(content)[0] + 4
            head = scan(str(content[4:size], "utf-8"), 0)[0]
            call = Call(stream, head, content[size:], bool(flags & 1), monotonic_ns(), self._log_bytes)
            spool.idle.log_bytes, spool.idle.log_cut = self._log_bytes, False
            self.calls[stream] = call
            self._begin(stream, self._serve_call(call))
        elif kind == HOOK:
            chore = self.loop.create_task(self._hook(stream, content))
            self._chores.add(chore)
            chore.add_done_callback(self._chores.discard)
        elif kind not in (CREDIT, BODY, CANCEL):
            raise Hangup
        else:
            found = self.calls.get(stream)
            if found is None:
                return
            if kind == CREDIT:
                found.room += META.unpack(content)[0]
            elif kind == BODY:
                found.feed(content, bool(flags & 1))
            else:
                found.cancelled = True
                if self.application is None:
                    self._tasks[stream].cancel()
            _wake(found)

    def _begin(self, stream: int, work: Coroutine[Any, Any, None]) -> None:
        if self._eager:
            task = asyncio.Task(work, loop=self.loop, eager_start=True)  # type: ignore[call-arg,unused-ignore]
            if task.done():
                self._forget(stream, task)
                return
        else:
            task = self.loop.create_task(work)
        self._tasks[stream] = task
        task.add_done_callback(lambda done: self._forget(stream, done))

    def _forget(self, stream: int, task: asyncio.Task[None]) -> None:
        self._tasks.pop(stream, None)
        self.calls.pop(stream, None)
        if not task.cancelled() and task.exception() is not None:
            self.loop.call_exception_handler({"message": "answering failed", "exception": task.exception()})

    # one call ----------------------------------------------------------------------------------------------------

    async def _serve_call(self, call: Call) -> None:
        current.var.set(call)
        try:
            await self._respond(call)
        except (Hangup, Leave) as end:
            self.stop(end)
        except BaseException as exc:
            try:
                self.fail(call, exc)
            except (Hangup, Leave) as end:
                self.stop(end)

    async def _event(self, call: Call) -> None:
        if not call.ended or call.parts:
            pieces = []
            while True:
                piece = await self.read(call)
                if not piece:
                    break
                pieces.append(piece)
            call.body = b"".join(pieces)
        head = call.head
        http = head["kind"] == "http"
        event = http_event(head, call.body, self.app.task) if http else payload(call.body)
        call.context = context = Context(head, self.app.task)
        result = self.app.call(event, context)
        if hasattr(result, "__await__"):
            result = await result
        answer = shape(result, http, self._limit)
        if isinstance(answer, tuple):
            await self.result(call, answer)
        else:
            await self._stream(call, answer, http)

    async def _stream(self, call: Call, streamed: Streamed, http: bool) -> None:
        number = 0
        pieces = streamed.pieces
        source = pieces if hasattr(pieces, "__aiter__") else _each(pieces)
        try:
            async for value in source:
                if number == 0:
                    status, headers, data = opening(streamed, value, http)
                    self.head(call, status, headers)
                else:
                    data = piece_of(value, f"chunk {number}")
                number += 1
                if not await self.write(call, data):
                    break
        finally:
            if hasattr(source, "aclose"):
                await source.aclose()
        if number:
            self.finish(call)
        else:
            await self.result(call, (streamed.status, streamed.headers or [], b""))

    async def wait(self, call: Call) -> None:
        """Wait until a frame for the call arrived."""
        if call.waiter is None or call.waiter.done():
            call.waiter = self.loop.create_future()
        await asyncio.shield(call.waiter)

    async def read(self, call: Call) -> bytes:
        """The next piece of the request's body, b"" at its end or when the caller is gone."""
        if call.body:
            data, call.body = call.body, b""
            return data
        while not call.parts:
            if call.ended or call.cancelled:
                return b""
            await self.wait(call)
        data = call.parts.popleft()
        call.unacknowledged += len(data)
        if call.unacknowledged >= WINDOW // 4 and not call.ended:
            self.channel.credit(call.stream, call.unacknowledged)
            call.unacknowledged = 0
        return data

    # the answer --------------------------------------------------------------------------------------------------

    async def result(self, call: Call, answer: Answer) -> None:
        """A whole answer; one too long for a frame leaves as a stream."""
        if call.partial is not None:
            spool.finish(call)
        if len(answer[2]) > LARGEST_RESULT:
            self.head(call, answer[0], answer[1] or [("content-type", "application/json")])
            await self.write(call, answer[2])
            self.finish(call)
            return
        self.channel.send(result_frame(call.stream, self.meter.usage(call.started_ns), answer))

    def head(self, call: Call, status: int, headers: Headers) -> None:
        """A streamed answer begins."""
        self.channel.send(head_frame(call.stream, status, headers))

    async def write(self, call: Call, data: bytes) -> bool:
        """A piece of it, waiting for room. False when the caller is gone."""
        start, size = 0, len(data)
        while start < size:
            while call.room <= 0:
                if call.cancelled:
                    return False
                await self.wait(call)
            piece = data[start : start + min(call.room, PIECE)]
            call.room -= len(piece)
            start += len(piece)
            self.channel.send(chunk_frame(call.stream, piece))
        return not call.cancelled

    def finish(self, call: Call) -> None:
        """It is complete."""
        if call.partial is not None:
            spool.finish(call)
        self.channel.send(finish_frame(call.stream, self.meter.usage(call.started_ns)))

    def fail(self, call: Call, exc: BaseException) -> None:
        """Answer with what `exc` means; Leave when the process must end after it."""
        found = self.app.problem_of(exc)
        if call.partial is not None:
            spool.finish(call)
        if found["traceback"]:
            spool.record("error", "\n".join(found["traceback"]))
        self.channel.send(error_frame(call.stream, self.meter.usage(call.started_ns), found))
        if isinstance(exc, SystemExit):
            raise Leave(exit_code(exc))

    # hooks -------------------------------------------------------------------------------------------------------

    async def _hook(self, stream: int, content: bytes) -> None:
        name = hook_name(content)
        found = await self._run_hook(name)
        if name == "pre_stop" and self.application is not None:
            found = await self.application.shutdown(self.app.hook_limit(name)) or found
        if name == "pre_freeze":
            give_memory_back()
        try:
            self.channel.send(hooked_frame(stream, found))
        except Hangup as end:
            self.stop(end)

    async def _run_hook(self, name: str) -> Optional[dict[str, Any]]:
        hook = self.app.hooks.get(name)
        if hook is None:
            return None
        results: list[Any] = []
        found = run_hook(self.app, name, lambda: results.append(hook()))
        if found is None and hasattr(results[0], "__await__"):
            limit_s = self.app.hook_limit(name)
            try:
                await asyncio.wait_for(results[0], limit_s)
            except asyncio.TimeoutError:
                return problem("function_timed_out", f"{name} did not end within {limit_s:g} s")
            except Exception as exc:
                return raised(exc, self.app.code_dir)
        return found


def _nothing() -> None:
    """A hook that has nothing to do but its application's lifespan."""


def _wake(call: Call) -> None:
    if call.waiter is not None and not call.waiter.done():
        call.waiter.set_result(None)


async def _each(pieces: Any) -> Any:
    try:
        for value in pieces:
            yield value
            await asyncio.sleep(0)  # a synchronous generator must not hold the loop for all its length
    finally:
        if hasattr(pieces, "close"):
            pieces.close()
