"""`fuyun secret`: values that functions get as environment variables and nobody reads back."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fuyun.cli import output
from fuyun.cli.session import JsonOption, NamespaceOption, command, connect, noun, read_input
from fuyun.domain.errors import BadRequest

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Secret.")]


def add(app: typer.Typer) -> None:
    """Register the noun."""
    secret = noun("secret", "Secrets of the namespace, sealed at rest.")
    command(secret, "set")(set_)
    command(secret, "list")(list_)
    command(secret, "delete")(delete)
    app.add_typer(secret)


def set_(
    name: NameArgument,
    value: Annotated[
        str, typer.Argument(metavar="[@FILE|-]", help="Where the value is; default: asked for, or stdin.")
    ] = "",
    namespace: NamespaceOption = "",
) -> None:
    """Create or replace a secret. The value is asked for, or read from stdin or a file, never from the command line."""
    if value and value != "-" and not value.startswith("@"):
        raise BadRequest(
            "a secret on the command line would stay in the shell's history",
            hint=f"type it when asked (fuyun secret set {name}), pipe it in, or name a file: @{name}.txt",
        )
    if not value and sys.stdin.isatty():
        import getpass

        text = getpass.getpass(f"value of {name}: ", stream=sys.stderr)
    else:
        try:
            text = read_input(value or "-", "secret").decode()
        except UnicodeDecodeError as exc:
            raise BadRequest(
                f"the value is not UTF-8: byte {exc.start}", hint="encode binary values, as with base64"
            ) from exc
        text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise BadRequest("the value is empty", hint=f"delete it with: fuyun secret delete {name}")
    with connect(namespace) as platform:
        platform.put_secret(name, text)
    output.words(f"set {name}; functions see it from their next instance on")


def list_(namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """List the names of the namespace's secrets."""
    with connect(namespace) as platform:
        found = platform.list_secrets()
    if json:
        return output.as_json(found)
    output.table(("NAME",), [(name,) for name in found], empty="no secrets")


def delete(name: NameArgument, namespace: NamespaceOption = "") -> None:
    """Delete a secret."""
    with connect(namespace) as platform:
        platform.delete_secret(name)
    output.words(f"deleted {name}")
