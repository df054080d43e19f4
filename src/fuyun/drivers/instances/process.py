"""One sandboxed process: its channel, its output, how it ends."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any, Protocol, cast

import msgspec

from fuyun.base import ids
from fuyun.domain.errors import (
    FunctionExited,
    FunctionLoadFailed,
    FunctionOutOfMemory,
    FuyunError,
    InstanceLost,
    ProtocolViolated,
    Unavailable,
)
from fuyun.domain.functions import Version
from fuyun.domain.runtimes import KEPT
from fuyun.domain.specs import server_port
from fuyun.drivers.instances.channel import LARGEST_BYTES, Channel
from fuyun.drivers.instances.doors import Door
from fuyun.drivers.instances.ending import is_ending
from fuyun.drivers.instances.fronts import Front
from fuyun.drivers.instances.spending import Spending
from fuyun.ports.attending import Attendance
from fuyun.ports.instances import Call, ReplySink, StartReport, WarmUpReport
from fuyun.runtime import wire

#: How long the warden gets to say how a process ended after its channel closed.
_VERDICT_S = 0.5
#: How long a template, which a busy machine may not run at once, gets to say how an instance forked from it ended,
#: after the kernel told that it did.
_STATUS_S = 2.0
#: How long the last words of an ended process may take; only a descendant keeps the connection open longer.
_LAST_WORDS_S = 0.1
_LINE_BYTES = 16384
_SEE_LOG = "the function's log says what it did before"
#: A keeper that ended because signal N ended its program has this exit status plus N.
_SHELL = 128


class Warming(Protocol):
    """`warming.Warming`, as far as it is used of a process."""

    def send(self, process: Process) -> None: ...
    async def wait(self) -> WarmUpReport: ...


Send = Callable[[dict[str, Any]], None]
OnOutput = Callable[["Process", str, str, str], None]  # (process, stream, level, text)


class Invoke(Protocol):
    """`ports.instances.Instance.invoke`."""

    def __call__(self, head: bytes, body: bytes, end: bool, sink: ReplySink) -> Call: ...


class Process:
    """A blank, template, spare or instance. Implements `ports.instances.Instance` once it serves a version."""

    def __init__(self, kind: str, zygote: str, warden_send: Send, on_output: OnOutput) -> None:
        """`kind`: blank, template, spare or instance."""
        self.id = ids.new_id()
        self.kind = kind
        self.zygote = zygote
        self.pid = 0
        self.version: Version | None = None
        self.report = StartReport(kind="none")
        self.memory_bytes = 0
        self.link: dict[str, Any] | None = None  # to the network
        self.warming: Warming | None = None  # the warm-up call that was sent behind its task
        self.attendance: Attendance | None = None  # at the platform's address inside
        self.template: Process | None = None  # what it was forked from, which alone learns its exit status
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_lost: Callable[[Process], None] | None = None  # it takes no more calls
        self.on_end: Callable[[Process], None] | None = None  # it is gone
        self._send = warden_send
        self._on_output = on_output
        self._verdict: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._error: FuyunError | None = None
        self._status: int | None = None
        self._why = ""  # why we ended it ourselves
        self._ended = asyncio.Event()
        self._output_fd = -1
        self._partial = b""
        self._deadline: asyncio.TimerHandle | None = None
        self.channel = Channel(self.id, self._on_lost, self._on_own_line)
        self.front: Front | None = None  # of a server
        self._sock: socket.socket | None = None
        self.invoke: Invoke = self.channel.invoke

    def become(self, version: Version) -> None:
        """It serves this version from now on."""
        self.version, self.memory_bytes = version, version.spec.memory_bytes
        self.channel.largest = min(wire.MAX_FRAME, LARGEST_BYTES + version.spec.output_bytes)

    def specialize(self, task: dict[str, Any]) -> None:
        """Send what it is to become. A server gets the inner end of a door as well, and its calls go in by that:
        FunctionLoadFailed when the task is too long for it, Unavailable without descriptors."""
        frame = wire.frame(wire.SPECIALIZE, 0, msgspec.json.encode(task))
        spec = self.version.spec if self.version is not None else None
        if spec is None or not spec.is_server or self._sock is None:
            self.channel.write(frame)
            return
        try:
            door = Door()
        except OSError as error:
            raise Unavailable(f"no descriptors for an instance: {error.strerror}", retry_after_s=1) from error
        self.front = Front(
            door, self.channel.streams, port=server_port(spec), concurrency=spec.concurrency,
            output_bytes=spec.output_bytes, spending=Spending(self.pid), on_broken=self.kill,
        )  # fmt: skip
        self.invoke = self.front.invoke
        # Nothing was written before, so that nothing is overtaken by going past the transport.
        try:
            if self._sock.send(frame, socket.MSG_DONTWAIT) == len(frame):
                socket.send_fds(self._sock, [b"\0"], [door.inside.fileno()])
                return
        except OSError:
            return  # it has ended, which is told otherwise
        finally:
            door.inside.close()
        raise FunctionLoadFailed(
            f"name, layers and environment make {len(frame)} bytes, more than a server can be told",
            hint="shorten the environment",
        )

    @property
    def inflight(self) -> int:
        """Invocations inside."""
        return len(self.channel.streams)

    @property
    def gone(self) -> bool:
        """It has ended, or is ending without our doing."""
        return self.channel.gone

    @property
    def stopped(self) -> bool:
        """A signal has stopped it: it lives and does nothing. Reads /proc/<pid>/stat (proc(5)), which takes 20 µs."""
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as source:
                return source.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
        except OSError:
            return False

    async def connect(self) -> tuple[int, int]:
        """Make the channel and the output pipe; returns the other ends' descriptors, the caller's to pass and close.
        Unavailable when the platform is out of descriptors."""
        loop = asyncio.get_running_loop()
        ours, theirs, reader, writer = _ends()
        self._output_fd = reader
        self._sock = ours
        loop.add_reader(reader, self._on_readable)
        try:
            await loop.create_connection(lambda: cast(asyncio.Protocol, self.channel), sock=ours)
        except BaseException:
            ours.close()
            theirs.close()
            os.close(writer)
            raise
        return theirs.detach(), writer

    # --- output of the process itself (descriptors 1 and 2)

    def _on_readable(self) -> None:
        try:
            data = os.read(self._output_fd, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close_output()
            return
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > _LINE_BYTES:
            lines.append(self._partial)
            self._partial = b""
        for line in lines:
            self._emit(line)
        wait_s = self.channel.charge(len(data))
        if wait_s > 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._output_fd)
            loop.call_later(wait_s, self._resume_output)

    def _resume_output(self) -> None:
        if self._output_fd >= 0:
            asyncio.get_running_loop().add_reader(self._output_fd, self._on_readable)

    def _emit(self, line: bytes) -> None:
        self.emit("stdout", "", line[:_LINE_BYTES].decode("utf-8", "replace").rstrip("\r"))

    def emit(self, stream: str, level: str, text: str) -> None:
        """A line of its function's log: the one invocation's that is under way, or else nobody's."""
        sinks = self.channel.streams
        if len(sinks) == 1:
            next(iter(sinks.values())).on_log(stream, level, text)
        elif text:
            self._on_output(self, stream, level, text)

    def _on_own_line(self, stream: str, level: str, text: str) -> None:
        """A line that names no call. What a server prints while it has one request inside is taken to be that one's."""
        sinks = self.channel.streams
        if self.front is not None and len(sinks) == 1:
            next(iter(sinks.values())).on_log(stream, level, text)
        else:
            self._on_output(self, stream, level, text)

    def _close_output(self) -> None:
        if self._output_fd >= 0:
            if self._partial:
                self._emit(self._partial)
                self._partial = b""
            asyncio.get_running_loop().remove_reader(self._output_fd)
            os.close(self._output_fd)
            self._output_fd = -1

    # --- its end

    def kill(self, reason: str) -> None:
        """End it now; every open sink fails."""
        self._why = self._why or reason
        try:
            self._send({"op": "kill", "id": self.id})
        except Unavailable:
            pass  # the warden died, and the process with it
        self.channel.close()

    def freeze(self, frozen: bool) -> None:
        """Give its processes no CPU, or let them run again."""
        self._send({"op": "freeze", "id": self.id, "frozen": frozen})

    async def hook(self, name: str, timeout_s: float) -> bool:
        """Run a lifecycle hook inside."""
        return await self.channel.hook(name, timeout_s)

    async def stop(self, timeout_s: float) -> None:
        """Close its channel, which ends it, and wait until it is gone."""
        self._why = self._why or "stopped"
        self.channel.close()
        try:
            await asyncio.wait_for(self._ended.wait(), timeout_s)
        except TimeoutError:
            self.kill("it did not stop")
            await self._ended.wait()

    def abandon(self) -> None:
        """It could not be made, or not in time: the warden forgets it, whatever has become of it."""
        self._why = self._why or "it could not be made"
        try:
            self._send({"op": "kill", "id": self.id})
        except Unavailable:
            pass
        self.told_end({})

    def told_end(self, message: dict[str, Any]) -> None:
        """The warden says that it ended, and how if it knows."""
        if not self._verdict.done():
            if message.get("status") is None:
                message["status"] = self._status
            self._verdict.set_result(message)
        self.channel.close(_LAST_WORDS_S)
        if self.channel.gone:
            self._settle()

    def told_status(self, status: int) -> None:
        """Its template says how it ended (negative: by that signal)."""
        self._status = status
        if self._verdict.done():
            self._verdict.result()["status"] = status
            if self.channel.gone:
                self._finish()

    def _settle(self) -> None:
        """It is gone: say why, after a moment for its template to tell when only that can know."""
        verdict = self._verdict.result()
        known = self.template is None or verdict.get("status") is not None or verdict.get("oom") or verdict.get("lost")
        if known or self._why or self._error is not None:
            self._finish()
        else:
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = asyncio.get_running_loop().call_later(_STATUS_S, self._finish)

    def lost_warden(self) -> None:
        """The warden died, and this process with it."""
        self.told_end({"lost": True})

    def _on_lost(self, violation: str) -> None:
        if self.front is not None:
            self.front.gone = True
        if self.on_lost is not None:
            self.on_lost(self)
        if violation:
            self._why = self._why or "violation"
            self._error = ProtocolViolated(f"code inside the instance broke its protocol: {violation}")
        if self._verdict.done():
            self._settle()
        else:
            self._deadline = asyncio.get_running_loop().call_later(_VERDICT_S, self._no_verdict)

    def _no_verdict(self) -> None:
        """The channel is closed but the process lives: end it; the verdict follows."""
        if not self._verdict.done():
            keeps = self.version is not None and self.version.spec.runtime in KEPT
            if not self._why and is_ending(self.pid, keeps):
                self._deadline = asyncio.get_running_loop().call_later(_VERDICT_S, self._no_verdict)
                return
            if not self._why:
                self._error = ProtocolViolated("code inside the instance closed its protocol socket")
            self.kill("its channel closed")
            self._deadline = asyncio.get_running_loop().call_later(5.0, self._finish)

    def _finish(self) -> None:
        if self._ended.is_set():
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._ended.set()
        self._drain_output()
        error = self._classify()
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()
        self.channel.fail_all(error)
        if self.front is not None:
            self.front.close()
        if self.on_end is not None:
            self.on_end(self)

    def _drain_output(self) -> None:
        """Take what the process wrote before it ended, up to a megabyte."""
        for _ in range(16):
            if self._output_fd < 0:
                return
            try:
                data = os.read(self._output_fd, 65536)
            except OSError:
                break
            if not data:
                break
            *lines, self._partial = (self._partial + data).split(b"\n")
            for line in lines:
                self._emit(line)
        self._close_output()

    def _classify(self) -> FuyunError:
        """The error that says who must act."""
        message = self._verdict.result() if self._verdict.done() else {}
        if message.get("lost"):
            return InstanceLost("the warden died and took its instances along", hint="try again", retry_after_s=1)
        if message.get("oom"):
            limit = self.memory_bytes
            return FunctionOutOfMemory(
                f"the function passed its memory limit of {limit // 2**20} MiB and was ended",
                hint="raise `memory` in fuyun.yaml or use less",
                limit_bytes=limit,
            )
        if self._error is not None:
            return self._error
        if self._why:
            return InstanceLost(f"the instance was ended: {self._why}", hint="try again", retry_after_s=1)
        status = message.get("status")
        if status == -9:
            return InstanceLost("the instance was killed from outside", hint="try again", retry_after_s=1)
        if status is None and self.template is not None and self.template.gone:
            return InstanceLost("the process it was forked from was ended", hint="try again", retry_after_s=1)
        if status is None:
            return FunctionExited("the function's process ended before it answered", hint=_SEE_LOG)
        if status > _SHELL and self.version is not None and self.version.spec.runtime in KEPT:
            status = _SHELL - status  # as its keeper tells it
        if status < 0:
            said = f"the function's process was ended by signal {-status}"
            return FunctionExited(said, hint=f"{_SEE_LOG}; or else somebody on the host sent it", signal=-status)
        said = f"the function's process exited with status {status} before it answered"
        return FunctionExited(said, hint=_SEE_LOG, exit_code=status)


def _ends() -> tuple[socket.socket, socket.socket, int, int]:
    """Both ends of a channel, both ends of an output pipe. Unavailable when there are no descriptors left."""
    held: list[socket.socket] = []
    try:
        held += socket.socketpair()
        reader, writer = os.pipe()
    except OSError as error:
        for end in held:
            end.close()
        raise Unavailable(f"no descriptors for an instance: {error.strerror}", retry_after_s=1) from error
    held[0].setblocking(False)
    os.set_blocking(reader, False)
    return held[0], held[1], reader, writer
