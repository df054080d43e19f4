"""The zoo: what functions do to their hosts, and which error tells their author so.

Every animal is one `handler.py`, kept here as text because some of them do not even parse. `earns` lists the acceptable
error codes of `domain/errors.py`; "" means the invocation succeeds although the function misbehaves. A deploy tries
the function once, so that what cannot start is refused there. Whatever it does, its neighbours must not notice.
Where one sleeps, that is what it does: it must still be at it when the platform ends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Animal:
    """One bad function. `spec` holds fields of `FunctionSpec` that differ from the defaults."""

    name: str
    does: str
    source: str
    earns: frozenset[str]
    spec: Mapping[str, Any] = field(default_factory=dict)


def _animal(name: str, does: str, source: str, *earns: str, **spec: Any) -> Animal:
    spec.setdefault("timeout_s", 20.0)
    return Animal(name=name, does=does, source=source.lstrip("\n"), earns=frozenset(earns or {""}), spec=spec)


_FAIL_TO_LOAD = (
    _animal("syntax-error", "does not parse", "def handler(event, context:\n    return 1\n", "function_load_failed"),
    _animal("import-error", "imports what is not there", "import no_such_module_anywhere\n", "function_load_failed"),
    _animal("raises-at-import", "raises while it is imported", "1 / 0\n", "function_load_failed"),
    _animal("missing-handler", "has no callable of that name", "def handle(event, context):\n    return 1\n",
            "handler_missing"),
    _animal("exits-at-import", "ends the interpreter while it is imported", "import os\nos._exit(7)\n",
            "function_load_failed", "function_exited", "function_init_failed"),
    _animal("slow-init", "has an initializer that takes a minute", """
import threading

def prepare(context=None):
    threading.Event().wait(60)

def handler(event, context):
    return 1
""", "function_init_failed", hooks={"initializer": "handler.prepare", "initializer_timeout_s": 1.0}),
    _animal("initializer-raises", "has an initializer that raises", """
def prepare(context=None):
    raise RuntimeError("no connection")

def handler(event, context):
    return 1
""", "function_init_failed", hooks={"initializer": "handler.prepare"}),
)  # fmt: skip

_END = (
    _animal("raises", "raises", "def handler(event, context):\n    raise ValueError('no such thing')\n",
            "function_raised"),
    _animal("recurses", "calls itself for ever", "def handler(event, context):\n    return handler(event, context)\n",
            "function_raised"),
    _animal("sys-exit", "calls sys.exit", "import sys\n\ndef handler(event, context):\n    sys.exit(3)\n",
            "function_exited", "function_raised"),
    _animal("os-exit", "ends its process at once", "import os\n\ndef handler(event, context):\n    os._exit(3)\n",
            "function_exited"),
    _animal("segfaults", "reads address 0", "import ctypes\n\ndef handler(event, context):\n    ctypes.string_at(0)\n",
            "function_exited"),
    _animal("kills-itself", "sends itself SIGKILL", """
import os, signal

def handler(event, context):
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()
""", "function_exited", "function_timed_out", timeout_s=3.0),
    _animal("kills-parent", "sends SIGKILL to its parent, to pid 1 and to everyone it can", """
import os, signal

def handler(event, context):
    for pid in (os.getppid() or 1, 1, -1):
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    return "still here"
""", "", "function_exited"),
)  # fmt: skip

_HANG = (
    _animal("never-returns", "waits for ever", """
import threading

def handler(event, context):
    threading.Event().wait()
""", "function_timed_out", timeout_s=1.0),
    _animal("burns-cpu", "computes for ever", "def handler(event, context):\n    while True:\n        pass\n",
            "function_timed_out", timeout_s=1.0),
    _animal("blocks-the-loop", "is async and blocks its event loop", """
import time

async def handler(event, context):
    time.sleep(60)  # what this animal is for: nobody awaits it, so the loop stands still
""", "function_timed_out", timeout_s=1.0, concurrency=4),
    _animal("holds-the-gil", "never lets another thread of its process run", """
import re

def handler(event, context):
    return bool(re.match(r"(a+)+$", "a" * 64 + "b"))
""", "function_timed_out", timeout_s=1.0),
    _animal("ignores-term", "ignores SIGTERM and waits for ever", """
import signal, threading

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
    signal.signal(number, signal.SIG_IGN)

def handler(event, context):
    threading.Event().wait()
