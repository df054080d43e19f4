"""`fuyun namespace`: tenants."""

from __future__ import annotations

from typing import Annotated

import typer

from fuyun.cli import output
from fuyun.cli.session import JsonOption, YesOption, command, confirm, connect, noun
from fuyun.domain.errors import BadRequest

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Namespace.")]


def add(app: typer.Typer) -> None:
    """Register the noun."""
    namespace = noun("namespace", "Namespaces: tenants with their own names, keys and quotas.")
    command(namespace, "create")(create)
    command(namespace, "list")(list_)
    command(namespace, "quota")(quota)
    command(namespace, "delete")(delete)
    app.add_typer(namespace)


def create(name: NameArgument, json: JsonOption = False) -> None:
    """Create a namespace."""
    with connect() as platform:
        made = platform.create_namespace(name)
    if json:
        return output.as_json(made)
    output.words(f"created namespace {made.name}; make a key for it: fuyun key create -n {made.name}")


def list_(json: JsonOption = False) -> None:
    """List the namespaces this key may see."""
    from fuyun.base.units import format_size

    with connect() as platform:
        found = platform.list_namespaces()
    if json:
        return output.as_json(found)
    rows = [
        (n.name, n.quotas.functions, n.quotas.concurrency, n.quotas.instances, format_size(n.quotas.memory_bytes),
         format_size(n.quotas.storage_bytes), output.when(n.created_s))
        for n in found
    ]  # fmt: skip
    output.table(("NAME", "FUNCTIONS", "CONCURRENCY", "INSTANCES", "MEMORY", "STORAGE", "CREATED"), rows)


def quota(
    name: NameArgument,
    functions: Annotated[int | None, typer.Option(help="Functions at most.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Requests inside functions at once.")] = None,
    instances: Annotated[int | None, typer.Option(help="Instances at once.")] = None,
    memory: Annotated[str, typer.Option(help="Memory limits of running instances together, such as 8GiB.")] = "",
    storage: Annotated[str, typer.Option(help="Code and layers, such as 10GiB.")] = "",
    buckets: Annotated[int | None, typer.Option(help="Buckets at most.")] = None,
    objects: Annotated[str, typer.Option(help="What buckets hold, such as 100GiB.")] = "",
    json: JsonOption = False,
) -> None:
    """Show a namespace's quotas, or change those given."""
    import msgspec

    from fuyun.base.units import format_size, parse_size

    numbers = {"functions": functions, "concurrency": concurrency, "instances": instances, "buckets": buckets}
    sizes = {"memory_bytes": memory, "storage_bytes": storage, "object_bytes": objects}
    changes: dict[str, int] = {name: value for name, value in numbers.items() if value is not None}
    try:
        changes |= {name: parse_size(text) for name, text in sizes.items() if text}
    except ValueError as exc:
        raise BadRequest(str(exc)) from exc
    with connect() as platform:
        found = platform.get_namespace(name)
        if changes:
            found = platform.set_quotas(name, msgspec.structs.replace(found.quotas, **changes))
    if json:
        return output.as_json(found)
    quotas = found.quotas
    output.pairs(
        [
            ("functions", str(quotas.functions)),
            ("concurrency", str(quotas.concurrency)),
            ("instances", str(quotas.instances)),
            ("memory", format_size(quotas.memory_bytes)),
            ("storage", format_size(quotas.storage_bytes)),
            ("buckets", str(quotas.buckets)),
            ("objects", format_size(quotas.object_bytes)),
        ]
    )


def delete(name: NameArgument, yes: YesOption = False) -> None:
    """Delete an empty namespace with its keys and secrets."""
    with connect() as platform:
        platform.get_namespace(name)
        confirm(f"Delete namespace {name} with its keys and secrets?", yes)
        platform.delete_namespace(name)
    output.words(f"deleted namespace {name}")
