"""`fuyun bus`: events routed by rules, remembered and replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fuyun.cli import output
from fuyun.cli.session import JsonOption, NamespaceOption, YesOption, command, confirm, connect, noun, read_input
from fuyun.domain.errors import BadRequest

if TYPE_CHECKING:
    from fuyun.domain.bus import Replay
    from fuyun.domain.events import Event

BusArgument = Annotated[str, typer.Argument(metavar="BUS", help="Bus.")]
RuleArgument = Annotated[str, typer.Argument(metavar="RULE", help="Rule.")]
ArchiveOption = Annotated[str, typer.Option("--archive", help="How long it remembers events, as 7d; 0 not at all.")]
DescriptionOption = Annotated[str, typer.Option(help="What it is for.")]
FilterOption = Annotated[str, typer.Option("--filter", help="JSON or YAML of a filter, or @FILE; default: all.")]
SinceOption = Annotated[str, typer.Option(help="From when: a time as 2026-05-04T12:00:00Z, or how long ago, as 2h.")]
UntilOption = Annotated[str, typer.Option(help="Up to when, likewise; default: now.")]


def add(app: typer.Typer) -> None:
    """Register the noun."""
    bus = noun("bus", "Events routed by rules, remembered and replayed.")
    command(bus, "create")(create)
    command(bus, "set")(set_)
    command(bus, "list")(list_)
    command(bus, "get")(get)
    command(bus, "delete")(delete)
    command(bus, "publish")(publish)
    command(bus, "rule")(rule)
    command(bus, "rules")(rules)
    command(bus, "delete-rule")(delete_rule)
    command(bus, "types")(types)
    command(bus, "archive")(archive)
    command(bus, "replay")(replay)
    command(bus, "replays")(replays)
    command(bus, "stop-replay")(stop_replay)
    app.add_typer(bus)


def create(
    name: BusArgument,
    archive: ArchiveOption = "0",
    description: DescriptionOption = "",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Create a bus."""
    _put(name, archive, description, namespace, json, new=True)


