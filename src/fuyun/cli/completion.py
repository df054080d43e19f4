"""`fuyun completion`: the shell's completion script."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from fuyun.cli import output
from fuyun.cli.session import command
from fuyun.domain.errors import BadRequest

#: Shell -> how to turn it on.
SHELLS = {
    "bash": "fuyun completion bash > ~/.local/share/bash-completion/completions/fuyun",
    "zsh": "fuyun completion zsh > ~/.zfunc/_fuyun, with fpath+=~/.zfunc before compinit in ~/.zshrc",
    "fish": "fuyun completion fish > ~/.config/fish/completions/fuyun.fish",
}


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "completion")(completion)


def completion(shell: Annotated[str, typer.Argument(metavar="SHELL", help=f"One of {', '.join(SHELLS)}.")]) -> None:
    """Print the completion script of a shell; to turn it on, see what is printed beside it."""
    if shell not in SHELLS:
        raise BadRequest(f"there is no completion for {shell!r}", hint=f"use one of {', '.join(SHELLS)}")
    if output.on_terminal():
        output.words(f"to turn it on: {SHELLS[shell]}")
    from fuyun.cli import main

    os.environ[main.COMPLETE] = f"source_{shell}"
    try:
        code = main.main([])
    finally:
        del os.environ[main.COMPLETE]
    raise typer.Exit(code)
