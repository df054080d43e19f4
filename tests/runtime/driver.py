"""Drives a real worker process over a socket pair, as the platform does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuyun.runtime import nodejs, wire

ROOT = Path(__file__).parents[2]
SITE_PACKAGES = sysconfig.get_paths()["purelib"]
_BOOT = """
import os, socket, sys, json
sys.path.insert(0, sys.argv[1])
sock = socket.socket(fileno=int(sys.argv[2]))
from fuyun.runtime import becoming
os._exit(becoming.become(sock, json.loads(sys.argv[3])))
"""
#: What a template does: load, then fork a child per socket it was given.
_TEMPLATE = """
import os, socket, sys, json
sys.path.insert(0, sys.argv[1])
socks = [socket.socket(fileno=int(n)) for n in sys.argv[2].split(",")]
from fuyun.runtime import wire, worker
task = json.loads(sys.argv[3])
control = socks.pop(0)
app = worker.load(task, control)
control.sendall(wire.frame(wire.READY, 0, json.dumps(app.ready()).encode()))
if not app.forkable:
    os._exit(0)
worker.before_fork()
for number, sock in enumerate(socks):
    if os.fork() == 0:
        for other in [control, *socks]:
            if other is not sock:
                other.close()
        worker.after_fork()
        worker.restore()
        os._exit(worker.serve(sock, app, dict(task, instance="copy-%d" % number)))
for sock in [control, *socks]:
    sock.close()
while True:
    try:
        os.wait()
    except ChildProcessError:
        os._exit(0)
