"""`fuyun async`: asynchronous invocations and events on their way; dead letters. `fuyun event trail`: their paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fuyun.cli import output
from fuyun.cli.session import JsonOption, NamespaceOption, YesOption, command, confirm, connect, noun
from fuyun.domain.errors import BadRequest

if TYPE_CHECKING:
    from fuyun.domain.deliveries import Delivery

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `fuyun invoke --async` and `fuyun async list` show.")]
TargetArgument = Annotated[
    str, typer.Argument(metavar="[FUNCTION|KIND:NAME]", help="Only what goes there; default: everything.")
]
IdsOption = Annotated[list[str] | None, typer.Option("--id", metavar="ID", help="Only this one; may be repeated.")]
LimitOption = Annotated[int, typer.Option(min=1, max=1000, help="Deliveries at most.")]


def add(app: typer.Typer) -> None:
    """Register the nouns."""
    deliveries = noun("async", "Asynchronous invocations, events on their way, and dead letters.")
    command(deliveries, "list")(list_)
    command(deliveries, "show")(show)
    command(deliveries, "stop")(stop)
    command(deliveries, "dead")(dead)
    command(deliveries, "redrive")(redrive)
    command(deliveries, "purge")(purge)
    app.add_typer(deliveries)
    event = noun("event", "Events.")
    command(event, "trail")(trail)
    app.add_typer(event)


def list_(
    target: TargetArgument = "",
    state: Annotated[
        str, typer.Option(help="queued, running, retrying, succeeded, failed, stopped, expired, or dead.")
    ] = "",
    after: Annotated[str, typer.Option(metavar="ID", help="Only what was accepted after this one.")] = "",
    limit: LimitOption = 100,
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """List deliveries in the order in which they were accepted."""
    with connect(namespace) as platform:
        found = platform.list_deliveries(_target(target), state, after, limit)
    if json:
        return output.as_json(found)
    _table(found, "nothing was delivered, or it is kept no longer")


def dead(
    target: TargetArgument = "", limit: LimitOption = 100, namespace: NamespaceOption = "", json: JsonOption = False
) -> None:
    """List dead letters: what was given up, and why."""
    with connect(namespace) as platform:
        found = platform.list_deliveries(_target(target), "dead", "", limit)
    if json:
        return output.as_json(found)
    rows = [
        (one.id, one.target, one.state, one.attempts, one.error, one.detail, output.when(one.at_s)) for one in found
    ]
    output.table(("ID", "TARGET", "STATE", "ATTEMPTS", "ERROR", "DETAIL", "AT"), rows, empty="no dead letters")


def show(id_: IdArgument, namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """Show one delivery, with what is delivered as long as that is kept."""
    import json as json_text

    with connect(namespace) as platform:
        shown = platform.get_delivery(id_)
    if json:
        return output.as_json(shown)
    found = shown.delivery
    payload = json_text.dumps(shown.payload, ensure_ascii=False) if shown.kind else ""
    output.pairs(
        [
            ("id", found.id),
            ("target", f"{found.namespace}/{found.target}"),
            ("state", found.state),
            ("attempts", f"{found.attempts}, {found.failures} of {found.max_attempts} failed"),
            ("error", found.error),
            ("detail", found.detail),
            ("invocation", found.invocation),
            ("accepted", output.when(found.accepted_s)),
            ("due" if found.state in ("queued", "retrying") else "at", output.when(found.at_s)),
            ("until", output.when(found.expires_s)),
            ("origin", found.origin),
            ("trail", found.trail),
            ("hops", found.hops or ""),
            ("on success", found.on_success),
            ("on failure", found.on_failure),
            ("payload", shown.payload_base64 or payload),
        ]
    )


def stop(id_: IdArgument, namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """Stop one that waits or runs."""
    with connect(namespace) as platform:
        found = platform.stop_delivery(id_)
    if json:
        return output.as_json(found)
    output.words(f"stopped {found.id}")


def redrive(
    target: TargetArgument = "",
    ids: IdsOption = None,
    limit: LimitOption = 1000,
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Deliver dead letters again, as if they were new."""
    with connect(namespace) as platform:
        count = platform.redrive(_target(target), ids or [], limit)
    _tell("delivered again", count, json)


def purge(
    target: TargetArgument = "",
    ids: IdsOption = None,
    finished: Annotated[bool, typer.Option("--finished", help="Not only dead letters: all that is finished.")] = False,
    limit: LimitOption = 1000,
    namespace: NamespaceOption = "",
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Delete dead letters."""
    with connect(namespace) as platform:
        what = "finished deliveries" if finished else "dead letters"
        confirm(f"Delete the {what} of {target or 'everything'} in namespace {platform.namespace}?", yes)
        count = platform.purge_deliveries(_target(target), ids or [], finished, limit)
    _tell("deleted", count, json)


def trail(
    id_: Annotated[str, typer.Argument(metavar="ID", help="An event's id, or a delivery's.")],
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Print the path of an event: everything that followed from it, hop by hop."""
    with connect(namespace) as platform:
        found = platform.list_trail(id_)
    if json:
        return output.as_json(found)
    rows = [
        (one.hops, output.when(one.accepted_s), one.target, one.origin, one.state, one.error, one.id) for one in found
    ]
    columns = ("HOP", "AT", "TARGET", "ORIGIN", "STATE", "ERROR", "ID")
    output.table(columns, rows, empty=f"nothing is known of {id_}; what is finished is kept for a while only")


def _target(text: str) -> str:
    """`KIND:NAME` of what was typed: a function's name stands for itself."""
    if not text or ":" in text:
        return text
    from fuyun.domain.names import check_name

    try:
        return f"function:{check_name('function', text)}"
    except BadRequest as exc:
        raise BadRequest(exc.detail, hint="write a function's name, or KIND:NAME such as queue:orders") from exc


def _tell(what: str, count: int, json: bool) -> None:
    if json:
        return output.as_json({"count": count})
    output.words(f"{what}: {count}")


def _table(found: list[Delivery], empty: str) -> None:
    def row(one: Delivery) -> tuple[Any, ...]:
        return one.id, output.when(one.accepted_s), one.target, one.state, one.attempts, one.error, one.origin

    columns = ("ID", "ACCEPTED", "TARGET", "STATE", "ATTEMPTS", "ERROR", "ORIGIN")
    output.table(columns, [row(one) for one in found], empty=empty)
