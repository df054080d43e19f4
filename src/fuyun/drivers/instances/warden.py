"""The platform's side of the warden: launch it, talk to it, notice when it dies, launch it again."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

import fuyun
from fuyun.base.tasks import Scope
from fuyun.domain.errors import HostUnable, Unavailable
from fuyun.runtime import cgroups, descriptors

_log = structlog.get_logger("fuyun.warden")
_CODE = (
    "import sys;sys.path.insert(0,{path!r});from fuyun.runtime.founding import main;sys.exit(main({fd},{options!r}))"
)

Message = dict[str, Any]
#: How long a new warden has for its first word.
_HELLO_S = 20.0
#: What a socket says that is full: of messages, of memory, of descriptors under way.
_FULL = frozenset((errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS))
#: How soon a full socket is tried again.
_FLUSH_S = 0.002


def host_pid(pidfd: int) -> int:
    """The pid, as this process sees it, behind a pidfd; 0 when it has ended."""
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text(encoding="ascii").splitlines():
        if line.startswith("Pid:"):
            return max(0, int(line.split()[1]))
    return 0


class Warden:
    """One warden process at a time. Requests are messages with an `id`; `on_event` gets what it tells about others.

    When it dies everything it started is dead too (the kernel sees to it): `on_lost` is called once, every waiting
    request fails with Unavailable, and a new one is launched at once.
    """

    def __init__(
        self,
        options: dict[str, Any],
        on_event: Callable[[Message], None],
        on_lost: Callable[[], None],
        on_up: Callable[[], None],
    ) -> None:
        """`options`: name (of its control groups), limits, uid_base, namespaces."""
        self._options = options
        self._on_event = on_event
        self._on_lost = on_lost
        self._on_up = on_up
        self._socket: socket.socket | None = None
        self._waiting: dict[str, asyncio.Future[Message]] = {}
        self._outbox: list[tuple[bytes, tuple[int, ...]]] = []
        self._scope = Scope("warden", lambda error: _log.error("warden task failed", error=repr(error)))
        self._launcher: subprocess.Popen[bytes] | None = None  # the warden itself, where there are no namespaces
        self._pidfd = -1
        self._stderr = -1
        self._closing = False
        self._ended: asyncio.Event = asyncio.Event()
        self.pid = 0
        self.hello: Message = {}

    async def start(self) -> None:
        """Launch it and wait for its hello. HostUnable says why it cannot run."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        code = _CODE.format(path=str(Path(fuyun.__file__).parent.parent), fd=theirs.fileno(), options=self._options)
        launching = loop.run_in_executor(None, _launch, code, theirs.fileno())
        try:
            launcher = await asyncio.shield(launching)
            theirs.close()
            hello = await self._greet(ours, launcher)
        except BaseException as error:
            ours.close()
            words = await self._put_down(await launching)
            theirs.close()
            if not isinstance(error, (TimeoutError, EOFError)):
                raise
            raise HostUnable(
                f"the warden could not start: {words or error}",
                hint="run `fuyun doctor`; it says what this host cannot give and what to do about it",
                feature="namespaces",
            ) from error
        self._socket, self.hello, self.pid = ours, hello, host_pid(self._pidfd)
        self._ended = asyncio.Event()
        loop.add_reader(self._pidfd, self._on_death)
        loop.add_reader(ours.fileno(), self._on_readable)
        if self._stderr >= 0:
            loop.add_reader(self._stderr, self._on_words)
        _log.info("warden started", pid=self.pid, cgroup=hello["cgroup"], reason=hello["reason"])

    async def _greet(self, ours: socket.socket, launcher: subprocess.Popen[bytes]) -> Message:
        """Its hello. With namespaces the launcher ends and leaves the warden to us as a child."""
        loop = asyncio.get_running_loop()
        launched = await asyncio.wait_for(_first(loop, ours), _HELLO_S)
        if launched["ev"] == "launched":
            self._pidfd = launched["fds"][0]
            hello = await asyncio.wait_for(_first(loop, ours), _HELLO_S)
            await loop.run_in_executor(None, launcher.wait)
            self._launcher = None
        else:
            self._pidfd, hello, self._launcher = os.pidfd_open(launcher.pid), launched, launcher
        if launcher.stderr is not None:
            self._stderr = os.dup(launcher.stderr.fileno())
            launcher.stderr.close()
            os.set_blocking(self._stderr, False)
        return hello

    async def _put_down(self, launcher: subprocess.Popen[bytes]) -> str:
        """End what did not become a warden; its last words."""
        pidfd, self._pidfd = self._pidfd, -1

        def end() -> str:
            launcher.kill()
            if pidfd >= 0:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                if self._options["namespaces"]:
                    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
                os.close(pidfd)
            _, words = launcher.communicate()
            return words.decode(errors="replace").strip()[-500:]

        return await asyncio.get_running_loop().run_in_executor(None, end)

    def _on_words(self) -> None:
        """What it writes to its standard error: a traceback before it dies, at most."""
        try:
            words = os.read(self._stderr, 65536)
        except BlockingIOError:
            return
        if words:
            _log.error("the warden says", words=words.decode(errors="replace").strip())
        else:
            self._close_stderr()

    def _close_stderr(self) -> None:
        if self._stderr >= 0:
            asyncio.get_running_loop().remove_reader(self._stderr)
            os.close(self._stderr)
            self._stderr = -1

    def send(self, message: Message, passed: tuple[int, ...] = ()) -> None:
        """Send a message, or queue it while the socket is full. Unavailable while there is no warden."""
        if self._socket is None:
            raise Unavailable("the warden is restarting", hint="try again in a second", retry_after_s=1)
        try:
            data = descriptors.pack(message)
            if not self._outbox:
                descriptors.send_packed(self._socket, data, passed)
                return
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise HostUnable(f"{message['op']}: {error.strerror}", hint="use fewer or shorter arguments") from error
            if error.errno not in _FULL:
                raise Unavailable("the warden is restarting", hint="try again in a second", retry_after_s=1) from error
            asyncio.get_running_loop().call_later(_FLUSH_S, self._flush)
        self._outbox.append((data, _copies(passed)))

    def _flush(self) -> None:
        while self._outbox and self._socket is not None:
            data, passed = self._outbox[0]
            try:
                descriptors.send_packed(self._socket, data, passed)
            except OSError:  # still full; or dying, and then `_on_death` empties the outbox
                asyncio.get_running_loop().call_later(_FLUSH_S, self._flush)
                return
            self._outbox.pop(0)
            for descriptor in passed:
                os.close(descriptor)

    async def ask(self, message: Message, passed: tuple[int, ...] = (), timeout_s: float = 30.0) -> Message:
        """Send a message and wait for the first answer about its id. `failed` raises HostUnable."""
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[message["id"]] = future
        try:
            self.send(message, passed)
            answer = await asyncio.wait_for(future, timeout_s)
        except TimeoutError as error:
            raise Unavailable(
                f"the warden did not answer {message['op']} in {timeout_s:g} s", retry_after_s=1
            ) from error
        finally:
            self._waiting.pop(message["id"], None)
        if answer["ev"] == "failed" and answer.get("again"):
            raise Unavailable(f"{message['op']}: {answer['message']}", hint="try again in a second", retry_after_s=1)
        if answer["ev"] == "failed":
            raise HostUnable(f"{message['op']}: {answer['message']}", hint="run `fuyun doctor`", feature="sandbox")
        return answer

    def _on_readable(self) -> None:
        for _ in range(64):
            if self._socket is None:
                return
            try:
                message, passed = descriptors.receive(self._socket)
            except BlockingIOError:
                return
            if message is None:
                asyncio.get_running_loop().remove_reader(self._socket.fileno())
                self._thaw()
                return
            if message["ev"] == "listening":
                message["listener"] = socket.socket(fileno=passed[0]) if passed else None
            elif passed:
                message["pid"] = host_pid(passed[0])
                for descriptor in passed:
                    os.close(descriptor)
            answers = message["ev"] != "listening"
            future = self._waiting.pop(message["id"], None) if answers else None
            if future is not None and not future.done():
                future.set_result(message)
            else:
                self._on_event(message)

    def _thaw(self) -> None:
        """It is ending: instances that a freezer holds would keep it from it."""
        try:
            cgroups.thaw(self.hello.get("groups", []))
        except OSError as error:
            _log.warning("groups could not be thawed", error=str(error))

    def _on_death(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        if self._launcher is not None:
            self._launcher.wait()
            self._launcher = None
        else:
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        os.close(self._pidfd)
        self._pidfd = -1
        if self._stderr >= 0:
            self._on_words()
            self._close_stderr()
        if self._socket is not None:
            loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        for _, passed in self._outbox:
            for descriptor in passed:
                os.close(descriptor)
        self._outbox.clear()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Unavailable("the warden died", hint="try again in a second", retry_after_s=1))
        self._waiting.clear()
        self._ended.set()
        if not self._closing:
            _log.error("warden died; starting another", pid=self.pid)
            self._on_lost()
            self._scope.start(self._restart(), "restart")

    async def _restart(self) -> None:
        delay_s = 0.05
        while not self._closing:
            try:
                await self.start()
            except HostUnable as error:
                _log.error("warden did not start", error=error.detail)
                await asyncio.sleep(delay_s)
                delay_s = min(5.0, delay_s * 2)
            else:
                self._on_up()
                return

    async def close(self) -> None:
        """Let it end everything and go; kill it when it takes more than ten seconds."""
        self._closing = True
        await self._scope.close()
        if self._pidfd >= 0:
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_WR)
            try:
                await asyncio.wait_for(self._ended.wait(), 10.0)
            except TimeoutError:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
                await self._ended.wait()
        cgroups.clear_up(self.hello.get("groups", []))  # what a warden that was killed could not


def _launch(code: str, descriptor: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code],
        pass_fds=(descriptor,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
    )


async def _first(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> Message:
    """Wait for one message; its descriptors under `fds`. EOFError when the other end closed."""
    ready = asyncio.Event()
    loop.add_reader(sock.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock.fileno())
    message, passed = descriptors.receive(sock)
    if message is None:
        raise EOFError("it ended at once")
    return {**message, "fds": passed}


def _copies(passed: tuple[int, ...]) -> tuple[int, ...]:
    """Our own descriptors of the same. Unavailable when there are none left."""
    found: list[int] = []
    try:
        for descriptor in passed:
            found.append(os.dup(descriptor))  # noqa: PERF401  (those made so far are closed when one fails)
    except OSError as error:
        for descriptor in found:
            os.close(descriptor)
        raise Unavailable(f"no descriptors for an instance: {error.strerror}", retry_after_s=1) from error
    return tuple(found)
