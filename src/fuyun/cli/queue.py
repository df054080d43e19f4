"""`fuyun queue`: messages that wait for somebody to take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fuyun.cli import exits, output
from fuyun.cli.session import JsonOption, NamespaceOption, YesOption, command, confirm, connect, noun, read_input

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fuyun.client.messaging import Delivered
    from fuyun.domain.queues import NewMessage

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Queue.")]
ReceiptsArgument = Annotated[list[str], typer.Argument(metavar="RECEIPT...", help="What `receive` gave with them.")]


def add(app: typer.Typer) -> None:
    """Register the noun."""
    queue = noun("queue", "Queues: messages that wait for somebody to take them.")
    command(queue, "create")(create)
    command(queue, "list")(list_)
    command(queue, "get")(get)
    command(queue, "delete")(delete)
    command(queue, "send")(send)
    command(queue, "receive")(receive)
    command(queue, "ack")(ack)
    command(queue, "extend")(extend)
    command(queue, "peek")(peek)
    command(queue, "purge")(purge)
    command(queue, "redrive")(redrive)
    app.add_typer(queue)


def create(
    name: NameArgument,
    fifo: Annotated[bool, typer.Option("--fifo", help="Keep the messages of a group in order.")] = False,
    visibility: Annotated[str, typer.Option(help="How long a receiver has a message, such as 30s.")] = "",
    delay: Annotated[str, typer.Option(help="How long a message waits before it may be received.")] = "",
    retention: Annotated[str, typer.Option(help="How long a message is kept, such as 4d.")] = "",
    message_size: Annotated[str, typer.Option(help="Largest message, such as 256KiB.")] = "",
    dead_letter: Annotated[str, typer.Option(help="Queue that takes what was received too often.")] = "",
    max_receives: Annotated[int, typer.Option(help="How often a message is given out before that.")] = 5,
    deduplication: Annotated[str, typer.Option(help="How long a deduplication id is taken once.")] = "",
    update: Annotated[bool, typer.Option("--update", help="Change the settings of one that is there.")] = False,
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Create a queue; with --update set the settings of one that is there."""
    from fuyun.base.units import parse_size
    from fuyun.domain.errors import BadRequest, Conflict, PreconditionFailed
    from fuyun.domain.queues import QueueSpec, check_queue

    default = QueueSpec()
    try:
        size = parse_size(message_size) if message_size else default.message_bytes
    except ValueError as exc:
        raise BadRequest(str(exc)) from exc
    spec = QueueSpec(
        fifo=fifo,
        visibility_s=_seconds(visibility, default.visibility_s),
        delay_s=_seconds(delay, default.delay_s),
        retention_s=_seconds(retention, default.retention_s),
        message_bytes=size,
        dead_letter=dead_letter,
        max_receives=max_receives,
        deduplication_s=_seconds(deduplication, default.deduplication_s),
    )
    check_queue(name, spec)
    with connect(namespace) as platform:
        try:
            made = platform.put_queue(name, spec, create=not update)
        except PreconditionFailed as exc:
            raise Conflict(f"queue {name!r} exists already", hint="pass --update to change its settings") from exc
    if json:
        return output.as_json(made)
    output.words(f"{'changed' if made.revision > 1 else 'created'} queue {made.name}")


