"""`fuyun trigger`: what calls functions, and whether it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fuyun.base.units import format_duration
from fuyun.cli import output
from fuyun.cli.names import function_names
from fuyun.cli.session import JsonOption, NamespaceOption, command, connect, noun

if TYPE_CHECKING:
    from fuyun.client.deliveries import TriggerStatus

FunctionArgument = Annotated[
    str, typer.Argument(metavar="FUNCTION", help="Whose it is.", autocompletion=function_names)
]
NameArgument = Annotated[str, typer.Argument(metavar="TRIGGER", help="As `fuyun trigger list` shows it.")]


def add(app: typer.Typer) -> None:
    """Register the noun."""
    trigger = noun("trigger", "What calls functions.")
    command(trigger, "list")(list_)
    command(trigger, "pause")(pause)
    command(trigger, "resume")(resume)
    app.add_typer(trigger)


def list_(
    function: Annotated[
        str, typer.Argument(metavar="[FUNCTION]", help="Only its own.", autocompletion=function_names)
    ] = "",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """List triggers, with when they fired last and do next where that is known."""
    with connect(namespace) as platform:
        found = platform.list_triggers(function)
    if json:
        return output.as_json(found)
    rows = [
        (one.function, one.name, one.kind, _state(one), output.when(one.last_s or 0), output.when(one.next_s or 0),
         _lag(one))
        for one in found
    ]  # fmt: skip
    columns = ("FUNCTION", "TRIGGER", "KIND", "STATE", "LAST", "NEXT", "LAG")
    output.table(columns, rows, empty="no triggers; functions declare them in fuyun.yaml")
    for one in found:
        if one.problem:
            since = f" since {output.when(one.since_s)}" if one.since_s else ""
            output.words(f"{one.function}/{one.name} does nothing{since}: {one.problem}")


def _state(one: TriggerStatus) -> str:
    return "paused" if one.paused else "away" if one.problem else "on"


def _lag(one: TriggerStatus) -> str:
    """How much has no outcome yet, and the age of the oldest that was taken."""
    if one.lag is None and not one.held:
        return ""
    count = f"{one.lag}" if one.lag is not None else f"{one.held}+"
    return f"{count}, {format_duration(round(one.age_s))} old" if one.age_s and one.age_s >= 1 else count


def pause(
    function: FunctionArgument, name: NameArgument, namespace: NamespaceOption = "", json: JsonOption = False
) -> None:
    """Pause a trigger: it does nothing until it is resumed."""
    _put(function, name, True, namespace, json)


def resume(
    function: FunctionArgument, name: NameArgument, namespace: NamespaceOption = "", json: JsonOption = False
) -> None:
    """Resume a trigger where it was. What a timer missed is up to its `missed`."""
    _put(function, name, False, namespace, json)


def _put(function: str, name: str, paused: bool, namespace: str, json: bool) -> None:
    with connect(namespace) as platform:
        found: TriggerStatus = platform.pause_trigger(function, name, paused)
    if json:
        return output.as_json(found)
    output.words(f"{'paused' if paused else 'resumed'} {function}/{name}")
