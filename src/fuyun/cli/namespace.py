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
    buses: Annotated[int | None, typer.Option(help="Buses at most.")] = None,
    streams: Annotated[int | None, typer.Option(help="Streams at most.")] = None,
    stream_size: Annotated[str, typer.Option(help="Size of records kept, with tables' feeds, such as 10GiB.")] = "",
    tables: Annotated[int | None, typer.Option(help="Tables at most.")] = None,
    table_size: Annotated[str, typer.Option(help="Size of all items together, such as 10GiB.")] = "",
    deliveries: Annotated[int | None, typer.Option(help="Asynchronous invocations and events that wait.")] = None,
    buckets: Annotated[int | None, typer.Option(help="Buckets at most.")] = None,
    objects: Annotated[str, typer.Option(help="What buckets hold, such as 100GiB.")] = "",
    json: JsonOption = False,
) -> None:
    """Show a namespace's quotas, or change those given."""
    import msgspec

    from fuyun.base.units import parse_size

    numbers = {
        "functions": functions, "concurrency": concurrency, "instances": instances, "queues": queues,
        "queue_messages": messages, "topics": topics, "streams": streams, "tables": tables, "deliveries": deliveries,
        "buckets": buckets, "buses": buses,
    }  # fmt: skip
    sizes = {
        "memory_bytes": memory, "storage_bytes": storage, "queue_bytes": message_size, "stream_bytes": stream_size,
        "table_bytes": table_size, "object_bytes": objects,
    }  # fmt: skip
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
            ("buses", str(quotas.buses)),
            ("streams", str(quotas.streams)),
            ("stream size", format_size(quotas.stream_bytes)),
            ("tables", str(quotas.tables)),
            ("table size", format_size(quotas.table_bytes)),
            ("deliveries", str(quotas.deliveries)),
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
