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
        reader, writer = os.pipe()
        loop = asyncio.get_running_loop()
        stream = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reader, "rb", buffering=0)
        )
        for folder in rw:
            if self._ground.warden.hello["root"]:
                await loop.run_in_executor(None, os.chmod, folder, 0o777)
        plan = plans.view(None, ro=ro, rw=rw, network=network)
        message = {
            "op": "run", "id": ids.new_id(), "plan": plan, "argv": argv, "env": plans.environment(env), "cwd": cwd,
            "limits": _LIMITS,
        }  # fmt: skip
        lines = self._ground.scope.start(_relay_lines(stream, output), "run")
        try:
            try:
                answer = await self._ground.warden.ask(message, (writer,), timeout_s)
            except Unavailable as error:
                if isinstance(error.__cause__, TimeoutError):
                    raise error.__cause__ from None
                raise
            os.close(writer)
            writer = -1
            await asyncio.wait_for(asyncio.shield(lines), 10.0)
        except BaseException:
            self._ground.try_send({"op": "kill", "id": message["id"]})
            raise
        finally:
            if writer >= 0:
                os.close(writer)
            transport.close()
        status = answer.get("status")
        return int(status) if status is not None else 70


async def _relay_lines(stream: asyncio.StreamReader, output: Callable[[str], None]) -> None:
    rest = b""
    while chunk := await stream.read(65536):
        *lines, rest = (rest + chunk[-_LINE_BYTES * 16 :]).replace(b"\r", b"\n").split(b"\n")
        if len(rest) > _LINE_BYTES:
            lines, rest = [*lines, rest], b""
        for line in lines:
            if line.strip():
                output(line[:_LINE_BYTES].decode("utf-8", "replace").rstrip())
    if rest.strip():
        output(rest.decode("utf-8", "replace").rstrip())
