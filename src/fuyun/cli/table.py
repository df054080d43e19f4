"""`fuyun table`: documents by key."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fuyun.cli import output
from fuyun.cli.session import JsonOption, NamespaceOption, YesOption, command, confirm, connect, noun, read_input
from fuyun.domain.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from fuyun.client.platform import Platform
    from fuyun.domain.tables import Condition, Document, Item

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Table.")]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="A number, or a text; '\"5\"' is the text.")]
SortArgument = Annotated[str, typer.Argument(metavar="[SORT]", help="Sort key, where the table has one.")]
IfOption = Annotated[
    str, typer.Option("--if", help='What must hold of the item: {"exists": false}, {"version": 3}, {"match": FILTER}.')
]
WhereOption = Annotated[str, typer.Option("--where", help='A filter over attributes: {"state": "open"}.')]
LimitOption = Annotated[int, typer.Option(min=1, max=100_000, help="Items at most.")]


def add(app: typer.Typer) -> None:
    """Register the noun."""
    table = noun("table", "Tables: documents by key, with indexes.")
    command(table, "create")(create)
    command(table, "list")(list_)
    command(table, "get")(get)
    command(table, "delete")(delete)
    command(table, "put")(put)
    command(table, "query")(query)
    command(table, "scan")(scan)
    item = noun("item", "One item of a table.")
    command(item, "get")(get_item)
    command(item, "update")(update_item)
    command(item, "delete")(delete_item)
    table.add_typer(item)
    app.add_typer(table)


def create(
    name: NameArgument,
    key: Annotated[str, typer.Option(help="Attribute that is the partition key.")] = "id",
    sort: Annotated[str, typer.Option(help="Attribute that is the sort key.")] = "",
    index: Annotated[list[str] | None, typer.Option(help="NAME=ATTRIBUTE[,ATTRIBUTE]; may be repeated.")] = None,
    ttl: Annotated[str, typer.Option(help="Attribute with the second (epoch) from which on an item is gone.")] = "",
    feed_retention: Annotated[str, typer.Option(help="How long changes are kept, such as 7d.")] = "1d",
    feed_partitions: Annotated[int, typer.Option(help="Partitions of the change feed.")] = 4,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    update: Annotated[bool, typer.Option("--update", help="Change one that is there.")] = False,
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Create a table. Its changes can be read as the stream table.NAME."""
    from fuyun.base.units import parse_duration
    from fuyun.domain.tables import TableSpec, check_table

    try:
        retention_s = parse_duration(feed_retention)
    except ValueError as exc:
        raise BadRequest(f"--feed-retention: {exc}") from exc
    spec = TableSpec(
        partition_key=key, sort_key=sort, indexes=tuple(map(_index, index or ())), ttl=ttl, description=description,
        feed_retention_s=retention_s, feed_partitions=feed_partitions,
    )  # fmt: skip
    check_table(name, spec)
    with connect(namespace) as platform:
        made = platform.put_table(name, spec, create=not update)
    if json:
        return output.as_json(made)
    output.words(f"{'changed' if update else 'created'} table {made.name}")


def _index(text: str) -> Any:
    from fuyun.domain.tables import Index

    name, equals, attributes = text.partition("=")
    first, _, second = attributes.partition(",")
    if not equals or not first:
        raise BadRequest(f"--index {text!r} is no index", hint="write NAME=ATTRIBUTE or NAME=ATTRIBUTE,ATTRIBUTE")
    return Index(name=name, partition_key=first, sort_key=second)


