"""The platform's end of an instance: frames in, frames out, nothing that waits. What comes in is not trusted."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Final, cast, final

import msgspec

from fuyun.base import clock
from fuyun.domain.errors import FuyunError, InstanceLost, ProtocolViolated
from fuyun.drivers.instances import frames
from fuyun.ports.instances import ReplySink, StartReport
from fuyun.runtime import wire

_unpack: Final = wire.HEADER.unpack_from
_usage: Final = wire.USAGE.unpack_from
_meta: Final = wire.META.unpack_from
_pack_invoke: Final = struct.Struct("<IBBHII").pack  # HEADER and META in one
_pack_meta: Final = wire.META.pack
_INVOKE: Final = wire.INVOKE
_RESULT: Final = wire.RESULT
_END: Final = wire.END

#: Log traffic of one instance, bytes per second and at once; beyond it the instance waits.
LOG_RATE: Final = 2 * 2**20
LOG_BURST: Final = 4 * 2**20
#: What a frame costs besides its log text: the loop is everybody's, so tiny frames are no way around the rate.
FRAME_COST: Final = 64
#: Longest frame, besides what a version's `output_bytes` allow a RESULT.
LARGEST_BYTES: Final = 2**20
#: Longest line of log kept; the rest of it is cut off.
LINE_CHARS: Final = 65536


@final
class Call:
    """One invocation inside an instance."""

    __slots__ = ("_channel", "_stream")

    def __init__(self, channel: Channel, stream: int) -> None:
        self._channel = channel
        self._stream = stream

    def send_body(self, chunk: bytes, end: bool) -> None:
        """More of the request body."""
        self._channel.write(wire.frame(wire.BODY, self._stream, chunk, wire.END if end else 0))

    def consumed(self, size_bytes: int) -> None:
        """The client took this much of a streamed answer."""
        self._channel.consumed(self._stream, size_bytes)

    def cancel(self) -> None:
        """The client is gone."""
        if self._stream in self._channel.streams:
            self._channel.write(wire.frame(wire.CANCEL, self._stream))


@final
class Channel:
    """One instance's connection, with the methods of an asyncio protocol. `inflight` counts invocations whose slot is
    not free yet.

    `on_lost(violation)` is called once when the connection ends, with what the instance did wrong or "".
    `on_log(stream, level, text)` gets lines that belong to no invocation.
    """

    def __init__(self, id_: str, on_lost: Callable[[str], None], on_log: Callable[[str, str, str], None]) -> None:
        self.id = id_
        self.pid = 0
        self.report = StartReport(kind="none")
        self.streams: dict[int, ReplySink] = {}
        self._loop = asyncio.get_running_loop()  # asked for once: it costs a system call
        self.started: asyncio.Future[frames.Ready] = self._loop.create_future()
        self.gone = False
        self.largest = LARGEST_BYTES  # longest frame taken; it is put together in the platform's memory
        self.on_exited: Callable[[str, int], None] | None = None  # of a template: (instance, status)
        self.answered = 0  # invocations answered so far
        self._on_lost = on_lost
        self._on_log = on_log
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []  # of a frame that is not complete
        self._missing = 0  # bytes it lacks at least
        self._owed: dict[int, int] = {}  # streamed answer -> its bytes that the client has not taken
        self._next = 0
        self._hooks: dict[int, asyncio.Future[bool]] = {}
        self._room = float(LOG_BURST)
        self._room_at = clock.mono_s()
        self._paused = False
        self.write: Callable[[bytes], None] = lambda data: None

    @property
    def inflight(self) -> int:
        """Invocations inside."""
        return len(self.streams)

    # --- towards the instance

    def invoke(self, head: bytes, body: bytes, end: bool, sink: ReplySink) -> Call:
        """Send an invocation; its answer arrives at `sink`."""
        self._next = stream = self._next + 1
        if self.gone:
            self._loop.call_soon(sink.on_fail, InstanceLost("the instance is gone", retry_after_s=1))
            return Call(self, stream)
        self.streams[stream] = sink
        size = 4 + len(head) + len(body)
        parts = (_pack_invoke(size, _INVOKE, _END if end else 0, 0, stream, len(head)), head, body)
        self.write(b"".join(parts))
        return Call(self, stream)

    def consumed(self, stream: int, size_bytes: int) -> None:
        """The client took this much of a streamed answer: the instance may send as much again."""
        if stream in self._owed:
            self._owed[stream] -= size_bytes
            self.write(wire.frame(wire.CREDIT, stream, _pack_meta(size_bytes)))

    async def hook(self, name: str, timeout_s: float) -> bool:
        """Run a lifecycle hook inside; False when it failed, was cut off or the instance went away."""
        if self.gone:
            return False
        self._next = stream = self._next + 1
        done = self._hooks[stream] = asyncio.get_running_loop().create_future()
        self.write(wire.frame(wire.HOOK, stream, msgspec.json.encode({"hook": name})))
        try:
            return await asyncio.wait_for(done, timeout_s)
        except TimeoutError:
            return False

    def close(self, after_s: float = 0.0) -> None:
        """Close the connection, within `after_s` at the latest; the instance ends by itself. One never made is gone."""
        if self._transport is None:
            self.gone = True
        elif after_s:
            asyncio.get_running_loop().call_later(after_s, self._transport.close)
        else:
            self._transport.close()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.write = self._transport.write

    def pause_writing(self) -> None:
        """The instance reads slowly: what waits is bounded by the calls inside and their windows."""

    def resume_writing(self) -> None:
        """It has caught up."""

    def eof_received(self) -> None:
        """It sends no more: close."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.write = lambda data: None
        self._lose("")

    def data_received(self, data: bytes) -> None:
        if self._parts:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        position, size, need = 0, len(data), 12
        length: int
        kind: int
        stream: int
        try:
            while size - position >= 12:
                length, kind, _, _, stream = _unpack(data, position)
                end = position + 12 + length
                if end > size:
                    if length > self.largest:
                        raise ProtocolViolated(f"a frame of {length} bytes")
                    need = 12 + length
                    break
                if kind == _RESULT:
                    self._on_result(stream, data, position + 12, end)
                else:
                    self._on_frame(kind, stream, data[position + 12 : end])
                position = end
        except (msgspec.MsgspecError, ValueError, RecursionError, struct.error, ProtocolViolated) as error:
            self._violated(str(error) or type(error).__name__)
            return
        if position < size:
            self._parts.append(data[position:])
            self._missing = need - (size - position)

    # --- from the instance

    def _sink(self, stream: int, kind: str) -> ReplySink:
        sink = self.streams.get(stream)
        if sink is None:
            raise ProtocolViolated(f"{kind} for call {stream}, which is not open")
        return sink

    def _on_result(self, stream: int, data: bytes, start: int, end: int) -> None:
        sink = self._sink(stream, "RESULT")
        length: int = _meta(data, start + 12)[0]
        if start + 16 + length > end:
            raise ProtocolViolated("a RESULT longer than its frame")
        if stream in self._owed:
            raise ProtocolViolated("RESULT after HEAD")
        usage = _usage(data, start)
        status, headers = 200, None
        if length:
            status, headers = frames.decode_head(data[start + 16 : start + 16 + length])
        del self.streams[stream]
        self.answered += 1
        sink.on_result(status, headers, data[start + 16 + length : end], usage)

    def _on_frame(self, kind: int, stream: int, payload: bytes) -> None:
        if kind == wire.CHUNK:
            self._on_chunk(stream, payload)
        elif kind == wire.CREDIT:
            (size,) = _meta(payload)
            sink = self.streams.get(stream)
            if sink is not None:
                sink.on_credit(size)
        elif kind == wire.HEAD:
            sink = self._sink(stream, "HEAD")
            if stream in self._owed:
                raise ProtocolViolated("two HEADs")
            status, headers = frames.decode_head(payload)
            self._owed[stream] = 0
            sink.on_head(status, headers)
        elif kind == wire.FINISH:
            usage = _usage(payload)
            if stream not in self._owed:
                raise ProtocolViolated("FINISH before HEAD")
            self._end(stream, "FINISH").on_end(usage)
        elif kind == wire.ERROR:
            problem = frames.decode_problem(payload[wire.USAGE.size :])
            self._end(stream, "ERROR").on_fail(frames.author_error(problem))
        elif kind == wire.LOG:
            self._on_log_frame(stream, payload)
        else:
            self._on_own_frame(kind, stream, payload)
        self.throttle(FRAME_COST)

    def _end(self, stream: int, kind: str) -> ReplySink:
        sink = self._sink(stream, kind)
        del self.streams[stream]
        self._owed.pop(stream, None)
        self.answered += 1
        return sink

    def _on_own_frame(self, kind: int, stream: int, payload: bytes) -> None:
        """A frame about the instance itself."""
        if kind == wire.READY:
            ready = frames.decode_ready(payload)
            if not self.started.done():
                ready.reason = ready.reason[:1000]
                self.started.set_result(ready)
        elif kind == wire.FAILED:
            problem = frames.decode_problem(payload)
            if not self.started.done():
                self.started.set_exception(frames.author_error(problem))
        elif kind == wire.HOOKED and stream in self._hooks:
            hooked = frames.decode_hooked(payload)
            done = self._hooks.pop(stream)
            if not done.done():
                done.set_result(hooked.ok)
        elif kind == wire.EXITED and self.on_exited is not None:
            exited = frames.decode_exited(payload)
            self.on_exited(exited.instance, exited.status)
        else:
            raise ProtocolViolated(f"a frame of kind {kind}, which has no place here")

    def _on_chunk(self, stream: int, payload: bytes) -> None:
        owed = self._owed.get(stream)
        if owed is None:
            raise ProtocolViolated("CHUNK before HEAD")
        owed += len(payload)
        if owed > wire.WINDOW:
            raise ProtocolViolated(f"{owed} bytes sent ahead, {wire.WINDOW} are allowed")
        self._owed[stream] = owed
        self.streams[stream].on_body(payload)

    def _on_log_frame(self, stream: int, payload: bytes) -> None:
        line = frames.decode_log(payload)
        text = line.t if len(line.t) <= LINE_CHARS else line.t[:LINE_CHARS] + "…"
        sink = self.streams.get(stream)
        if sink is not None:
            sink.on_log(line.s, line.l[:20], text)
        else:
            self._on_log(line.s, line.l[:20], text)
        self.throttle(len(payload))

    def charge(self, size_bytes: int) -> float:
        """Account traffic; seconds this instance must wait before it may send more."""
        self._room -= size_bytes
        if self._room >= 0:
            return 0.0
        now = clock.mono_s()
        self._room = min(LOG_BURST, self._room + (now - self._room_at) * LOG_RATE)
        self._room_at = now
        return max(0.0, -self._room / LOG_RATE)

    def throttle(self, size_bytes: int) -> None:
        """Account traffic; read no more while there is too much of it."""
        wait_s = self.charge(size_bytes)
        if wait_s > 0 and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(wait_s, self._resume)

    def _resume(self) -> None:
        self._paused = False
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.resume_reading()
        self.throttle(0)

    def _violated(self, what: str) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._lose(what)

    def _lose(self, violation: str) -> None:
        if self.gone:
            return
        self.gone = True
        self._parts.clear()
        for done in self._hooks.values():
            if not done.done():
                done.set_result(False)
        self._hooks.clear()
        self._on_lost(violation)

    def fail_all(self, error: FuyunError) -> None:
        """Fail everything that waits for this instance."""
        if not self.started.done():
            self.started.set_exception(error)
            self.started.exception()  # whoever awaits gets it; nobody may be waiting
        sinks = list(self.streams.values())
        self.streams.clear()
        self._owed.clear()
        for sink in sinks:
            sink.on_fail(error)
