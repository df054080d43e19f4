"""`fuyun audit`: who changed what."""

from __future__ import annotations

from typing import Annotated

import typer

from fuyun.cli import output
from fuyun.cli.session import JsonOption, NamespaceOption, command, connect


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "audit")(audit)


def audit(
    after: Annotated[str, typer.Option(help="Only what came after this entry's id.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Entries at most.")] = 100,
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """List changes, oldest first: who, what, when, from where."""
    with connect(namespace) as platform:
        found = platform.list_audit(platform.namespace if namespace else "", after, limit)
    if json:
        return output.as_json(found)
    rows = [(output.when(e.at_s), e.key_id, e.source, e.action, e.namespace, e.target, e.detail, e.id) for e in found]
    output.table(
        ("AT", "KEY", "FROM", "ACTION", "NAMESPACE", "TARGET", "DETAIL", "ID"), rows, empty="nothing was changed"
    )