""", "function_timed_out", timeout_s=1.0),
)  # fmt: skip

_DEVOUR = (
    _animal("out-of-memory", "allocates until it is killed", """
def handler(event, context):
    held = []
    while True:
        held.append(bytearray(b"x" * (8 * 1024 * 1024)))
""", "function_out_of_memory", memory_bytes=64 * MIB),
    _animal("fork-bomb", "forks for ever, children too", """
import os

def handler(event, context):
    while True:
        try:
            os.fork()
        except OSError:
            pass
""", "function_timed_out", timeout_s=2.0, pids=32),
    _animal("thread-bomb", "starts threads until it may not", """
import threading

def handler(event, context):
    while True:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
""", "function_raised", pids=64),
    _animal("fills-tmp", "writes to /tmp until it is full", """
def handler(event, context):
    with open("/tmp/full", "wb") as file:
        while True:
            file.write(b"x" * 1024 * 1024)
""", "function_raised", "function_out_of_memory", tmp_bytes=16 * MIB),
    _animal("opens-everything", "opens descriptors until it may not", """
import os

def handler(event, context):
    while True:
        os.open("/dev/null", os.O_RDONLY)
""", "function_raised"),
    _animal("leaves-children", "answers and leaves children running", """
import os, threading

def handler(event, context):
    for _ in range(4):
        if os.fork() == 0:
            os.setsid()
            threading.Event().wait()  # until somebody ends it
    return "answered"
"""),
)  # fmt: skip

_SHOUT = (
    _animal("floods-stdout", "prints 64 MB", """
def handler(event, context):
    for _ in range(64 * 1024):
        print("x" * 1023)
    return "done"
"""),
    _animal("huge-log-line", "prints one line of 32 MB", """
def handler(event, context):
    print("x" * (32 * 1024 * 1024))
    return "done"
"""),
    _animal("floods-os-write", "writes 16 MB of bytes that are no text straight to descriptor 2", """
import os

def handler(event, context):
    for _ in range(256):
        os.write(2, bytes(range(256)) * 256)
    return "done"
"""),
    _animal("returns-100-mb", "returns 100 MB", "def handler(event, context):\n    return b'x' * (100 * 1024 * 1024)\n",
            "response_too_large", memory_bytes=512 * MIB),
    _animal("returns-object", "returns what is not JSON", "def handler(event, context):\n    return object()\n",
            "bad_response"),
    _animal("returns-cycle", "returns a list that holds itself", """
def handler(event, context):
    ring = []
    ring.append(ring)
    return ring
""", "bad_response", "function_raised"),
)  # fmt: skip

_SABOTAGE = (
    _animal("closes-its-socket", "closes every descriptor it finds", """
import os, threading

def handler(event, context):
    os.closerange(0, 1024)
    threading.Event().wait()  # lives on without its channel, until somebody ends it
""", "protocol_violated", "function_exited"),
    _animal("writes-garbage", "writes garbage to every descriptor it finds", """
import os, socket

def handler(event, context):
    for fd in range(3, 256):
        try:
            socket.socket(fileno=os.dup(fd)).send(b"\\xff" * 65536, socket.MSG_DONTWAIT)
        except OSError:
            pass
    return "never mind"
""", "protocol_violated"),
    _animal("forges-an-answer", "writes a frame for an invocation that is not its own", """
import os, socket, struct

def handler(event, context):
    for fd in range(3, 256):
        try:
            forged = struct.pack("<IBBHI", 18, 18, 1, 0, 4242) + bytes(16) + b"{}"
            socket.socket(fileno=os.dup(fd)).send(forged, socket.MSG_DONTWAIT)
        except OSError:
            pass
    return "mine"
""", "", "protocol_violated"),
    _animal("replaces-builtins", "breaks json, print and open for everyone in its process", """
import builtins, json, sys

def handler(event, context):
    json.dumps = json.loads = builtins.print = builtins.open = None
    sys.stdout = sys.stderr = None
    return {"ok": True}
""", "", "function_raised", "bad_response", "function_exited"),
)  # fmt: skip

ZOO: tuple[Animal, ...] = (*_FAIL_TO_LOAD, *_END, *_HANG, *_DEVOUR, *_SHOUT, *_SABOTAGE)

#: A function that does right, to stand beside each of them.
NEIGHBOUR = """
import os

def handler(event, context):
    return {"sum": event["a"] + event["b"], "pid": os.getpid()}
"""
