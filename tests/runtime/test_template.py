"""Copies of an initialised process: section 11 of docs/contracts/runtime.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.runtime.driver import template, worker

UNIQUE = """
import os, random, secrets, ssl, tempfile, uuid
random.random(), uuid.uuid1(), tempfile.mktemp(), ssl.RAND_bytes(8)
tokens = []

def handler(event, context):
    print("answering", context.instance, os.environ["FUYUN_INSTANCE"])
    return {
        "random": random.random(),
        "secrets": secrets.token_hex(8),
        "uuid1": str(uuid.uuid1()),
        "clock sequence": uuid.uuid1().clock_seq,
        "uuid4": str(uuid.uuid4()),
        "tempfile": tempfile.mktemp(),
        "ssl": ssl.RAND_bytes(8).hex(),
    }
"""


def test_every_source_of_uniqueness_is_renewed(tmp_path: Path) -> None:
    """[R 11.2]"""
    with template(tmp_path, "print('once')\n" + UNIQUE, 6) as (control, copies):
        assert control.wait_ready()["forkable"] is True
        assert [line["t"] for line in control.idle_logs] == ["once"]
        replies = [copy.event() for copy in copies]
        for number, (copy, reply) in enumerate(zip(copies, replies, strict=True)):
            assert copy.ready is not None
            assert copy.ready["load_ms"] == 0
            assert reply.text == [f"answering copy-{number} copy-{number}"]
            assert copy.idle_logs == []
    found = [reply.json for reply in replies]
    for name in found[0]:
        values = {one[name] for one in found}
        assert len(values) == len(found) or (name == "clock sequence" and len(values) > 2), name


def test_openssl_does_not_repeat_itself_under_one_pid(tmp_path: Path) -> None:
    """[R 11.2]: OpenSSL knows a fork by the process number, which is 1 in each of these copies."""
    code = """
    import ctypes, os, ssl
    ssl.RAND_bytes(8)
    renew = __import__("fuyun.runtime.forking").runtime.forking.renew

    def sample(renewed):
        read, write = os.pipe()
        if os.fork() == 0:
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.unshare(0x30000000) == 0, os.strerror(ctypes.get_errno())
            child = os.fork()
            if child == 0:
                if renewed:
                    renew()
                os.write(write, f"{os.getpid()} {ssl.RAND_bytes(8).hex()}".encode())
                os._exit(0)
            os.waitpid(child, 0)
            os._exit(0)
        os.wait()
        os.close(write)
        try:
            return os.read(read, 100).decode().split()
        finally:
            os.close(read)

    def handler(event):
        return [sample(True) for _ in range(4)]
    """
    with worker(tmp_path, code) as w:
        found = w.event().json
    assert {pid for pid, _ in found} == {"1"}
    assert len({value for _, value in found}) == 4


def test_numpy_is_renewed(tmp_path: Path) -> None:
    """[R 11.1] [R 11.2]"""
    from tests.runtime.driver import SITE_PACKAGES

    code = "import numpy\nnumpy.random.rand()\ndef handler(event):\n    return numpy.random.rand()\n"
    with template(tmp_path, code, 4, layers=[SITE_PACKAGES], cpu=4) as (control, copies):
        assert control.wait_ready()["forkable"] is True, control.ready
        assert len({copy.event().json for copy in copies}) == 4


def test_snapshot_hooks(tmp_path: Path) -> None:
    """[R 11.3]"""
    code = """
    import socket
    from fuyun.sdk import after_restore, before_snapshot
    calls = []
    connection = socket.socket()

    @before_snapshot
    def close():
        calls.append("closed")
        connection.close()

    @before_snapshot
    def first():
        calls.append("first")

    @after_restore
    def reconnect():
        calls.append("restored")

    def handler(event):
        return calls
    """
    with template(tmp_path, code, 2) as (control, copies):
        assert control.wait_ready()["forkable"] is True, control.ready
        for copy in copies:
            assert copy.event().json == ["first", "closed", "restored"]
            assert copy.event().json == ["first", "closed", "restored"]
    (tmp_path / "plain").mkdir()
    with worker(tmp_path / "plain", code) as w:
        assert w.wait_ready()["forkable"] is True
        assert w.event().json == []


def test_after_restore_that_fails(tmp_path: Path) -> None:
    """[R 6.5] [R 11.3]"""
    code = """
    from fuyun.sdk import after_restore
    @after_restore
    def reconnect():
        raise OSError("unreachable")
    def handler(event):
        return 1
    """
    with template(tmp_path, code, 1) as (control, copies):
        control.wait_ready()
        found = copies[0].wait_failed()
        assert found["code"] == "function_init_failed"
        assert found["message"] == "an after_restore hook failed: OSError: unreachable"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import threading as t\nt.Thread(target=t.Event().wait, name='watcher', daemon=True).start()", "watcher"),
        ("import socket\ns = socket.socket()", "a socket is open"),
        ("import asyncio\nloop = asyncio.new_event_loop()", "an event loop is open"),
        ("import os\np = os.pipe()", "a pipe is open"),
        ("import os, tempfile\nf = open(os.path.join(tempfile.gettempdir(), 'cache'), 'w')", "cache is open"),
        ("import os\nopen(os.environ['TMPDIR'] + '/made', 'w').close()", "files were written while loading"),
        ("import subprocess\np = subprocess.Popen(['sleep', '0.5'])", "child processes are running"),
        ("import mmap\nm = mmap.mmap(-1, 4096)\nimport time\ntime.sleep(0.01)", "memory is shared"),
        ("import sys, types\nsys.modules['grpc._cython.cygrpc'] = types.ModuleType('x')", "grpc is loaded"),
        ("import sys, types\nm = sys.modules['torch.cuda'] = types.ModuleType('x')\n"
         "m.is_initialized = lambda: True", "CUDA"),
        ("import _thread\nl = _thread.allocate_lock()\nl.acquire()\n_thread.start_new_thread(l.acquire, ())\n"
         "import time\ntime.sleep(0.01)", "threads of native libraries"),
    ],
)  # fmt: skip
def test_what_stands_in_the_way(tmp_path: Path, code: str, reason: str) -> None:
    """[R 11.1]: with the reason in words; the function is served all the same."""
    with worker(tmp_path, f"{code}\ndef handler(event):\n    return 1\n") as w:
        ready: dict[str, Any] = w.wait_ready()
        assert ready["forkable"] is False, ready
        assert reason in ready["reason"]
        assert w.event().json == 1


@pytest.mark.parametrize(
    "code",
    [
        "import ssl, decimal, asyncio, sqlite3, logging, concurrent.futures, multiprocessing",
        "devnull = open('/dev/null')\nrandom = open('/dev/urandom', 'rb')",
        "import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()",
        "import subprocess\nsubprocess.run(['true'], check=True)",
    ],
)
def test_what_does_not(tmp_path: Path, code: str) -> None:
    """[R 11.1]"""
    with worker(tmp_path, f"{code}\ndef handler(event):\n    return 1\n") as w:
        ready = w.wait_ready()
        assert (ready["forkable"], ready["reason"]) == (True, "")


def test_asynchronous_applications_are_copied_before_their_loop_starts(tmp_path: Path) -> None:
    """[R 10.1] [R 11.1]"""
    code = """
    import asyncio
    started = []
    async def init():
        await asyncio.sleep(0)
        started.append(1)
    async def handler(event, context):
        return started
    """
    with template(tmp_path, code, 2, hooks={"initializer": "app.init"}) as (control, copies):
        assert control.wait_ready()["forkable"] is True
        for copy in copies:
            assert copy.event().json == [1]