"""


@dataclass
class Reply:
    """What came back for one stream."""

    status: int = 0
    headers: list[tuple[str, str]] | None = None
    whole: bytes = b""  # the body of a RESULT
    error: dict[str, Any] | None = None
    usage: tuple[int, int, int] = (0, 0, 0)
    chunks: list[bytes] = field(default_factory=list)
    logs: list[dict[str, str]] = field(default_factory=list)
    streamed: bool = False
    over: bool = False

    @property
    def body(self) -> bytes:
        return self.whole + b"".join(self.chunks)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers or [] if key == name), None)

    @property
    def text(self) -> list[str]:
        """Lines of stdout and stderr."""
        return [line["t"] for line in self.logs]


class Hungup(Exception):
    """The worker closed the connection."""


class Connection:
    """The platform's end."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(20)
        self.replies: dict[int, Reply] = {}
        self.ready: dict[str, Any] | None = None
        self.failed: dict[str, Any] | None = None
        self.hooked: list[dict[str, Any]] = []
        self.idle_logs: list[dict[str, str]] = []
        self.credits: dict[int, int] = {}
        self.auto_credit = True
        self._stream = 0
        self._rest = bytearray()

    # out

    def send(self, kind: int, stream: int, payload: bytes = b"", flags: int = 0) -> None:
        self.sock.sendall(wire.frame(kind, stream, payload, flags))

    def begin(self, head: dict[str, Any], body: bytes = b"", end: bool = True) -> int:
        self._stream += 1
        self.replies[self._stream] = Reply()
        meta = json.dumps(head).encode()
        self.send(wire.INVOKE, self._stream, wire.META.pack(len(meta)) + meta + body, wire.END if end else 0)
        return self._stream

    def event(self, payload: Any = None, **head: Any) -> Reply:
        """Invoke with a JSON payload and wait."""
        body = b"" if payload is None else json.dumps(payload).encode()
        return self.wait(self.begin(event_head(**head), body))

    def http(self, path: str = "/", body: bytes = b"", **head: Any) -> Reply:
        """Invoke with an HTTP request and wait."""
        return self.wait(self.begin(http_head(path, **head), body))

    def hook(self, name: str) -> dict[str, Any]:
        before = len(self.hooked)
        self.send(wire.HOOK, 0, json.dumps({"hook": name}).encode())
        while len(self.hooked) == before:
            self.pump()
        return self.hooked[-1]

    def credit(self, stream: int, size: int) -> None:
        self.send(wire.CREDIT, stream, wire.META.pack(size))

    # in

    def wait(self, stream: int) -> Reply:
        while not self.replies[stream].over:
            self.pump()
        return self.replies[stream]

    def wait_ready(self) -> dict[str, Any]:
        while self.ready is None:
            self.pump()
        return self.ready

    def wait_failed(self) -> dict[str, Any]:
        while self.failed is None:
            self.pump()
        return self.failed

    def wait_eof(self) -> None:
        try:
            while True:
                self.pump()
        except Hungup:
            pass

    def pump(self) -> None:
        """Take what arrives next."""
        try:
            data = self.sock.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Hungup
        self._rest += data
        while len(self._rest) >= wire.HEADER_SIZE:
            length, kind, flags, reserved, stream = wire.HEADER.unpack_from(self._rest)
            if len(self._rest) < wire.HEADER_SIZE + length:
                break
            assert reserved == 0
            payload = bytes(self._rest[wire.HEADER_SIZE : wire.HEADER_SIZE + length])
            del self._rest[: wire.HEADER_SIZE + length]
            self._take(kind, flags, stream, payload)

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == wire.LOG:
            target = self.replies[stream].logs if stream in self.replies else self.idle_logs
            target.append(json.loads(payload))
            return
        if stream == 0:
            value = json.loads(payload)
            if kind == wire.READY:
                self.ready = value
            elif kind == wire.FAILED:
                self.failed = value
            else:
                assert kind == wire.HOOKED, kind
                self.hooked.append(value)
            return
        reply = self.replies[stream]
        if kind == wire.CREDIT:
            self.credits[stream] = self.credits.get(stream, 0) + wire.META.unpack(payload)[0]
            return
        assert not reply.over, f"frame {kind} after the end of stream {stream}"
        if kind == wire.RESULT:
            reply.usage = wire.USAGE.unpack_from(payload)
            (size,) = wire.META.unpack_from(payload, 12)
            reply.status, reply.headers = 200, None
            if size:
                status, headers = json.loads(payload[16 : 16 + size])
                reply.status, reply.headers = status, [tuple(pair) for pair in headers]
            reply.whole = payload[16 + size :]
        elif kind == wire.HEAD:
            assert not reply.streamed
            status, headers = json.loads(payload)
            reply.status, reply.headers, reply.streamed = status, [tuple(pair) for pair in headers], True
        elif kind == wire.CHUNK:
            assert reply.streamed
            reply.chunks.append(payload)
            if self.auto_credit:
                self.credit(stream, len(payload))
        elif kind == wire.FINISH:
            assert reply.streamed
            reply.usage = wire.USAGE.unpack(payload)
        elif kind == wire.ERROR:
            reply.usage = wire.USAGE.unpack_from(payload)
            reply.error = json.loads(payload[12:])
        else:
            raise AssertionError(f"unexpected frame {kind}")
        if kind in (wire.RESULT, wire.FINISH, wire.ERROR):
            reply.over = True
            assert flags == wire.END


class Worker(Connection):
    """A worker process and the connection to it."""

    def __init__(self, sock: socket.socket, process: subprocess.Popen[bytes]) -> None:
        super().__init__(sock)
        self.process = process

    def wait_exit(self) -> int:
        return self.process.wait(20)


def event_head(**head: Any) -> dict[str, Any]:
    return {"id": "req-1", "kind": "event", "method": "POST", "path": "/", "headers": [], **head}


def http_head(path: str = "/", **head: Any) -> dict[str, Any]:
    path, _, query = path.partition("?")
    base = {"id": "req-1", "kind": "http", "method": "GET", "path": path, "query": query, "base": "", "headers": []}
    return {**base, "source": "192.0.2.7", "scheme": "http", "function": "hello", "version": "3", **head}


def write_code(folder: Path, code: str | dict[str, str]) -> Path:
    """Files below `folder`/code; a plain text is app.py."""
    target = folder / "code"
    files = {"app.py": code} if isinstance(code, str) else code
    for name, text in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8", newline="")
        path.chmod(0o755 if text.startswith("#!") else 0o644)
    return target


