"""The `Sandboxed` runner of isolation class `process`: resource limits and a clean end, no isolation."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

from fuyun.domain.errors import HostUnable

_LINE_LIMIT = 4096
_KEEPER = Path(__file__).with_name("keeper.py")


class ProcessRunner:
    """Implements `ports.builds.Sandboxed` without hiding anything: the command sees what the platform sees.

    `ro`, `rw` and `network` are therefore not enforced; that is what class `process` means, and why it must be asked
    for by name. Limits on CPU time, memory, file size and open files are, and nothing the command started outlives the
    call, also not when the platform is killed.
    """

    def __init__(self, memory_bytes: int = 4 * 2**30, file_bytes: int = 4 * 2**30) -> None:
        """`memory_bytes`: data segment of each process; `file_bytes`: largest file it may write."""
        self._limits = {
            "RLIMIT_CORE": 0,
            "RLIMIT_DATA": memory_bytes,
            "RLIMIT_FSIZE": file_bytes,
            "RLIMIT_NOFILE": 4096,
        }

    async def __call__(
        self,
        argv: list[str],
        *,
        ro: list[str],
        rw: list[str],
        env: dict[str, str],
        cwd: str,
        network: bool = False,
        timeout_s: float,
        output: Callable[[str], None],
    ) -> int:
        """See `ports.builds.Sandboxed`."""
        task = {"argv": argv, "env": env, "cwd": cwd, "limits": {**self._limits, "RLIMIT_CPU": int(timeout_s) + 1}}
        python = getattr(sys, "_base_executable", "") or sys.executable
        try:
            process = await asyncio.create_subprocess_exec(
                python, "-I", "-S", str(_KEEPER), json.dumps(task),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        except OSError as exc:
            raise HostUnable(f"cannot start a process: {exc}", hint="raise the limit on processes") from exc
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                await _relay(process.stdout, output)
                return await process.wait()
        finally:
            process.stdin.close()
            await _ended(process)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Wait until the keeper has ended everything, also when this task is cancelled meanwhile."""
    cancelled = False
    while process.returncode is None:
        try:
            await process.wait()
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


async def _relay(stream: asyncio.StreamReader, output: Callable[[str], None]) -> None:
    """Pass lines on until the stream ends; a line without an end is cut, not kept."""
    rest = b""
    while chunk := await stream.read(65536):
        *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
        if len(rest) > _LINE_LIMIT:
            lines.append(rest)
            rest = b""
        for line in lines:
            _emit(line, output)
    _emit(rest, output)


def _emit(line: bytes, output: Callable[[str], None]) -> None:
    text = line[:_LINE_LIMIT].decode("utf-8", "replace").rstrip()
    if text:
        output(text)
