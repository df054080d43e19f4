"""`fuyun node`: what the node holds ready, what that costs in memory and saves in time."""

from __future__ import annotations

from typing import Any

import typer

from fuyun.cli import output
from fuyun.cli.session import JsonOption, command, connect

_COLUMNS = ("KIND", "VERSION", "PID", "START", "PSS MIB", "PRIVATE MIB", "TOOK MS", "SAVED MS", "NO TEMPLATE BECAUSE")
#: How many versions of a zygote of layers are named to a person.
_NAMED = 4


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "node")(node)


def node(json: JsonOption = False) -> None:
    """Show zygotes, blanks, templates, spares and instances, their memory, and what each saves a start.

    Memory is the share of it that is a process's own (PSS) and what no other has (private). SAVED is against the rung
    of the start ladder below; - where that was not measured. The setting `template_budget_bytes` says how much
    templates and zygotes of layers may hold.
    """
    with connect() as platform:
        found = platform.get_node()
    if json:
        return output.as_json(found)
    output.table(_COLUMNS, [_row(process) for process in found["processes"]])
    output.words(_budget(found["budget"]))


def _row(process: dict[str, Any]) -> tuple[Any, ...]:
    return (
        process["kind"], _version(process), process["pid"], process["start"] if process["kind"] == "instance" else "",
        _mib(process["pss_bytes"]), _mib(process["private_bytes"]), _ms(process["took_ms"]), _ms(process["saved_ms"]),
        process["reason"],
    )  # fmt: skip


def _version(process: dict[str, Any]) -> str:
    """Its version; of a zygote of layers also those it serves, such as default: python3.11 with 1 layer for a@7."""
    serves = [key.partition("/")[2] for key in process.get("serves", ())]
    more = [f"{len(serves) - _NAMED} more"] if len(serves) > _NAMED else []
    named = ", ".join([*serves[:_NAMED], *more])
    return f"{process['version']} for {named}" if named else str(process["version"])


def _budget(budget: dict[str, Any]) -> str:
    """What a person is told of it, such as: templates and zygotes of layers hold 61.2 of 3000.0 MiB; evicted: 1."""
    evicted = [
        f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in sorted(budget["evicted"].items()) if count
    ]
    held, limit = (budget[name] / 2**20 for name in ("held_bytes", "limit_bytes"))
    said = f"templates and zygotes of layers hold {held:.1f} of {limit:.1f} MiB"
    return f"{said}; evicted: {', '.join(evicted) or 'none'}"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.2f}" if size_bytes else "-"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