def set_(
    name: BusArgument,
    archive: ArchiveOption = "0",
    description: DescriptionOption = "",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Change a bus; what is left out becomes its default again. A shorter archive forgets what is older."""
    _put(name, archive, description, namespace, json, new=False)


def _put(name: str, archive: str, description: str, namespace: str, json: bool, *, new: bool) -> None:
    with connect(namespace) as platform:
        if not new:
            platform.get_bus(name)
        made = platform.put_bus(name, _duration(archive, "--archive"), description, new=new)
    if json:
        return output.as_json(made)
    output.data(made.name)


def list_(namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """List the namespace's buses."""
    from fuyun.base.units import format_duration

    with connect(namespace) as platform:
        found = platform.list_buses()
    if json:
        return output.as_json(found)
    rows = [
        (
            one.name,
            format_duration(one.archive_s) if one.archive_s else "-",
            output.when(one.created_s),
            one.description,
        )
        for one in found
    ]
    output.table(("BUS", "ARCHIVE", "CREATED", "DESCRIPTION"), rows, empty="no buses; make one: fuyun bus create NAME")


def get(name: BusArgument, namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """Show a bus."""
    from fuyun.base.units import format_duration

    with connect(namespace) as platform:
        found = platform.get_bus(name)
    if json:
        return output.as_json(found)
    archived = format_duration(found.archive_s) if found.archive_s else "nothing"
    output.pairs([("bus", f"{found.namespace}/{found.name}"), ("description", found.description),
                  ("remembers", archived), ("created", output.when(found.created_s))])  # fmt: skip


def delete(name: BusArgument, namespace: NamespaceOption = "", yes: YesOption = False) -> None:
    """Delete a bus with its rules and its archive."""
    with connect(namespace) as platform:
        confirm(f"Delete bus {name} of namespace {platform.namespace}, its rules and its archive?", yes)
        platform.delete_bus(name)
    output.words(f"deleted {name}")


def publish(
    name: BusArgument,
    type_: Annotated[str, typer.Option("--type", "-t", help="Type of the event, such as order.created.")] = "",
    data: Annotated[str, typer.Option("--data", "-d", help="JSON, @FILE, or - for stdin.")] = "",
    source: Annotated[str, typer.Option(help="Source of the event.")] = "/cli",
    subject: Annotated[str, typer.Option(help="Subject of the event.")] = "",
    event: Annotated[
        str, typer.Option("--event", help="Whole CloudEvents as JSON, one or an array: text, @FILE, or - for stdin.")
    ] = "",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Publish an event, or several: they are on disk when this returns. Prints their ids."""
    from fuyun.base.ids import new_id

    if bool(type_) == bool(event):
        raise BadRequest("neither --type nor --event" if not event else "--type and --event", hint="give one of them")
    if event:
        body = read_input(event, "--event")
        batch = body.lstrip()[:1] == b"["
        headers = {"content-type": "application/cloudevents-batch+json" if batch else "application/cloudevents+json"}
    else:
        body = read_input(data, "--data") if data else b""
        headers = {"ce-specversion": "1.0", "ce-id": new_id(), "ce-source": source, "ce-type": type_}
        headers |= {"ce-subject": subject} if subject else {}
        headers = {name: _header(value) for name, value in headers.items()} | {"content-type": "application/json"}
    with connect(namespace) as platform:
        ids = platform.publish_event(name, body, headers)
    if json:
        return output.as_json({"ids": ids})
    for id_ in ids:
        output.data(id_)


def rule(
    name: BusArgument,
    rule: RuleArgument,
    target: Annotated[str, typer.Option("--to", help="KIND:NAME; a function, queue, topic, bus or stream.")],
    filter_: FilterOption = "",
    transform: Annotated[str, typer.Option(help="JSON or YAML of values and a template, or @FILE.")] = "",
    disabled: Annotated[bool, typer.Option("--disabled", help="Keep it, but let it take nothing.")] = False,
    description: DescriptionOption = "",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Create or replace a rule: which events go where, and as what."""
    wanted: dict[str, Any] = {"target": target, "enabled": not disabled, "description": description}
    if filter_:
        wanted["filter"] = _mapping(filter_, "--filter")
    if transform:
        wanted["transform"] = _mapping(transform, "--transform")
    with connect(namespace) as platform:
        made = platform.put_rule(name, rule, wanted)
    if json:
        return output.as_json(made)
    output.data(made.name)


def rules(name: BusArgument, namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """List the rules of a bus."""
    import msgspec

    with connect(namespace) as platform:
        found = platform.list_rules(name)
    if json:
        return output.as_json(found)
    rows = [
        (one.name, one.target, "yes" if one.enabled else "no", msgspec.json.encode(one.filter).decode(),
         "yes" if one.transform else "no", one.description)
        for one in found
    ]  # fmt: skip
    output.table(("RULE", "TO", "ENABLED", "FILTER", "TRANSFORM", "DESCRIPTION"), rows,
                 empty=f"no rules; make one: fuyun bus rule {name} RULE --to TARGET")  # fmt: skip


def delete_rule(name: BusArgument, rule: RuleArgument, namespace: NamespaceOption = "", yes: YesOption = False) -> None:
    """Delete a rule."""
    with connect(namespace) as platform:
        confirm(f"Delete rule {rule} of bus {name} of namespace {platform.namespace}?", yes)
        platform.delete_rule(name, rule)
    output.words(f"deleted {name}/{rule}")


def types(name: BusArgument, namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """List the types of events that a bus has seen, each with the last event as a sample."""
    with connect(namespace) as platform:
        found = platform.list_types(name)
    if json:
        return output.as_json([_with_events(one) for one in found])
    rows = [
        (one.type, one.count, output.when(one.first_s), output.when(one.last_s), _shown(one.sample)) for one in found
    ]
    output.table(("TYPE", "COUNT", "FIRST", "LAST", "SAMPLE"), rows, empty="no events were published here yet")


def archive(
    name: BusArgument,
    since: SinceOption = "1h",
    until: UntilOption = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Events at most.")] = 100,
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """List events that a bus remembers, in the order of their arrival."""
    with connect(namespace) as platform:
        found = platform.list_archive(name, _moment(since, "--since"), _moment(until or "0s", "--until"), limit)
    if json:
        return output.as_json([_with_events(one) for one in found])
    rows = [(one.number, output.when(one.at_s), one.event.type, one.event.id, _shown(one.event)) for one in found]
    output.table(("NUMBER", "ARRIVED", "TYPE", "ID", "DATA"), rows, empty="nothing is remembered of that time")


def replay(
    name: BusArgument,
    since: SinceOption,
    until: UntilOption = "",
    target: Annotated[str, typer.Option("--to", help="Target; default: the bus's rules again.")] = "",
    filter_: FilterOption = "",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Hand on a stretch of the archive again. It goes on in the background; `fuyun bus replays` shows how far it is."""
    wanted = _mapping(filter_, "--filter") if filter_ else {}
    with connect(namespace) as platform:
        made = platform.begin_replay(name, _moment(since, "--since"), _moment(until or "0s", "--until"), target, wanted)
    if json:
        return output.as_json(made)
    output.data(made.id)


def replays(name: BusArgument, namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """List replays, newest first."""
    with connect(namespace) as platform:
        found = platform.list_replays(name)
    if json:
        return output.as_json(found)
    _table(found)


def stop_replay(
    name: BusArgument,
    replay: Annotated[str, typer.Argument(metavar="ID", help="Replay.")],
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Stop a replay."""
    with connect(namespace) as platform:
        found = platform.stop_replay(name, replay)
    if json:
        return output.as_json(found)
    output.words(f"stopped after {found.sent} events")


def _table(found: list[Replay]) -> None:
    rows = [
        (
            one.id,
            one.state,
            one.sent,
            output.when(one.since_s),
            output.when(one.until_s),
            one.target or "rules",
            one.error,
        )
        for one in found
    ]
    output.table(("REPLAY", "STATE", "SENT", "FROM", "TO", "TARGET", "ERROR"), rows, empty="no replays")


def _duration(text: str, what: str) -> float:
    from fuyun.base.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as exc:
        raise BadRequest(f"{what}: {exc}") from exc


def _moment(text: str, what: str) -> float:
    """Wall-clock seconds of a time as ISO 8601, or of how long ago."""
    from datetime import datetime

    from fuyun.base import clock

    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        pass
    try:
        return max(0.0, clock.wall_s() - _duration(text, what))
    except BadRequest:
        raise BadRequest(
            f"{what}: {text!r} is neither a time nor a duration",
            hint="write 2026-05-04T12:00:00Z, or 2h for two hours ago",
        ) from None


def _mapping(text: str, what: str) -> dict[str, Any]:
    """A mapping of JSON or YAML."""
    import yaml

    read = read_input(text, what)
    try:
        found = yaml.safe_load(read)
    except yaml.YAMLError as exc:
        raise BadRequest(f"{what} is neither JSON nor YAML: {exc}", hint="put it into a file: @FILE") from exc
    if not isinstance(found, dict):
        raise BadRequest(
            f"{what} is {str(found)[:80]!r}, not a mapping", hint="write for example {type: order.created}"
        )
    return found


def _header(value: str) -> str:
    """An attribute as the HTTP binding of CloudEvents puts it into a header (section 3.1.3.2)."""
    from urllib.parse import quote

    return quote(value, safe="!#$&'()*+,-./:;<=>?@[]^_`{|}~")


def _shown(event: Event) -> str:
    """The beginning of an event's data."""
    text = event.data[:120].decode("utf-8", "replace")
    return text if len(event.data) <= 120 else text + " …"


def _with_events(found: Any) -> dict[str, Any]:
    """Its fields, with events in CloudEvents' JSON format."""
    import msgspec

    from fuyun.domain.events import Event, structured

    return {
        name: msgspec.json.decode(structured(value)) if isinstance(value, Event) else value
        for name, value in msgspec.structs.asdict(found).items()
    }
