"""Programs run in a sandbox of their own: dependency builds (`ports.builds.Sandboxed`)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from fuyun.base import ids
from fuyun.domain.errors import Unavailable
from fuyun.drivers.instances import plans
from fuyun.drivers.instances.ground import Ground

_LINE_BYTES = 4096
#: What is read at once, and what is still read of a program that has ended: as much as a pipe can hold (pipe(7)).
_CHUNK, _LEFT = 2**16, 2**20
#: A dependency build compiles things; it may not take the host down.
_LIMITS = {"memory": 4 * 2**30, "cpu": 2.0, "pids": 512}


class Programs:
    """Runs programs by the host's warden."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def run(
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
        """Run `argv` in a sandbox; `output` gets its lines. Its exit status. TimeoutError ends it."""
        loop = asyncio.get_running_loop()
        for folder in rw:
            if self._ground.warden.hello["root"]:
                await loop.run_in_executor(None, os.chmod, folder, 0o777)
        plan = plans.view(None, ro=ro, rw=rw, network=network)
        message = {
            "op": "run", "id": ids.new_id(), "plan": plan, "argv": argv, "env": plans.environment(env), "cwd": cwd,
            "limits": _LIMITS,
        }  # fmt: skip
        reader, writer = os.pipe()
        relay = _Relay(reader, output)
        try:
            answer = await self._ground.warden.ask(message, (writer,), timeout_s)
        except BaseException as error:
            self._ground.try_send({"op": "kill", "id": message["id"]})
            if isinstance(error, Unavailable) and isinstance(error.__cause__, TimeoutError):
                raise error.__cause__ from None
            raise
        finally:
            os.close(writer)
            relay.close()
        status = answer.get("status")
        return int(status) if status is not None else 70


class _Relay:
    """Passes on what is written to a pipe, line by line.

    The loop only says when there is something to read: a pipe that it is given uvloop closes twice, and the second time
    another thread's file may have that number.
    """

    def __init__(self, reader: int, output: Callable[[str], None]) -> None:
        os.set_blocking(reader, False)
        self._reader = reader
        self._output = output
        self._rest = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(reader, self._read)

    def close(self) -> None:
        """Pass on what is left of a program that has ended, up to a megabyte, and let go of the pipe."""
        for _ in range(_LEFT // _CHUNK):
            if not self._read():
                break
        self._loop.remove_reader(self._reader)
        os.close(self._reader)
        self._emit(self._rest)

    def _read(self) -> bool:
        """Whether there was something."""
        try:
            chunk = os.read(self._reader, _CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            self._loop.remove_reader(self._reader)
            return False
        *lines, self._rest = (self._rest + chunk).replace(b"\r", b"\n").split(b"\n")
        if len(self._rest) > _LINE_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._emit(line)
        return True

    def _emit(self, line: bytes) -> None:
        if line.strip():
            self._output(line[:_LINE_BYTES].decode("utf-8", "replace").rstrip())
