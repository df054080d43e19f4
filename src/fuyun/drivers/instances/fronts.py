"""HTTP to a program in an instance (`ports.instances.Call`): calls as requests on connections that its door gives.

A request that may not be repeated goes out on a connection of its own; others may use a kept one, and are sent again
when that turns out to have been closed before a byte of the answer. A kept connection is closed when a new one has to
be made, so that a server that takes one connection at a time is not kept waiting for an idle one.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Final, final

from fuyun.base import clock
from fuyun.domain.errors import BadResponse, FuyunError, InstanceLost, Unavailable
from fuyun.drivers.instances.asking import IDEMPOTENT, declared_length, decode_head, request_head, wants_upgrade
from fuyun.drivers.instances.doors import Door
from fuyun.drivers.instances.spending import Spending
from fuyun.drivers.instances.upstream import Upstream, unreachable
from fuyun.ports.instances import ReplySink
from fuyun.runtime.wire import WINDOW

#: What `connect` says when somebody is short of something for a while.
_SCARCE: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
#: How long a connection is kept for the next call. Servers close theirs after 2 s (gunicorn) or more.
_KEEP_S: Final = 1.0
#: How long the end of the program's process may take to be known, after its connection closed under a call.
_VERDICT_S: Final = 2.0
#: Room is returned to the sender of a body in steps of this.
_CREDIT_STEP: Final = WINDOW // 4


@final
class Front:
    """All calls of one instance. `streams`: calls inside, where what ends the instance fails them and finds whom its
    output belongs to; their numbers are negative here, so that no frame can name one."""

    def __init__(
        self,
        door: Door,
        streams: dict[int, ReplySink],
        *,
        port: int,
        concurrency: int,
        output_bytes: int,
        spending: Spending,
        on_broken: Callable[[str], None],
    ) -> None:
        """`on_broken(why)`: the program takes no connections any more."""
        self.port = port
        self.spending = spending
        self.output_bytes = output_bytes
        self.loop = asyncio.get_running_loop()
        self.gone = False
        self._door = door
        self._streams = streams
        self._concurrency = concurrency
        self._on_broken = on_broken
        self._next = 0
        self._active: set[WebCall] = set()
        self._waiting: deque[WebCall] = deque()
        self._kept: list[Upstream] = []

    def invoke(self, head: bytes, body: bytes, end: bool, sink: ReplySink) -> WebCall:
        """See `ports.instances.Instance.invoke`; nothing is held. Beyond the concurrency, calls wait in order."""
        call = WebCall(self, head, body, end, sink)
        if self.gone:
            self.loop.call_soon(sink.on_fail, InstanceLost("the instance is gone", retry_after_s=1))
            return call
        self._next -= 1
        call.number = self._next
        self._streams[call.number] = sink
        if len(self._active) < self._concurrency and not self._waiting:
            self._start(call)
        else:
            self._waiting.append(call)
        return call

    def close(self) -> None:
        """The instance ends: whoever ends it fails the calls."""
        self.gone = True
        for call in (*self._active, *self._waiting):
            call.forget()
        self._active.clear()
        self._waiting.clear()
        for upstream in self._kept:
            upstream.close()
        self._kept.clear()
        self._door.close()

    # --- connections

    def _start(self, call: WebCall) -> None:
        self._active.add(call)
        if self._kept:
            upstream = self._kept.pop()
            if call.repeatable:
                if upstream.idle is not None:
                    upstream.idle.cancel()
                call.go(upstream)
                return
            upstream.close()
        self.connect(call)

    def connect(self, call: WebCall) -> None:
        """Give the call a connection of its own."""

        def then(sock: socket.socket | None, number: int) -> None:
            if call.done or self.gone:
                if sock is not None:
                    sock.close()
            elif number in _SCARCE:
                text = f"no descriptors for a connection to the program: {os.strerror(number)}"
                self.fail(call, Unavailable(text, hint="try again", retry_after_s=1))
            elif sock is None:
                self.break_down(call, unreachable(self.port, number))
            else:
                call.go(Upstream(sock, self._drop))

        self._door.ask(then)

    def _drop(self, upstream: Upstream) -> None:
        if upstream in self._kept:
            self._kept.remove(upstream)
        upstream.close()

    def finish(self, call: WebCall) -> None:
        """It is over: keep its connection or close it, forget the call. The caller tells the sink, then calls
        `go_on`."""
        self._streams.pop(call.number, None)
        self._active.discard(call)
        upstream, call.upstream, call.done = call.upstream, None, True
        if upstream is None:
            return
        if upstream.reusable and call.sent_all and not self.gone and not self._waiting:
            upstream.release()
            upstream.line.read(True)
            upstream.idle = self.loop.call_later(_KEEP_S, self._drop, upstream)
            self._kept.append(upstream)
        else:
            upstream.close()

    def go_on(self) -> None:
        """A slot is free: begin the next call."""
        while self._waiting and len(self._active) < self._concurrency:
            self._start(self._waiting.popleft())

    def fail(self, call: WebCall, error: FuyunError) -> None:
        """End a call with an error."""
        if call in self._waiting:
            self._waiting.remove(call)
        if call.upstream is not None:
            call.upstream.reusable = False
        self.finish(call)
        call.sink.on_fail(error)
        self.go_on()

    def break_down(self, call: WebCall, error: FuyunError) -> None:
        """A new connection was refused."""
        self.fail(call, error)
        self._on_broken("its program takes no connections")


@final
class WebCall:
    """One request to the program. Implements `ports.instances.Call`, and `upstream.Asker`."""

    __slots__ = (
        "_began_ns", "_body", "_chunked", "_ended", "_front", "_head", "_late", "_owed", "_queued", "_started",
        "_uncounted", "_unreturned", "_usage", "done", "method", "number", "repeatable", "sent_all", "sink", "upgrade",
        "upstream",
    )  # fmt: skip

    def __init__(self, front: Front, head: bytes, body: bytes, end: bool, sink: ReplySink) -> None:
        asked = decode_head(head)
        self._front = front
        self.sink = sink
        self.number = 0
        self.method = asked.method
        self.upgrade = wants_upgrade(asked)
        self.repeatable = end and not self.upgrade and asked.method in IDEMPOTENT
        self.upstream: Upstream | None = None
        self.done = False
        self.sent_all = end  # the request is with the kernel to its end, or will be with what was written
        self._began_ns = clock.mono_ns()
        size = len(body) if end else declared_length(asked)
        self._chunked = size == -1 and not self.upgrade
        self._head = request_head(asked, -2 if self.upgrade else size)
        self._body = body
        self._queued: list[bytes] = []  # pieces of the body that wait for the connection or the switch
        self._ended = end
        self._uncounted = 0  # bytes under way that do not count against the window
        self._unreturned = 0
        self._owed = 0  # of the answer, not taken by the client
        self._started = False  # the head of the answer is told
        self._late: asyncio.TimerHandle | None = None
        self._usage = (0, 0, 0)  # of a tunnel: what it took until it was one

    # --- ports.instances.Call

    def send_body(self, chunk: bytes, end: bool) -> None:
        """More of the request body."""
        if self.done:
            return
        if chunk:
            self._queued.append(chunk)
        self._ended = self._ended or end
        self._pump()

    def consumed(self, size_bytes: int) -> None:
        """The client took this much of the answer."""
        self._owed -= size_bytes
        if self.upstream is not None and self._owed < WINDOW:
            self.upstream.line.read(True)

    def cancel(self) -> None:
        """The client is gone: the connection is closed, which is how a server learns it."""
        if not self.done:
            self._front.loop.call_soon(self._cancelled)

    def _cancelled(self) -> None:
        if not self.done:
            self._front.fail(self, InstanceLost("the client is gone"))

    # --- towards the program

    def go(self, upstream: Upstream) -> None:
        """Send the request on this connection."""
        self.upstream = upstream
        first = b"%x\r\n%b\r\n" % (len(self._body), self._body) if self._chunked and self._body else self._body
        self._uncounted = len(self._head) + len(first)
        upstream.carry(self, self._head, first)
        self._pump()

    def _pump(self) -> None:
        upstream = self.upstream
        if upstream is None or (self.upgrade and not upstream.raw):
            return
        queued, self._queued = self._queued, []
        for chunk in queued:
            if self._chunked:
                frame = b"%x\r\n" % len(chunk)
                self._uncounted += len(frame) + 2
                upstream.line.write(frame, chunk, b"\r\n")
            else:
                upstream.line.write(chunk)
        if self._ended and not self.sent_all:
            self.sent_all = True
            if self._chunked:
                self._uncounted += 5
                upstream.line.write(b"0\r\n\r\n")
            elif upstream.raw:
                upstream.line.end()

    def on_flushed(self, size_bytes: int) -> None:
        """So much left: what it was of the body may follow. Told in a later turn, because more comes from inside."""
        ours = min(size_bytes, self._uncounted)
        self._uncounted -= ours
        size_bytes -= ours
        if size_bytes:
            if not self._unreturned:
                self._front.loop.call_soon(self._return)
            self._unreturned += size_bytes

    def _return(self) -> None:
        size_bytes, self._unreturned = self._unreturned, 0
        if not self.done:
            self.sink.on_credit(size_bytes)

    # --- from the program

    def on_answer(self, upstream: Upstream, pieces: list[bytes], complete: bool) -> None:
        """Something of the answer, or all of it."""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if complete:
            self._finish(upstream, data)
            return
        sink = self.sink
        if not self._started:
            self._started = True
            sink.on_head(101 if upstream.raw else upstream.status, upstream.headers)
            if upstream.raw:
                self._usage = self._used()
                self._pump()
        if data and not self.done:
            self._owed += len(data)
            if self._owed >= WINDOW:
                upstream.line.read(False)
            sink.on_body(data)

    def _finish(self, upstream: Upstream, data: bytes) -> None:
        front, sink = self._front, self.sink
        usage = self._used_by_tunnel() if upstream.raw else self._used()
        front.finish(self)
        if not self._started and len(data) <= front.output_bytes:
            sink.on_result(upstream.status, upstream.headers, data, usage)
        else:
            if not self._started:
                sink.on_head(upstream.status, upstream.headers)
            if data:
                sink.on_body(data)
            sink.on_end(usage)
        front.go_on()

    def _used(self) -> tuple[int, int, int]:
        return max(1, (clock.mono_ns() - self._began_ns) // 1000), *self._front.spending.since_last()

    def _used_by_tunnel(self) -> tuple[int, int, int]:
        run_us, cpu_us, _ = self._usage
        more_us, peak_kib = self._front.spending.since_last()
        return run_us, cpu_us + more_us, peak_kib

    def on_unusable(self, upstream: Upstream, error: FuyunError) -> None:
        """What came is no answer."""
        self._front.fail(self, error)

    def on_closed(self, upstream: Upstream, error: OSError | None) -> None:
        """The program closed the connection early. On a kept connection, unanswered, the request goes out again; else
        it may be that its process ended, which is told in a moment, by another way and in more words."""
        if not upstream.fresh and not upstream.answering and self.repeatable:
            upstream.close()
            self.upstream = None
            self._front.connect(self)
            return
        upstream.line.read(False)
        refused = isinstance(error, ConnectionRefusedError)
        self._late = self._front.loop.call_later(_VERDICT_S, self._closed_early, refused)

    def _closed_early(self, refused: bool) -> None:
        if self.done or self._front.gone:
            return
        if refused:
            self._front.break_down(self, unreachable(self._front.port, errno.ECONNREFUSED))
            return
        when = "in the middle of its answer" if self._started else "without an answer"
        self._front.fail(
            self,
            BadResponse(
                f"the program closed the connection {when}",
                hint="one of its own processes may have ended or cut the request off; see `fuyun logs`",
            ),
        )

    def forget(self) -> None:
        """The instance ends, and with it this call, which others fail."""
        self.done = True
        if self._late is not None:
            self._late.cancel()
        if self.upstream is not None:
            self.upstream.close()
            self.upstream = None
