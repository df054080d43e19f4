"""`fuyun stream`: ordered records that many read at their own pace."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from fuyun.cli import output
from fuyun.cli.session import JsonOption, NamespaceOption, YesOption, command, confirm, connect, noun, read_input
from fuyun.domain.errors import BadRequest

if TYPE_CHECKING:
    from fuyun.domain.streams import NewRecord, RecordView

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Stream.")]
GroupArgument = Annotated[str, typer.Argument(metavar="GROUP", help="Group of readers.")]
FromOption = Annotated[
    str, typer.Option("--from", help="start, end, an offset, or time:SECONDS or time:2026-01-31T07:30:00Z.")
]


def add(app: typer.Typer) -> None:
    """Register the noun."""
    stream = noun("stream", "Streams: ordered records that many read at their own pace.")
    command(stream, "create")(create)
    command(stream, "list")(list_)
    command(stream, "get")(get)
    command(stream, "delete")(delete)
    command(stream, "append")(append)
    command(stream, "read")(read)
    command(stream, "tail")(tail)
    command(stream, "groups")(groups)
    command(stream, "reset")(reset)
    app.add_typer(stream)


def create(
    name: NameArgument,
    partitions: Annotated[int, typer.Option(help="Records of one key are in one of them.")] = 1,
    retention: Annotated[str, typer.Option(help="How long records are kept, such as 7d; 0 for ever.")] = "7d",
    retention_size: Annotated[str, typer.Option(help="What each partition keeps at most, such as 1GiB.")] = "",
    versioned: Annotated[bool, typer.Option("--versioned", help="Number the records of each key, from 1.")] = False,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    update: Annotated[bool, typer.Option("--update", help="Change the retention of one that is there.")] = False,
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Create a stream."""
    from fuyun.base.units import parse_duration, parse_size
    from fuyun.domain.streams import StreamSpec, check_stream

    try:
        spec = StreamSpec(
            partitions=partitions, retention_s=parse_duration(retention), versioned=versioned, description=description,
            retention_bytes=parse_size(retention_size) if retention_size else 0,
        )  # fmt: skip
    except ValueError as exc:
        raise BadRequest(str(exc)) from exc
    check_stream(name, spec)
    with connect(namespace) as platform:
        made = platform.put_stream(name, spec, create=not update)
    if json:
        return output.as_json(made)
    output.words(f"{'changed' if update else 'created'} stream {made.name}")


