"""`fuyun alias` and `fuyun rollback`: which versions a name means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fuyun.cli import output
from fuyun.cli.names import function_names
from fuyun.cli.session import JsonOption, NamespaceOption, command, connect, noun, split_name
from fuyun.domain.errors import BadRequest, Conflict

if TYPE_CHECKING:
    from fuyun.domain.functions import Alias, Weight

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Function.", autocompletion=function_names)]
AliasArgument = Annotated[str, typer.Argument(metavar="ALIAS", help="Alias.")]


def add(app: typer.Typer) -> None:
    """Register the noun and `rollback`."""
    alias = noun("alias", "Names for versions, also for several by weight.")
    command(alias, "set")(set_)
    command(alias, "list")(list_)
    command(alias, "delete")(delete)
    app.add_typer(alias)
    command(app, "rollback")(rollback)


def set_(
    name: NameArgument,
    alias: AliasArgument,
    versions: Annotated[
        list[str], typer.Argument(metavar="VERSION[=WEIGHT]...", help="Version, or several: 3=90 4=10.")
    ],
    sticky: Annotated[str, typer.Option(help="Header whose value pins a caller to one version.")] = "",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Create or move an alias. It moves only from the state it was read in."""
    weights = parse_weights(versions)
    with connect(namespace) as platform:
        known = {item.name: item.revision for item in platform.list_aliases(name)}
        moved = platform.set_alias(name, alias, weights, sticky, known.get(alias, 0))
    if json:
        return output.as_json(moved)
    output.words(f"{name}:{alias} now serves {shares(moved.weights)}")


def list_(name: NameArgument, namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """List a function's aliases."""
    with connect(namespace) as platform:
        found = platform.list_aliases(name)
    if json:
        return output.as_json(found)
    rows = [
        (a.name, shares(a.weights), shares(a.previous), a.sticky_header, a.revision, output.when(a.updated_s))
        for a in found
    ]
    output.table(("ALIAS", "SERVES", "BEFORE", "STICKY", "REVISION", "UPDATED"), rows, empty=f"{name} has no aliases")


def delete(name: NameArgument, alias: AliasArgument, namespace: NamespaceOption = "") -> None:
    """Delete an alias; the versions stay."""
    with connect(namespace) as platform:
        platform.delete_alias(name, alias)
    output.words(f"deleted {name}:{alias}")


def rollback(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME[:ALIAS]", help="Function; its alias when it has several.", autocompletion=function_names
        ),
    ],
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Point an alias back at what it served before."""
    function, qualifier = split_name(name)
    with connect(namespace) as platform:
        if not qualifier:
            qualifier = _only(function, platform.list_aliases(function))
        moved = platform.rollback(function, qualifier)
    if json:
        return output.as_json(moved)
    output.words(f"{function}:{qualifier} is back at {shares(moved.weights)}")


def parse_weights(texts: list[str]) -> list[Weight]:
    """`3`, or `3=90 4=10`; weights that are left out share what the others leave. BadRequest."""
    from fuyun.domain.functions import Weight
    from fuyun.domain.specs import check_weights

    given: list[tuple[int, float | None]] = []
    for text in texts:
        version, equals, weight = text.partition("=")
        try:
            number = 0 if version == "$LATEST" else int(version)
            given.append((number, float(weight.removesuffix("%")) if equals else None))
        except ValueError:
            raise BadRequest(f"{text!r} is not VERSION or VERSION=WEIGHT", hint="write 3, or 3=90 4=10") from None
    open_ = sum(weight is None for _, weight in given)
    left = 100 - sum(weight or 0 for _, weight in given)
    weights = [Weight(version=number, weight=left / open_ if weight is None else weight) for number, weight in given]
    return list(check_weights(tuple(weights)))


def shares(weights: tuple[Weight, ...]) -> str:
    """`3`, or `3=90% 4=10%`."""
    if len(weights) == 1:
        return str(weights[0].version or "$LATEST")
    return " ".join(f"{weight.version or '$LATEST'}={weight.weight:g}%" for weight in weights)


def _only(function: str, aliases: list[Alias]) -> str:
    if len(aliases) == 1:
        return aliases[0].name
    if not aliases:
        raise Conflict(
            f"{function} has no alias, so there is nothing to roll back",
            hint=f"make one: fuyun alias set {function} live 1",
        )
    names = ", ".join(f"{function}:{alias.name}" for alias in aliases)
    raise BadRequest(f"{function} has {len(aliases)} aliases", hint=f"name one: {names}")
