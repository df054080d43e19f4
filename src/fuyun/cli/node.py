"""`fuyun node`: what the node holds ready, what that costs in memory and saves in time."""

from __future__ import annotations

from typing import Any

import typer

from fuyun.cli import output
from fuyun.cli.session import JsonOption, command, connect

_COLUMNS = ("KIND", "VERSION", "PID", "START", "PSS MIB", "PRIVATE MIB", "TOOK MS", "SAVED MS", "NO TEMPLATE BECAUSE")


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "node")(node)


def node(json: JsonOption = False) -> None:
    """Show zygotes, blanks, templates, spares and instances, their memory, and what each saves a start.

    Memory is the share of it that is a process's own (PSS) and what no other has (private). SAVED is against the rung
    of the start ladder below; - where that was not measured.
    """
    with connect() as platform:
        found = platform.get_node()
    if json:
        return output.as_json(found)
    output.table(_COLUMNS, [_row(process) for process in found["processes"]])


def _row(process: dict[str, Any]) -> tuple[Any, ...]:
    return (
        process["kind"], process["version"], process["pid"], process["start"] if process["kind"] == "instance" else "",
        _mib(process["pss_bytes"]), _mib(process["private_bytes"]), _ms(process["took_ms"]), _ms(process["saved_ms"]),
        process["reason"],
    )  # fmt: skip


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.2f}" if size_bytes else "-"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
