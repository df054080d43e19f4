"""`fuyun invoke`: run a function and print what it returned."""

from __future__ import annotations

import json as json_text
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from fuyun.cli import output
from fuyun.cli.names import function_names
from fuyun.cli.session import JsonOption, NamespaceOption, command, connect, read_input, split_name
from fuyun.cli.waterfall import waterfall
from fuyun.domain.errors import BadRequest, FunctionError, FuyunError

if TYPE_CHECKING:
    from fuyun.client.platform import Outcome


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "invoke")(invoke)


def invoke(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME[:QUALIFIER]",
            help="Function; a version number or alias of it.",
            autocompletion=function_names,
        ),
    ],
    payload: Annotated[str, typer.Option("--data", "-d", metavar="JSON|@FILE|-", help="What the handler gets.")] = "{}",
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print the waterfall also where nobody looks.")
    ] = False,
    asynchronous: Annotated[bool, typer.Option("--async", help="Do not wait: print the id that it gets.")] = False,
    delay: Annotated[str, typer.Option(metavar="90s", help="With --async: not before so long.")] = "",
    at: Annotated[str, typer.Option(metavar="TIME", help="With --async: not before, as 2026-12-24T18:00:00Z.")] = "",
    idempotency_key: Annotated[
        str, typer.Option(metavar="TEXT", help="With --async: the same key within a day is the same invocation.")
    ] = "",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Run a function: its result on stdout, its waterfall on stderr. Exit 3 when the function fails.

    An application (WSGI, ASGI) is sent the JSON as POST /; a status of 400 or above is its failure.
    """
    function, qualifier = split_name(name)
    body = _payload(payload)
    if asynchronous:
        return _later(function, qualifier, body, (delay, at, idempotency_key), namespace, json)
    if delay or at or idempotency_key:
        raise BadRequest("--delay, --at and --idempotency-key are for asynchronous invocations", hint="add --async")
    chatty = verbose or output.on_terminal(sys.stderr)
    with connect(namespace) as platform:
        try:
            outcome = platform.invoke(function, body, qualifier)
        except FuyunError as exc:
            if chatty and exc.fields.get("server-timing"):
                from fuyun.client.platform import parse_timing

                _tell(str(exc.fields.get("fuyun-version", "")), str(exc.fields.get("fuyun-start", "")), "",
                      parse_timing(str(exc.fields["server-timing"])))  # fmt: skip
            raise
        url = f"{platform.profile.gateway}/fn/{platform.namespace}/{name}"
    _print(outcome)
    if chatty:
        _tell(outcome.version, outcome.start_kind, outcome.request_id, outcome.timing)
    if outcome.status >= 400:
        raise FunctionError(
            f"the application answered POST / with {_status(outcome.status)}",
            hint=f"it serves HTTP: ask for what it has, such as curl -H 'authorization: Bearer KEY' {url}/",
            request_id=outcome.request_id,
        )


def _later(function: str, qualifier: str, body: bytes, when: tuple[str, str, str], namespace: str, json: bool) -> None:
    from fuyun.client.deliveries import When

    delay, at, key = when
    with connect(namespace) as platform:
        accepted = platform.invoke_later(function, body, qualifier, When(delay=delay, at=at, key=key))
    if json:
        return output.as_json(accepted)
    output.data(accepted.id)
    if accepted.duplicate:
        output.words("there was one with this key already")


def _status(code: int) -> str:
    from http import HTTPStatus

    known = {status.value: status.phrase for status in HTTPStatus}
    return f"{code} {known.get(code, '')}".rstrip()


def _payload(text: str) -> bytes:
    body = read_input(text, "--data")
    try:
        json_text.loads(body)
    except UnicodeDecodeError as exc:
        raise BadRequest(f"the payload is not UTF-8: byte {exc.start}", hint="send JSON") from exc
    except ValueError as exc:
        raise BadRequest(
            f"the payload is not JSON: {exc}", hint="""write it like -d '{"name": "Ada"}' or -d @event.json"""
        ) from exc
    return body


def _print(outcome: Outcome) -> None:
    kind = outcome.content_type.partition(";")[0].strip().lower()
    if not (kind.endswith("json") or kind.startswith("text/") or not kind):
        return output.raw(outcome.body)
    text = outcome.body.decode("utf-8", "replace")
    if output.on_terminal():
        if kind.endswith("json"):
            try:
                text = json_text.dumps(json_text.loads(text), indent=2, ensure_ascii=False)
            except ValueError:
                pass
        return output.data(output.harmless(text))
    output.raw(outcome.body if outcome.body.endswith(b"\n") else outcome.body + b"\n")


def _tell(version: str, start_kind: str, request_id: str, timing: dict[str, float]) -> None:
    err = sys.stderr
    parts = (("version", version), ("start", start_kind), ("request", request_id))
    head = " · ".join(f"{name} {value}" for name, value in parts if value)
    output.words(output.style(head, "dim", err))
    for line in waterfall(timing):
        output.words(output.style(line, "dim", err))