def list_(namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """List the namespace's tables."""
    from fuyun.base.units import format_size

    with connect(namespace) as platform:
        found = platform.list_tables()
    if json:
        return output.as_json(found)
    rows = [
        (one.name, ", ".join(filter(None, (one.spec.partition_key, one.spec.sort_key))), one.items,
         format_size(one.bytes), one.spec.description)
        for one in found
    ]  # fmt: skip
    columns = ("TABLE", "KEY", "ITEMS", "SIZE", "DESCRIPTION")
    output.table(columns, rows, empty="no tables; create one: fuyun table create NAME")


def get(name: NameArgument, namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """Show a table."""
    from fuyun.base.units import format_duration, format_size

    with connect(namespace) as platform:
        found = platform.get_table(name)
    if json:
        return output.as_json(found)
    spec = found.spec
    indexes = [f"{one.name}={one.partition_key}" + (f",{one.sort_key}" if one.sort_key else "") for one in spec.indexes]
    output.pairs(
        [
            ("table", f"{found.namespace}/{found.name}"), ("description", spec.description),
            ("key", spec.partition_key), ("sort key", spec.sort_key), ("indexes", " ".join(indexes)),
            ("ttl", spec.ttl), ("items", str(found.items)), ("size", format_size(found.bytes)),
            ("feed", f"table.{found.name}, {spec.feed_partitions} partitions, kept "
             + (format_duration(spec.feed_retention_s) if spec.feed_retention_s else "for ever")),
            ("created", output.when(found.created_s)),
        ]
    )  # fmt: skip


def delete(name: NameArgument, namespace: NamespaceOption = "", yes: YesOption = False) -> None:
    """Delete a table with its items and its change feed."""
    with connect(namespace) as platform:
        confirm(f"Delete table {name} of namespace {platform.namespace} with its items?", yes)
        platform.delete_table(name)
    output.words(f"deleted table {name}")


def put(
    name: NameArgument,
    item: Annotated[str, typer.Argument(metavar="ITEM|@FILE|-", help="A JSON object, or a list of them.")],
    condition: IfOption = "",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Put items whole; up to 25 of a list are one transaction."""
    from fuyun.domain.tables import MOST_CHANGES, Change

    found = _json(read_input(item, "item"), "item")
    items = found if isinstance(found, list) else [found]
    if not all(isinstance(one, dict) for one in items):
        raise BadRequest("an item is a JSON object", hint='write it like {"id": "a", "n": 1}')
    needed = _condition(condition)
    made = []
    with connect(namespace) as platform:
        for start in range(0, len(items), MOST_CHANGES):
            some = items[start : start + MOST_CHANGES]
            made += platform.write_items(name, [Change(put=one, condition=needed) for one in some])
    if json:
        return output.as_json(made)
    output.words(f"put {len(made)} {'item' if len(made) == 1 else 'items'}")


def query(
    name: NameArgument,
    key: KeyArgument,
    index: Annotated[str, typer.Option(help="By this index instead of the table's own key.")] = "",
    prefix: Annotated[str, typer.Option(help="Sort keys that begin so.")] = "",
    lower: Annotated[str, typer.Option("--from", help="Sort keys from this one on.")] = "",
    upper: Annotated[str, typer.Option("--to", help="Sort keys up to this one.")] = "",
    descending: Annotated[bool, typer.Option("--descending", help="The last one first.")] = False,
    where: WhereOption = "",
    limit: LimitOption = 100,
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Print the items of one partition key, in the order of their sort keys."""
    from fuyun.domain.tables import Query

    asked = Query(
        index=index, partition=_key(key), prefix=prefix or None, lower=_key(lower) if lower else None,
        upper=_key(upper) if upper else None, descending=descending, limit=min(limit, 1000),
    )  # fmt: skip
    with connect(namespace) as platform:
        _print(list(itertools.islice(platform.query_items(name, asked, _filter(where)), limit)), json)


def scan(
    name: NameArgument,
    index: Annotated[str, typer.Option(help="In the order of this index.")] = "",
    where: WhereOption = "",
    limit: LimitOption = 100,
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Print items of the whole table, in the order of their keys."""
    from fuyun.domain.tables import Query

    asked = Query(index=index, limit=min(limit, 1000))
    with connect(namespace) as platform:
        _print(list(itertools.islice(platform.query_items(name, asked, _filter(where)), limit)), json)


def get_item(
    name: NameArgument, key: KeyArgument, sort: SortArgument = "", namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Print one item; with --json also its version."""
    with connect(namespace) as platform:
        [found] = platform.find_items(name, [_document(platform, name, key, sort)])
    if found is None:
        raise NotFound(f"table {name!r} has no such item", hint=f"look: fuyun table scan {name}")
    if json:
        return output.as_json(found)
    _print([found], False)


def update_item(
    name: NameArgument,
    key: KeyArgument,
    sort: SortArgument = "",
    set_: Annotated[list[str] | None, typer.Option("--set", help="ATTRIBUTE=JSON or TEXT; may be repeated.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", help="Attribute; may be repeated.")] = None,
    add: Annotated[list[str] | None, typer.Option("--add", help="ATTRIBUTE=NUMBER; may be repeated.")] = None,
    condition: IfOption = "",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Set, remove and add to attributes of one item; makes it where there is none."""
    from fuyun.domain.tables import Change

    setting = dict(_assigned(text, "--set") for text in set_ or ())
    adding = dict(_assigned(text, "--add") for text in add or ())
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in adding.values()):
        raise BadRequest("--add takes numbers", hint="write --add visits=1")
    with connect(namespace) as platform:
        change = Change(
            update=_document(platform, name, key, sort), set=setting, remove=tuple(remove or ()), add=adding,
            condition=_condition(condition),
        )  # fmt: skip
        [made] = platform.write_items(name, [change])
    if json:
        return output.as_json(made)
    output.data(_text(made.item))


def delete_item(
    name: NameArgument, key: KeyArgument, sort: SortArgument = "", condition: IfOption = "",
    namespace: NamespaceOption = "", json: JsonOption = False,
) -> None:  # fmt: skip
    """Delete one item."""
    with connect(namespace) as platform:
        made = platform.delete_item(name, _document(platform, name, key, sort), _condition(condition))
    if json:
        return output.as_json(made)
    output.words("deleted" if made.kind == "delete" else "there was no such item")


def _document(platform: Platform, name: str, key: str, sort: str) -> Document:
    """A key by the attributes that the table's has."""
    spec = platform.get_table(name).spec
    if bool(spec.sort_key) != bool(sort):
        names = " ".join(filter(None, (spec.partition_key, spec.sort_key)))
        raise BadRequest(f"the key of table {name!r} is {names}", hint=f"give {names.count(' ') + 1} values")
    return {spec.partition_key: _key(key)} | ({spec.sort_key: _key(sort)} if sort else {})


def _key(text: str) -> Any:
    """A number or a quoted text as JSON has it, else the text itself."""
    import msgspec

    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return found if isinstance(found, (int, float, str)) and not isinstance(found, bool) else text


def _assigned(text: str, option: str) -> tuple[str, Any]:
    import msgspec

    name, equals, value = text.partition("=")
    if not name or not equals:
        raise BadRequest(f"{option} {text!r} names no attribute", hint=f"write {option} ATTRIBUTE=VALUE")
    try:
        return name, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return name, value


def _json(text: bytes, what: str) -> Any:
    import msgspec

    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BadRequest(f"{what} is no JSON: {exc}", hint='write it like {"id": "a"}') from exc


def _filter(text: str) -> Any:
    return _json(text.encode(), "--where") if text else None


def _condition(text: str) -> Condition | None:
    import msgspec

    from fuyun.domain.tables import Condition

    if not text:
        return None
    try:
        return msgspec.convert(_json(text.encode(), "--if"), Condition)
    except msgspec.ValidationError as exc:
        raise BadRequest(f"--if: {exc}", hint='write {"exists": false}, {"version": 3} or {"match": {...}}') from exc


def _print(items: list[Item], json: bool) -> None:
    if json:
        return output.as_json(items)
    for one in items:
        output.data(output.harmless(_text(one.item)))
    if not items:
        output.words("no items")


def _text(item: Any) -> str:
    import msgspec

    return msgspec.json.encode(item).decode()