def list_(namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """List the namespace's queues."""
    from fuyun.base.units import format_size

    with connect(namespace) as platform:
        found = platform.list_queues()
    if json:
        return output.as_json(found)
    rows = [
        (queue.name, "fifo" if queue.spec.fifo else "standard", queue.messages, format_size(queue.bytes),
         queue.spec.dead_letter, output.when(queue.created_s))
        for queue in found
    ]  # fmt: skip
    columns = ("NAME", "KIND", "MESSAGES", "SIZE", "DEAD LETTER", "CREATED")
    output.table(columns, rows, empty="no queues; create one: fuyun queue create NAME")


def get(name: NameArgument, namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """Show a queue: what its messages wait for, and its settings."""
    from fuyun.base.units import format_duration, format_size

    with connect(namespace) as platform:
        queue, statistics = platform.get_queue(name)
    if json:
        return output.as_json({"queue": queue, "statistics": statistics})
    spec = queue.spec
    output.pairs(
        [
            ("name", queue.name),
            ("kind", "fifo" if spec.fifo else "standard"),
            ("ready", str(statistics.ready)),
            ("in flight", str(statistics.in_flight)),
            ("delayed", str(statistics.delayed)),
            ("blocked", str(statistics.blocked) if spec.fifo else ""),
            ("oldest", format_duration(round(statistics.oldest_s, 1)) if statistics.oldest_s else ""),
            ("size", format_size(queue.bytes)),
            ("visibility", format_duration(spec.visibility_s)),
            ("delay", format_duration(spec.delay_s) if spec.delay_s else ""),
            ("retention", format_duration(spec.retention_s)),
            ("largest message", format_size(spec.message_bytes)),
            ("dead letter", f"{spec.dead_letter} after {spec.max_receives} receives" if spec.dead_letter else ""),
            ("created", output.when(queue.created_s)),
        ]
    )


def delete(name: NameArgument, yes: YesOption = False, namespace: NamespaceOption = "") -> None:
    """Delete a queue with its messages."""
    with connect(namespace) as platform:
        queue, _ = platform.get_queue(name)
        confirm(f"Delete queue {name} with {queue.messages} messages?", yes)
        platform.delete_queue(name)
    output.words(f"deleted queue {name}")


def send(
    name: NameArgument,
    body: Annotated[
        list[str], typer.Argument(metavar="BODY...", help="Messages: JSON or text, @FILE, or - for stdin.")
    ],
    attribute: Annotated[list[str], typer.Option("--attribute", "-a", help="NAME=VALUE; may be repeated.")] = [],  # noqa: B006
    group: Annotated[str, typer.Option(help="Group, for a queue with order.")] = "",
    deduplication: Annotated[str, typer.Option(help="Deduplication id; of one message.")] = "",
    delay: Annotated[str, typer.Option(help="How long they wait before they may be received.")] = "",
    content_type: Annotated[str, typer.Option(help="Of bodies that are not JSON.")] = "",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Send messages, all or none. They are on disk when this ends."""
    from msgspec.structs import replace

    delay_s = _seconds(delay, 0.0) if delay else None
    messages = [
        replace(message, group=group, deduplication=deduplication, delay_s=delay_s)
        for message in new_messages(body, attribute, content_type)
    ]
    with connect(namespace) as platform:
        sent = platform.send_messages(name, messages)
    if json:
        return output.as_json(sent)
    for one in sent:
        output.data(f"{one.id} duplicate" if one.duplicate else one.id)


def new_messages(bodies: Sequence[str], attributes: Sequence[str], content_type: str) -> list[NewMessage]:
    """Messages of what was typed: JSON where it is JSON (and no `content_type` says otherwise), else text or bytes."""
    import base64

    import msgspec

    from fuyun.domain.errors import BadRequest
    from fuyun.domain.queues import NewMessage

    named = {}
    for text in attributes:
        key, equals, value = text.partition("=")
        if not equals:
            raise BadRequest(f"{text!r} is no attribute", hint="write NAME=VALUE")
        named[key] = value
    made = []
    for body in bodies:
        data = read_input(body, "body")
        try:
            raw = None if content_type else msgspec.json.decode(data, type=msgspec.Raw)
        except msgspec.DecodeError:
            raw = None
        if raw is not None:
            made.append(NewMessage(data=msgspec.Raw(data), attributes=named))
            continue
        kind = content_type or ("text/plain" if _is_text(data) else "application/octet-stream")
        made.append(NewMessage(data_base64=base64.b64encode(data).decode(), content_type=kind, attributes=named))
    return made


def receive(
    name: NameArgument,
    max_: Annotated[int, typer.Option("--max", "-m", help="Messages at most.")] = 1,
    wait: Annotated[str, typer.Option(help="How long to wait for the first, such as 20s.")] = "",
    visibility: Annotated[str, typer.Option(help="How long to have them; default: the queue's setting.")] = "",
    ack_: Annotated[bool, typer.Option("--ack", help="Acknowledge them when they are shown.")] = False,
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Take messages out. Acknowledge them by their receipts, or others get them when their time is over."""
    visibility_s = _seconds(visibility, 0.0) if visibility else None
    with connect(namespace) as platform:
        found = platform.receive_messages(name, max_, wait_s=_seconds(wait, 0.0), visibility_s=visibility_s)
        _show(found, json, empty="no messages")
        if ack_ and found:
            _tell(platform.acknowledge(name, [message.receipt for message in found]))


def ack(
    name: NameArgument, receipts: ReceiptsArgument, namespace: NamespaceOption = "", json: JsonOption = False
) -> None:
    """Messages are done. Exit code 1 when the time of one was over."""
    with connect(namespace) as platform:
        _tell(platform.acknowledge(name, receipts), json)


def extend(
    name: NameArgument,
    receipts: ReceiptsArgument,
    visibility: Annotated[str, typer.Option(help="How long from now; 0 returns them at once.")] = "30s",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Keep messages longer, or return them."""
    with connect(namespace) as platform:
        _tell(platform.extend(name, receipts, _seconds(visibility, 30.0)), json)


def peek(
    name: NameArgument,
    max_: Annotated[int, typer.Option("--max", "-m", help="Messages at most.")] = 10,
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Look at the oldest messages; they stay where they are."""
    with connect(namespace) as platform:
        _show(platform.peek_messages(name, max_), json, empty="no messages")


def purge(
    name: NameArgument, yes: YesOption = False, namespace: NamespaceOption = "", json: JsonOption = False
) -> None:
    """Remove all messages."""
    with connect(namespace) as platform:
        queue, _ = platform.get_queue(name)
        confirm(f"Remove all {queue.messages} messages of queue {name}?", yes)
        count = platform.purge_queue(name)
    if json:
        return output.as_json({"count": count})
    output.words(f"removed {count} messages")


def redrive(
    name: NameArgument,
    to: Annotated[str, typer.Option(help="Queue to move them to; default: where each was given up.")] = "",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Move messages of a dead-letter queue back to where they were given up."""
    with connect(namespace) as platform:
        count = platform.redrive_queue(name, to)
    if json:
        return output.as_json({"count": count})
    output.words(f"moved {count} messages")


def _show(found: Sequence[Delivered], json: bool, empty: str) -> None:
    if json:
        return output.as_json(found)
    rows = [
        (message.receipt, message.event["id"], message.receives, message.group, output.when(message.sent_s),
         _text(message.body))
        for message in found
    ]  # fmt: skip
    output.table(("RECEIPT", "ID", "RECEIVES", "GROUP", "SENT", "BODY"), rows, empty=empty)


def _tell(refused: dict[str, str], json: bool = False) -> None:
    if json:
        output.as_json({"refused": refused})
    for receipt, why in refused.items():
        output.words(f"{receipt}: {why}")
    if refused:
        raise typer.Exit(exits.PLATFORM)


def _text(body: bytes) -> str:
    return body.decode() if _is_text(body) else f"({len(body)} bytes)"


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _seconds(text: str, default: float) -> float:
    from fuyun.base.units import parse_duration
    from fuyun.domain.errors import BadRequest

    try:
        return parse_duration(text) if text else default
    except ValueError as exc:
        raise BadRequest(str(exc)) from exc