def list_(namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """List the namespace's streams. Those called table.NAME are change feeds of tables."""
    from fuyun.base.units import format_duration, format_size

    with connect(namespace) as platform:
        found = platform.list_streams()
    if json:
        return output.as_json(found)
    rows = [
        (one.name, one.spec.partitions, format_size(one.bytes),
         format_duration(one.spec.retention_s) if one.spec.retention_s else "for ever", one.spec.description)
        for one in found
    ]  # fmt: skip
    output.table(
        ("STREAM", "PARTITIONS", "SIZE", "KEPT", "DESCRIPTION"), rows,
        empty="no streams; create one: fuyun stream create NAME",
    )  # fmt: skip


def get(name: NameArgument, namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """Show a stream's partitions: the offsets they keep, and when the newest record came."""
    from fuyun.base.units import format_size

    with connect(namespace) as platform:
        found = platform.get_stream(name)
    if json:
        return output.as_json(found)
    rows = [
        (one.number, one.start, one.end, format_size(one.bytes), output.when(one.last_s)) for one in found.partitions
    ]
    output.table(("PARTITION", "START", "END", "SIZE", "NEWEST"), rows)


def delete(name: NameArgument, namespace: NamespaceOption = "", yes: YesOption = False) -> None:
    """Delete a stream with its records and groups."""
    with connect(namespace) as platform:
        confirm(f"Delete stream {name} of namespace {platform.namespace} with its records?", yes)
        platform.delete_stream(name)
    output.words(f"deleted stream {name}")


def append(
    name: NameArgument,
    data: Annotated[
        list[str] | None, typer.Argument(metavar="[DATA|@FILE|-]...", help="JSON or text, a record each; - is stdin.")
    ] = None,
    key: Annotated[str, typer.Option(help="Records of one key stay in order.")] = "",
    expected: Annotated[int | None, typer.Option(help="Version the key must be at (versioned streams).")] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Each line is a record.")] = False,
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Append records. Prints PARTITION:OFFSET of each."""
    texts = [read_input(text, "record") for text in data or ["-"]]
    if lines:
        texts = [line for text in texts for line in text.splitlines() if line.strip()]
    if not texts:
        raise BadRequest("there is nothing to append", hint="give DATA, @FILE or - for stdin")
    records = [_record(text, key, expected if place == 0 else None) for place, text in enumerate(texts)]
    made = []
    with connect(namespace) as platform:
        for start in range(0, len(records), 500):
            made += platform.append(name, records[start : start + 500])
    if json:
        return output.as_json(made)
    for one in made:
        output.data(f"{one.partition}:{one.offset}")


def _record(text: bytes, key: str, expected: int | None) -> NewRecord:
    """JSON as it is; other text as a JSON string; what is no text in base64."""
    import base64

    import msgspec

    from fuyun.domain.streams import NewRecord

    try:
        return NewRecord(data=msgspec.json.decode(text), key=key, expected=expected)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return NewRecord(data=text.decode().removesuffix("\n"), key=key, expected=expected)
    except UnicodeDecodeError:
        return NewRecord(data_base64=base64.b64encode(text).decode(), key=key, expected=expected)


def read(
    name: NameArgument,
    partition: Annotated[int | None, typer.Option("--partition", "-p", help="Default: one after the other.")] = None,
    at: FromOption = "start",
    limit: Annotated[int, typer.Option(min=1, max=10000, help="Records at most.")] = 100,
    key: Annotated[str, typer.Option(help="Only this key, by version (versioned streams).")] = "",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Print records, oldest first."""
    with connect(namespace) as platform:
        if key:
            found = platform.read_key(name, key)[:limit]
        else:
            state = platform.get_stream(name)
            numbers = [one.number for one in state.partitions] if partition is None else [partition]
            found = []
            for number in numbers:
                place = at
                while len(found) < limit:
                    part = platform.read_stream(name, number, place, min(500, limit - len(found)))
                    found += part.records
                    place = str(part.next)
                    if not part.records:
                        break
    if json:
        return output.as_json(found)
    for record in found:
        output.data(_line(record))
    if not found:
        output.words("no records")


def tail(name: NameArgument, at: FromOption = "end", namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """Follow a stream: print records of all partitions as they come, until Ctrl-C. With --json: one object a line."""
    import msgspec

    with connect(namespace) as platform, closing(platform.tail_stream(name, at)) as records:
        for record in records:
            output.data(msgspec.json.encode(record).decode() if json else _line(record))
            sys.stdout.flush()


def _line(record: RecordView) -> str:
    from fuyun.client.streaming import data_of

    place = output.style(f"{record.partition}:{record.offset}", "dim")
    text = data_of(record).decode("utf-8", "backslashreplace")
    key = f"{record.key}@{record.version}" if record.version else record.key or "-"
    return f"{output.when(record.at_s)} {place} {output.harmless(key)} {output.harmless(text)}"


def groups(name: NameArgument, namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """Show who reads the stream and how far: lag in records, age of the next one in seconds."""
    with connect(namespace) as platform:
        found = platform.list_groups(name)
    if json:
        return output.as_json(found)
    rows = [
        (one.group, cursor.partition, cursor.offset, cursor.owner, output.when(cursor.committed_s), one.lag,
         f"{one.age_s:.1f}")
        for one in found
        for cursor in one.cursors
    ]  # fmt: skip
    columns = ("GROUP", "PARTITION", "OFFSET", "OWNER", "COMMITTED", "LAG", "AGE")
    output.table(columns, rows, empty="no group has read it")


def reset(
    name: NameArgument,
    group: GroupArgument,
    at: FromOption = "start",
    delete: Annotated[bool, typer.Option("--delete", help="Forget the group instead.")] = False,
    namespace: NamespaceOption = "",
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Put a group to a place in every partition: it reads again from there."""
    with connect(namespace) as platform:
        if delete:
            confirm(f"Forget how far group {group} has read stream {name}?", yes)
            platform.delete_group(name, group)
            return output.words(f"forgot group {group}")
        confirm(f"Put group {group} of stream {name} to {at}?", yes)
        found = platform.reset_group(name, group, at)
    if json:
        return output.as_json(found)
    output.table(("PARTITION", "OFFSET"), [(one.partition, one.offset) for one in found])
