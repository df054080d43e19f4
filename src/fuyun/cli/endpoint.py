"""`fuyun endpoint`: HTTP endpoints of others that events are sent to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fuyun.cli import output
from fuyun.cli.session import JsonOption, NamespaceOption, YesOption, command, confirm, connect, noun

if TYPE_CHECKING:
    from fuyun.domain.endpoints import EndpointView

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Endpoint.")]


def add(app: typer.Typer) -> None:
    """Register the noun."""
    endpoint = noun("endpoint", "HTTP endpoints of others that events are sent to: the target endpoint:NAME.")
    command(endpoint, "create")(create)
    command(endpoint, "list")(list_)
    command(endpoint, "confirm")(confirm_)
    command(endpoint, "rotate")(rotate)
    command(endpoint, "delete")(delete)
    app.add_typer(endpoint)


def create(
    name: NameArgument,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where events are posted: https://host/path")],
    mode: Annotated[
        str, typer.Option(help="structured: a CloudEvent as JSON; binary: header fields and the data.")
    ] = "structured",
    timeout: Annotated[str, typer.Option(help="How long it may take to answer, up to 60s.")] = "15s",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Create an endpoint, or change it. It is asked whether it wants events; a new one's secret is shown, this once."""
    from fuyun.base.units import parse_duration
    from fuyun.domain.endpoints import EndpointSpec
    from fuyun.domain.errors import BadRequest

    if mode not in ("structured", "binary"):
        raise BadRequest(f"{mode!r} is no mode", hint="use structured or binary")
    try:
        timeout_s = parse_duration(timeout)
    except ValueError as exc:
        raise BadRequest(f"--timeout {timeout!r}: {exc}", hint="write 15s") from exc
    spec = EndpointSpec(url=url, mode="binary" if mode == "binary" else "structured", timeout_s=timeout_s)
    with connect(namespace) as platform:
        made = platform.put_endpoint(name, spec)
    _show(made, json)


def list_(namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """List the namespace's endpoints."""
    with connect(namespace) as platform:
        found = platform.list_endpoints()
    if json:
        return output.as_json(found)
    rows = [(one.name, one.state, one.url, one.mode, one.problem) for one in found]
    empty = "no endpoints; create one: fuyun endpoint create NAME URL"
    output.table(("NAME", "STATE", "URL", "MODE", "PROBLEM"), rows, empty=empty)


def confirm_(name: NameArgument, namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """Ask an endpoint again whether it wants events."""
    with connect(namespace) as platform:
        found = platform.confirm_endpoint(name)
    _show(found, json)


def rotate(name: NameArgument, namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """Give an endpoint another secret, shown this once; the one before signs as well for a day."""
    with connect(namespace) as platform:
        found = platform.rotate_endpoint(name)
    _show(found, json)


def delete(name: NameArgument, yes: YesOption = False, namespace: NamespaceOption = "") -> None:
    """Delete an endpoint; what is on its way there becomes dead letters."""
    with connect(namespace) as platform:
        confirm(f"Delete endpoint {name}?", yes)
        platform.delete_endpoint(name)
    output.words(f"deleted endpoint {name}")


def _show(found: EndpointView, json: bool) -> None:
    if json:
        return output.as_json(found)
    output.words(f"endpoint {found.name} is {found.state}" + (f": {found.problem}" if found.problem else ""))
    if found.secret:
        output.words(f"its secret, shown this once: {found.secret}")
