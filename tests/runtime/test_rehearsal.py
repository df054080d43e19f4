"""A zygote's preparation leaves no trace that an instance or the zygote could stumble over."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.driver import runtime_only
from tests.runtime.test_interpreters import interpreters

PROGRAM = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
def state():
    return [sys.path[:], sys.argv[:], os.getcwd(), sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__,
            sorted(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), "rehearsed" in sys.modules,
            sorted(n for n in os.environ if n.startswith("FUYUN_")), os.environ["COLOR"]]
before = state()
from fuyun.runtime import forkhooks
forkhooks.collect()
from fuyun.runtime import zygote
registers = os.register_at_fork.__name__
zygote.preload()
print(json.dumps([before, state(), [registers, os.register_at_fork.__name__]]))
"""
SERVE = """
import os, socket, sys, json
sys.path.insert(0, sys.argv[1])
from fuyun.runtime import forkhooks
forkhooks.collect()
from fuyun.runtime import worker, zygote
zygote.preload()
for name in ("handler", "asynchronous"):
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        task = {"handler": f"app.{name}", "code": sys.argv[2], "function": name, "env": {"A": name}}
        os._exit(worker.main(theirs, task))
    theirs.close()
    from fuyun.runtime import wire
    head = json.dumps({"id": "1", "kind": "event", "headers": []}).encode()
    ours.sendall(wire.frame(wire.INVOKE, 1, wire.META.pack(len(head)) + head + b"5", wire.END))
    with ours.makefile("rb") as frames:
        for _ in range(3):
            length, kind, *_ = wire.HEADER.unpack(frames.read(12))
            payload = frames.read(length)
            print(kind, payload[16:].decode() if kind == wire.RESULT else payload.decode())
    ours.close()
    os.wait()
"""


def run(tmp_path: Path, python: str, program: str, *more: str) -> list[str]:
    command = [python, "-I", "-S", "-W", "error", "-c", program, str(runtime_only(tmp_path)), *more]
    done = subprocess.run(command, capture_output=True, text=True, env={"COLOR": "blue"}, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("python", interpreters(), ids=lambda path: Path(path).name)
def test_everything_is_put_back(tmp_path: Path, python: str) -> None:
    before, after, registers = json.loads(run(tmp_path, python, PROGRAM)[0])
    assert after == before
    assert registers == ["_note", "register_at_fork"]


def test_instances_of_a_rehearsed_zygote(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "app.py").write_text(
        "import os\ndef handler(event, context):\n    print('seen')\n    return [os.environ['A'], context.function]\n"
        "async def asynchronous(event, context):\n    return handler(event, context)\n"
    )
    lines = run(tmp_path, sys.executable, SERVE, str(code))
    for name, (ready, log, result) in zip(("handler", "asynchronous"), (lines[:3], lines[3:]), strict=True):
        assert ready.startswith("16 ")
        assert json.loads(ready[3:])["forkable"] is True
        assert json.loads(log[3:])["t"] == "seen"
        assert json.loads(result[3:]) == [name, name]
