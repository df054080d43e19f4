"""`fuyun down`: stop a platform that runs on this machine, and wait until it has ended."""

from __future__ import annotations

import os
import signal
from typing import Annotated

import typer

from fuyun.cli import exits, output, rundir
from fuyun.cli.session import command
from fuyun.cli.up import DataOption
from fuyun.domain.errors import NotFound, PlatformError

#: Beyond the drain time: closing files, ending instances.
GRACE_S = 15.0
#: After SIGKILL only the kernel's own work is left.
KILLED_S = 5.0


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "down")(down)


def down(
    data: DataOption = None,
    timeout: Annotated[
        str, typer.Option(help="How long it may take before it is killed; default: the drain time + 15s.")
    ] = "",
) -> None:
    """Stop the platform gracefully: running requests finish first."""
    from fuyun.base.units import parse_duration
    from fuyun.domain.errors import BadRequest
    from fuyun.settings import load

    settings = load({"data": str(data)} if data else {}, os.environ)
    try:
        timeout_s = parse_duration(timeout) if timeout else settings.drain_s + GRACE_S
    except ValueError as exc:
        raise BadRequest(f"--timeout: {exc}") from exc
    running = rundir.find_running(settings.data_path)
    if running is None:
        if rundir.is_held(settings.data_path):
            raise PlatformError(
                f"something holds {settings.data_path / rundir.LOCK} without saying who it is",
                hint="it may be starting; try again, or look with: fuser platform.lock",
            )
        raise NotFound(
            f"no platform runs on {settings.data_path}", hint="name its data directory: fuyun down --data DIR"
        )
    try:
        process = rundir.Process(running.pid)
    except ProcessLookupError:
        raise NotFound(f"process {running.pid} of {settings.data_path} has ended") from None
    try:
        process.signal(signal.SIGTERM)
        if process.wait(timeout_s):
            return output.words("stopped")
        output.words(f"process {running.pid} did not stop within {timeout_s:g} s; killing it")
        process.signal(signal.SIGKILL)
        if not process.wait(KILLED_S):
            raise PlatformError(
                f"process {running.pid} does not end even when killed", hint="the kernel holds it: see dmesg"
            )
    finally:
        process.close()
    output.words("killed; requests that were running were cut off")
    raise typer.Exit(exits.PLATFORM)