def task_for(folder: Path, code: str | dict[str, str], handler: str, **task: Any) -> dict[str, Any]:
    """A SPECIALIZE task for code below `folder`."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    env = {"TMPDIR": str(temporary), **task.pop("env", {})}
    return {
        "namespace": "default", "function": "hello", "version": "3", "instance": "i-1", "handler": handler,
        "code": str(write_code(folder, code)), "layers": [], "concurrency": 1, "timeout_s": 30.0,
        "memory_bytes": 256 << 20, "output_bytes": 6 << 20, "log_bytes": 1 << 20, "env": env, "hooks": {},
        "template": False, **task,
    }  # fmt: skip


def _spawn(
    boot: str, task: dict[str, Any], sockets: list[socket.socket], python: str, stdout: int | None = None
) -> subprocess.Popen[bytes]:
    numbers = [sock.fileno() for sock in sockets]
    runtime = runtime_only(Path(task["code"]).parent)
    command = [python, "-I", "-S", "-c", boot, str(runtime), ",".join(map(str, numbers)), json.dumps(task)]
    return subprocess.Popen(command, pass_fds=numbers, stdin=subprocess.DEVNULL, stdout=stdout)


def runtime_only(folder: Path) -> Path:
    """A folder with the parts of the package that are mounted into a sandbox, and nothing else."""
    package = folder / "opt" / "fuyun"
    if not package.exists():
        package.mkdir(parents=True)
        (package / "__init__.py").write_text((ROOT / "src/fuyun/__init__.py").read_text())
        for part in ("runtime", "sdk"):
            os.symlink(ROOT / "src/fuyun" / part, package / part)
    return package.parent


@contextmanager
def worker(
    folder: Path,
    code: str | dict[str, str],
    handler: str = "app.handler",
    python: str = sys.executable,
    stdout: int | None = None,
    **task: Any,
) -> Iterator[Worker]:
    """A started worker (not necessarily ready); it must be gone at the end."""
    ours, theirs = socket.socketpair()
    with ours:
        process = _spawn(_BOOT, task_for(folder, code, handler, **task), [theirs], python, stdout)
        theirs.close()
        try:
            yield Worker(ours, process)
        finally:
            ours.close()
            try:
                process.wait(10)
            finally:
                process.kill()
                process.wait()


@contextmanager
def node_worker(
    folder: Path, code: str | dict[str, str], handler: str = "index.handler", **task: Any
) -> Iterator[Worker]:
    """A started Node worker (not necessarily ready), as its keeper starts it; a plain text is index.js."""
    files = {"index.js": code} if isinstance(code, str) else code
    told = json.dumps(task_for(folder, files, handler, **task)).encode()
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    near, far = socket.socketpair()
    inherited = [reader, theirs.fileno(), near.fileno(), far.fileno()]
    with ours:
        process = subprocess.Popen(
            ["node", *nodejs.flags(), nodejs.WORKER, *map(str, inherited)], pass_fds=inherited, stdin=subprocess.DEVNULL
        )
        for end in (theirs, near, far):
            end.close()
        os.close(reader)
        try:
            os.write(writer, wire.frame(wire.SPECIALIZE, 0, told))
            os.close(writer)
            yield Worker(ours, process)
        finally:
            ours.close()
            try:
                process.wait(10)
            finally:
                process.kill()
                process.wait()


@contextmanager
def template(
    folder: Path, code: str | dict[str, str], copies: int, handler: str = "app.handler", **task: Any
) -> Iterator[tuple[Connection, list[Connection]]]:
    """A template's own connection and those of `copies` instances forked from it."""
    pairs = [socket.socketpair() for _ in range(copies + 1)]
    process = _spawn(
        _TEMPLATE,
        task_for(folder, code, handler, template=True, **task),
        [theirs for _, theirs in pairs],
        sys.executable,
    )
    for _, theirs in pairs:
        theirs.close()
    connections = [Connection(ours) for ours, _ in pairs]
    try:
        yield connections[0], connections[1:]
    finally:
        for connection in connections:
            connection.sock.close()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.wait()
