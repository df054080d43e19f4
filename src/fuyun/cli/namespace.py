"""`fuyun namespace`: tenants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fuyun.cli import output
from fuyun.cli.session import JsonOption, YesOption, command, confirm, connect, noun
from fuyun.domain.errors import BadRequest

if TYPE_CHECKING:
    from fuyun.domain.tenants import Quotas

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
    queues: Annotated[int | None, typer.Option(help="Queues at most.")] = None,
    messages: Annotated[int | None, typer.Option(help="Messages in all queues together.")] = None,
    message_size: Annotated[str, typer.Option(help="Size of those messages together, such as 4GiB.")] = "",
    topics: Annotated[int | None, typer.Option(help="Topics at most.")] = None,
    deliveries: Annotated[int | None, typer.Option(help="Asynchronous invocations and events that wait.")] = None,
    json: JsonOption = False,
) -> None:
    """Show a namespace's quotas, or change those given."""
    import msgspec

    from fuyun.base.units import parse_size

    changes: dict[str, int] = {
        key: value
        for key, value in (
            ("functions", functions),
            ("concurrency", concurrency),
            ("instances", instances),
            ("queues", queues),
            ("queue_messages", messages),
            ("topics", topics),
            ("deliveries", deliveries),
        )
        if value is not None
    }
    try:
        if memory:
            changes["memory_bytes"] = parse_size(memory)
        if storage:
            changes["storage_bytes"] = parse_size(storage)
        if message_size:
            changes["queue_bytes"] = parse_size(message_size)
    except ValueError as exc:
        raise BadRequest(str(exc)) from exc
    with connect() as platform:
        found = platform.get_namespace(name)
        if changes:
            found = platform.set_quotas(name, msgspec.structs.replace(found.quotas, **changes))
    if json:
        return output.as_json(found)
    _show(found.quotas)


def _show(quotas: Quotas) -> None:
    from fuyun.base.units import format_size

    output.pairs(
        [
            ("functions", str(quotas.functions)),
            ("concurrency", str(quotas.concurrency)),
            ("instances", str(quotas.instances)),
            ("memory", format_size(quotas.memory_bytes)),
            ("storage", format_size(quotas.storage_bytes)),
            ("queues", str(quotas.queues)),
            ("messages", str(quotas.queue_messages)),
            ("message size", format_size(quotas.queue_bytes)),
            ("topics", str(quotas.topics)),
            ("deliveries", str(quotas.deliveries)),
        ]
    )


def delete(name: NameArgument, yes: YesOption = False) -> None:
    """Delete an empty namespace with its keys and secrets."""
    with connect() as platform:
        platform.get_namespace(name)
        confirm(f"Delete namespace {name} with its keys and secrets?", yes)
        platform.delete_namespace(name)
    output.words(f"deleted namespace {name}")
