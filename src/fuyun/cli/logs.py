"""`fuyun logs`: what a function wrote, and what became of one request."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from fuyun.cli import output
from fuyun.cli.names import function_names
from fuyun.cli.session import JsonOption, NamespaceOption, command, connect
from fuyun.cli.waterfall import waterfall
from fuyun.domain.errors import BadRequest

if TYPE_CHECKING:
    from fuyun.domain.invocations import Invocation, LogLine


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "logs")(logs)


def logs(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Function.", autocompletion=function_names)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
    since: Annotated[
        str, typer.Option(help="How far back, such as 10m; default: all, or only new lines with -f.")
    ] = "",
    request: Annotated[str, typer.Option(help="Only this invocation, with its record and waterfall.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10000, help="The newest lines at most.")] = 1000,
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Print a function's log lines, oldest first. With --json -f: one JSON object a line."""
    from fuyun.base import clock
    from fuyun.base.units import parse_duration
    from fuyun.client.platform import LogQuery

    try:
        back_s = parse_duration(since) if since else None
    except ValueError as exc:
        raise BadRequest(f"--since: {exc}") from exc
    if back_s is None:
        since_s = clock.wall_s() if follow and not request else 0.0
    else:
        since_s = max(0.0, clock.wall_s() - back_s)
    query = LogQuery(since_s=since_s, request=request, limit=limit)
    with connect(namespace) as platform:
        if follow:
            with closing(platform.follow_logs(name, query)) as lines:
                for line in lines:
                    _follow(line, json)
            return
        record = platform.get_invocation(name, request) if request else None
        found = platform.list_logs(name, query)
    if json:
        return output.as_json({"invocation": record, "lines": found} if request else found)
    if record is not None:
        _record(record)
    for item in found:
        output.data(_line(item))
    if not found:
        output.words("no lines")


def _follow(line: LogLine, json: bool) -> None:
    if json:
        import msgspec

        output.data(msgspec.json.encode(line).decode())
    else:
        output.data(_line(line))


def _line(line: LogLine) -> str:
    from datetime import datetime

    at = datetime.fromtimestamp(line.at_s).astimezone().isoformat(" ", "milliseconds")[:23]
    mark = line.level or line.stream
    colour = {"error": "red", "critical": "red", "stderr": "yellow", "warning": "yellow", "platform": "cyan"}.get(
        mark.lower()
    )
    shown = output.style(f"{mark:<8}", colour) if colour else f"{mark:<8}"
    # A request is told apart by the end of its id: the beginning is the time.
    return f"{output.style(at, 'dim')} {line.request[-8:] or '-':<8} {shown} {output.harmless(line.text.rstrip())}"


def _record(record: Invocation) -> None:
    from fuyun.base.units import format_size
    from fuyun.domain.invocations import PHASES

    version = str(record.version or "$LATEST")
    output.pairs(
        [
            ("request", record.id),
            ("at", output.when(record.at_s)),
            ("function", f"{record.namespace}/{record.function}:{record.alias or version}"),
            ("version", version),
            ("status", f"{record.status} ({record.http_status})" + (f", {record.error}" if record.error else "")),
            ("attempt", str(record.attempt)),
            ("start", record.start_kind),
            ("instance", record.instance),
            ("duration", f"{record.duration_ms:.2f} ms"),
            ("memory peak", format_size(record.memory_peak_bytes) if record.memory_peak_bytes else ""),
            ("cpu", f"{record.cpu_s * 1000:.2f} ms"),
            ("billed", f"{record.billed_gb_s:.6f} GB-s"),
            ("bytes", f"{record.request_bytes} in, {record.response_bytes} out"),
        ]
    )
    for line in waterfall({phase: getattr(record.waterfall, phase) for phase in PHASES}):
        output.data(line)
