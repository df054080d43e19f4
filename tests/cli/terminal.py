"""The command line as a process of its own, on a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys

FUYUN = [sys.executable, "-m", "fuyun.cli.main"]


def on_a_terminal(arguments: list[str], env: dict[str, str]) -> str:
    """What the command writes when stdout and stderr are a terminal."""
    read_end, write_end = pty.openpty()
    child = subprocess.Popen([*FUYUN, *arguments], stdin=write_end, stdout=write_end, stderr=write_end, env=env)
    os.close(write_end)
    found = b""
    try:
        while select.select([read_end], [], [], 30)[0]:
            try:
                chunk = os.read(read_end, 65536)
            except OSError:  # EIO: the last writer is gone
                break
            if not chunk:
                break
            found += chunk
    finally:
        os.close(read_end)
        child.wait()
    return found.decode().replace("\r\n", "\n")
