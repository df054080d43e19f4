"""Runs a few lines in a Python process of their own, as root of namespaces that own nothing of the host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[2] / "src"

PROLOGUE = f"""
import ctypes, errno, json, os, signal, socket, struct, sys
sys.path.insert(0, {str(SOURCE)!r})
from fuyun.runtime import descriptors, landlock, sandbox, seccomp, syscalls
found = {{}}

def attempt(name, call):
    try:
        found[name] = call()
    except OSError as error:
        found[name] = errno.errorcode.get(error.errno, str(error))

def namespaces(kinds):
    uid, gid = os.getuid(), os.getgid()
    syscalls.call("unshare", syscalls.NEWUSER | kinds)
    sandbox.write_maps("self", 0, (uid, gid))
    if kinds & syscalls.NEWNS:
        syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)

def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def run(code: str, *arguments: str) -> Any:
    """What `code` puts into `found`."""
    program = PROLOGUE + textwrap.dedent(code) + "\nprint(json.dumps(found))\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, *arguments], capture_output=True, timeout=30, check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)
