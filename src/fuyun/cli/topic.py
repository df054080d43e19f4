"""`fuyun topic`: what is published goes to every subscription."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fuyun.cli import output
from fuyun.cli.session import JsonOption, NamespaceOption, YesOption, command, confirm, connect, noun, read_input

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Topic.")]


def add(app: typer.Typer) -> None:
    """Register the noun."""
    topic = noun("topic", "Topics: what is published goes to every subscription.")
    command(topic, "create")(create)
    command(topic, "list")(list_)
    command(topic, "delete")(delete)
    command(topic, "subscribe")(subscribe)
    command(topic, "subscriptions")(subscriptions)
    command(topic, "unsubscribe")(unsubscribe)
    command(topic, "publish")(publish)
    app.add_typer(topic)


def create(
    name: NameArgument,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Create a topic, or change its description."""
    with connect(namespace) as platform:
        made = platform.put_topic(name, description)
    if json:
        return output.as_json(made)
    output.words(f"topic {made.name} is there; subscribe a queue: fuyun topic subscribe {made.name} queue:NAME")


def list_(namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """List the namespace's topics."""
    with connect(namespace) as platform:
        found = platform.list_topics()
    if json:
        return output.as_json(found)
    rows = [(topic.name, output.when(topic.created_s), topic.description) for topic in found]
    output.table(("NAME", "CREATED", "DESCRIPTION"), rows, empty="no topics; create one: fuyun topic create NAME")


def delete(name: NameArgument, yes: YesOption = False, namespace: NamespaceOption = "") -> None:
    """Delete a topic with its subscriptions."""
    with connect(namespace) as platform:
        found = platform.list_subscriptions(name)
        confirm(f"Delete topic {name} with {len(found)} subscriptions?", yes)
        platform.delete_topic(name)
    output.words(f"deleted topic {name}")


def subscribe(
    name: NameArgument,
    target: Annotated[str, typer.Argument(metavar="KIND:NAME", help="Where it goes: queue:NAME, function:NAME ...")],
    as_: Annotated[str, typer.Option("--as", help="Name of the subscription; default: made of the target.")] = "",
    filter_: Annotated[str, typer.Option("--filter", help="Which events it gets: a filter as JSON, @FILE or -.")] = "",
    where: Annotated[
        list[str], typer.Option("--where", help="ATTRIBUTE=VALUE[,VALUE]: only what has one of the values.")
    ] = [],  # noqa: B006
    attempts: Annotated[int, typer.Option(min=1, max=100, help="Attempts that may fail by the target's fault.")] = 3,
    max_age: Annotated[str, typer.Option(help="How long an event is tried, such as 3d.")] = "6h",
    dead_letter: Annotated[str, typer.Option(help="Target of what is given up; default: dead letters.")] = "",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Subscribe a target: it gets what is published from now on."""
    from fuyun.base.units import parse_duration
    from fuyun.domain.errors import BadRequest
    from fuyun.domain.rulechecks import check_subscription
    from fuyun.domain.topics import SubscriptionSpec

    lines: dict[str, Any] = json_of(read_input(filter_, "filter"), "filter") if filter_ else {}
    for text in where:
        attribute, equals, values = text.partition("=")
        if not equals:
            raise BadRequest(f"{text!r} is no filter", hint="write ATTRIBUTE=VALUE or ATTRIBUTE=VALUE,VALUE")
        lines[attribute] = [*lines.get(attribute, []), *values.split(",")]
    try:
        max_age_s = parse_duration(max_age)
    except ValueError as exc:
        raise BadRequest(f"--max-age {max_age!r}: {exc}", hint="write 90m, 6h or 3d") from exc
    spec = SubscriptionSpec(
        target=target, filter=lines or None, max_attempts=attempts, max_age_s=max_age_s, dead_letter=dead_letter
    )
    subscription = as_ or target.replace(":", "-").replace("$", "").lower()[:63]
    check_subscription(subscription, spec)
    with connect(namespace) as platform:
        made = platform.subscribe(name, subscription, spec)
    if json:
        return output.as_json(made)
    output.words(f"{target} gets what is published to {name}, by subscription {made.name}")


def json_of(data: bytes, what: str) -> Any:
    """What `data` says as JSON. BadRequest."""
    import msgspec

    from fuyun.domain.errors import BadRequest

    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError as exc:
        raise BadRequest(f"the {what} is not JSON: {exc}", hint="see docs/guide/topics.md") from exc


def subscriptions(name: NameArgument, namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """List a topic's subscriptions."""
    import msgspec

    with connect(namespace) as platform:
        found = platform.list_subscriptions(name)
    if json:
        return output.as_json(found)
    rows = [
        (one.name, one.spec.target, "" if one.spec.filter is None else msgspec.json.encode(one.spec.filter).decode(),
         output.when(one.created_s))
        for one in found
    ]  # fmt: skip
    output.table(("NAME", "TARGET", "FILTER", "CREATED"), rows, empty=f"nothing is subscribed to {name}")


def unsubscribe(
    name: NameArgument,
    subscription: Annotated[str, typer.Argument(metavar="SUBSCRIPTION", help="Its name.")],
    namespace: NamespaceOption = "",
) -> None:
    """End a subscription."""
    with connect(namespace) as platform:
        platform.unsubscribe(name, subscription)
    output.words(f"ended subscription {subscription} of topic {name}")


def publish(
    name: NameArgument,
    body: Annotated[
        list[str], typer.Argument(metavar="BODY...", help="Messages: JSON or text, @FILE, or - for stdin.")
    ],
    attribute: Annotated[list[str], typer.Option("--attribute", "-a", help="NAME=VALUE; may be repeated.")] = [],  # noqa: B006
    group: Annotated[str, typer.Option(help="Group, for queues with order.")] = "",
    content_type: Annotated[str, typer.Option(help="Of bodies that are not JSON.")] = "",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Publish messages, all or none. They are on disk for every subscription when this ends."""
    from msgspec.structs import replace

    from fuyun.cli.queue import new_messages

    messages = [replace(message, group=group) for message in new_messages(body, attribute, content_type)]
    with connect(namespace) as platform:
        published = platform.publish_messages(name, messages)
    if json:
        return output.as_json(published)
    for one in published.ids:
        output.data(one)
