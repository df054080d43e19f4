"""`fuyun remove`: a project's functions, taken off the platform."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fuyun.cli import output
from fuyun.cli.deploy import PathArgument, StageOption
from fuyun.cli.names import function_names
from fuyun.cli.session import JsonOption, NamespaceOption, YesOption, command, confirm, connect
from fuyun.domain.errors import NotFound

DeployedOption = Annotated[
    list[str] | None,
    typer.Option("--function", "-f", help="Only this function; may be repeated.", autocompletion=function_names),
]


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "remove")(remove)


def remove(
    path: PathArgument = Path("."),
    function: DeployedOption = None,
    stage: StageOption = "",
    namespace: NamespaceOption = "",
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Delete the functions of a project file from the platform. The files stay."""
    from fuyun.client.project import load_project

    project = load_project(path, stage=stage)
    names = [item.name for item in project.pick(function or [])]
    removed = []
    with connect(namespace or project.namespace) as platform:
        confirm(f"Delete {', '.join(names)} of namespace {platform.namespace} with all versions?", yes)
        for name in names:
            try:
                platform.delete_function(name)
            except NotFound:
                output.words(f"{name} was not deployed")
                continue
            removed.append(name)
            output.words(f"deleted {name}")
    if json:
        output.as_json(removed)
