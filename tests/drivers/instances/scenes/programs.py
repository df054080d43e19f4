"""Programs in a sandbox of their own, as dependency builds run."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
from pathlib import Path
from typing import Any

from fuyun.domain.errors import HostUnable, Unavailable
from tests.drivers.instances.scenes.hosts import rig
from tests.drivers.instances.scenes.rig import Rig, failure
from tests.leaks import command_of, descendants


async def _run(host: Rig, code: str, **options: Any) -> tuple[int, list[str]]:
    lines: list[str] = []
    told: dict[str, Any] = {"ro": [], "rw": [], "env": {}, "cwd": "/tmp", "timeout_s": 20.0, **options}
    status = await host.host.run(["/bin/sh", "-c", code], output=lines.append, **told)
    return status, lines


def _running(word: str) -> bool:
    return any(word in command_of(pid) for pid in descendants(os.getpid()))


async def exit_status_and_output() -> None:
    async with rig() as host:
        assert await _run(host, "echo out; echo err >&2; exit 7") == (7, ["out", "err"])
        assert await _run(host, "printf 'no newline'") == (0, ["no newline"])
        assert await _run(host, r"printf 'a\rb\r\n\n\303\050 \377'") == (0, ["a", "b", "\ufffd( \ufffd"])
        assert (await _run(host, "sh -c 'kill -9 $$'; exit $?"))[0] == 137
        status, lines = await _run(host, "head -c 300000 /dev/zero | tr '\\0' x; echo; echo end")
        assert status == 0
        assert max(map(len, lines)) <= 4096
        assert lines[-1] == "end"


async def what_it_sees() -> None:
    async with rig() as host:
        with tempfile.TemporaryDirectory(prefix="fuyun-rig-", dir="/tmp") as folder:
            place = Path(folder)
            place.chmod(0o755)
            (place / "in").mkdir()
            (place / "in/file").write_text("given\n")
            (place / "out").mkdir()
            code = f"cat {place}/in/file; echo $NAME; pwd; echo made > {place}/out/made; echo no > {place}/in/made"
            status, lines = await _run(
                host,
                code,
                ro=[str(place / "in")],
                rw=[str(place / "out")],
                env={"NAME": "value"},
                cwd=str(place / "out"),
            )
            assert status != 0
            assert lines[:3] == ["given", "value", str(place / "out")]
            assert "Read-only" in lines[3]
            assert (place / "out/made").read_text() == "made\n"


async def its_network() -> None:
    connect = "python3 -I -c 'import socket; socket.create_connection((\"127.0.0.1\", %d), 5)' 2>/dev/null"
    async with rig() as host:
        with socket.create_server(("127.0.0.1", 0)) as server:
            code = connect % server.getsockname()[1]
            assert (await _run(host, code))[0] == 1
            assert (await _run(host, code, network=True))[0] == 0


async def one_that_takes_too_long() -> None:
    async with rig() as host:
        try:
            await _run(host, "echo begun; (sleep 8641 & ) ; sleep 8641", timeout_s=0.5)
        except TimeoutError:
            pass
        else:
            raise AssertionError("it ended")
        await host.until(lambda: not _running("sleep 8641"), "it to end")


async def one_that_nobody_waits_for() -> None:
    async with rig() as host:
        task = asyncio.ensure_future(_run(host, "sleep 8642"))
        await host.until(lambda: _running("sleep 8642"), "it to begin")
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await host.until(lambda: not _running("sleep 8642"), "it to end")


async def one_that_cannot_start() -> None:
    async with rig() as host:
        lines: list[str] = []
        options: dict[str, Any] = {"ro": [], "rw": [], "env": {}, "cwd": "/", "timeout_s": 5.0, "output": lines.append}
        assert await host.host.run(["/nonesuch"], **options) == 70
        assert "No such file" in lines[0]
        error = await failure(host.host.run(["/bin/true"], **{**options, "ro": ["/nonesuch/folder"]}))
        assert type(error) is HostUnable
        assert "/nonesuch/folder" in error.detail
        error = await failure(host.host.run(["/bin/true", "x" * 300_000], **options))
        assert type(error) is HostUnable
        assert "bytes" in error.detail
        assert await host.host.run(["/bin/true"], **options) == 0


async def one_whose_warden_dies() -> None:
    async with rig(own=True) as host:
        task = asyncio.ensure_future(failure(_run(host, "sleep 8643")))  # type: ignore[arg-type]
        await host.until(lambda: _running("sleep 8643"), "it to begin")
        os.kill(host.host.warden.pid, signal.SIGKILL)
        assert type(await task) is Unavailable
        await host.until(lambda: not _running("sleep 8643"), "it to end")
