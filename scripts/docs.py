"""`make docs`: writes docs/reference from the code. A test checks that what is kept is what this would write."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import typer
import typer.main

from fuyun.base.units import format_duration, format_size
from fuyun.cli import exits
from fuyun.cli.main import NOUNS
from fuyun.client import brokerfields, fields, triggerfields
from fuyun.domain import errors
from fuyun.settings import Settings
from fuyun.transports.api import openapi
from fuyun.transports.web import statuses

# typer keeps the classes of its commands to itself; these have click's attributes.
Command = Any
Parameter = Any

REFERENCE = Path(__file__).resolve().parent.parent / "docs/reference"
NOTE = "<!-- Written by `make docs` from the code. Change the code, then run it again. -->\n"
ACTORS = {
    "caller": "The caller must act",
    "author": "The author of the function must act",
    "operator": "The operator must act",
    "platform": "Fuyun must act",
}


def application() -> typer.Typer:
    """The whole command line (`fuyun` itself only builds the part that was typed)."""
    app = typer.Typer(name="fuyun")
    for module in dict.fromkeys(NOUNS.values()):
        import_module(f"fuyun.cli.{module}").add(app)
    return app


def walk(command: Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Command]]:
    """Every command below `command` with the words that name it; groups are passed through."""
    below = getattr(command, "commands", None)
    if below is None:
        yield words, command
        return
    for name in sorted(below):
        if not below[name].hidden:
            yield from walk(below[name], (*words, name))


def row(*cells: str) -> str:
    """A line of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def cli_page() -> str:
    """Every command, its arguments and options."""
    lines = [NOTE, "# Command line", "", "Data goes to stdout, words to stderr. Every read has `--json`.", ""]
    lines += ["Exit codes:", "", row("code", "meaning"), row("---", "---")]
    lines += [row(str(code), meaning) for code, meaning in sorted(exits.MEANINGS.items())]
    for words, command in walk(typer.main.get_command(application())):
        lines += ["", f"## fuyun {' '.join(words)}", "", " ".join((command.help or "").split("\f")[0].split())]
        lines += ["", "```text", f"fuyun {' '.join(words)} {usage(command)}".rstrip(), "```"]
        rows = [parameter_row(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
        if rows:
            lines += ["", row("name", "what it is", "default"), row("---", "---", "---"), *rows]
    return "\n".join(lines) + "\n"


def usage(command: Command) -> str:
    """Arguments and the word OPTIONS."""
    words = [
        name_of(parameter) if parameter.required else f"[{name_of(parameter)}]" for parameter in arguments(command)
    ]
    return " ".join([*(["[OPTIONS]"] if len(words) < len(command.params) else []), *words])


def arguments(command: Command) -> list[Parameter]:
    """The command's positional parameters."""
    return [parameter for parameter in command.params if parameter.param_type_name == "argument"]


def name_of(parameter: Parameter) -> str:
    """What an argument is called in the usage line."""
    return str(parameter.metavar or parameter.name or "").upper()


def parameter_row(parameter: Parameter) -> str:
    """One line of a command's table."""
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if parameter.param_type_name == "argument":
        names = f"`{name_of(parameter)}`"
    default = parameter.default
    shown = "" if default in (None, "", False, ()) or callable(default) else f"`{default}`"
    if parameter.required:
        shown = "required"
    return row(names, str(getattr(parameter, "help", "") or ""), shown)


def settings_page() -> str:
    """Every knob."""
    lines = [
        NOTE, "# Settings", "",
        "Each is set by a flag of `fuyun up` where there is one, else by the environment variable, else by a line of",
        "`config.yaml` in the data directory. Durations are seconds, sizes are bytes; the name's suffix says which.",
        "", row("setting", "environment", "default", "what it is and why"), row("---", "---", "---", "---"),
    ]  # fmt: skip
    hints = get_type_hints(Settings, include_extras=True)
    for field in msgspec.structs.fields(Settings):
        meta = next(item for item in hints[field.name].__metadata__ if isinstance(item, msgspec.Meta))
        default = readable(field.name, field.default)
        lines.append(row(f"`{field.name}`", f"`FUYUN_{field.name.upper()}`", default, meta.description or ""))
    return "\n".join(lines) + "\n"


def readable(name: str, value: Any) -> str:
    """A default as people write it."""
    if value in ("", None):
        return ""
    if name.endswith("_s"):
        return f"`{value:g}` ({format_duration(value)})"
    if name.endswith("_bytes"):
        return f"`{value}` ({format_size(value)})"
    return f"`{value}`"


def error_tree(root: type[errors.FuyunError]) -> Iterator[type[errors.FuyunError]]:
    """The classes of the tree, each after its parent."""
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from error_tree(child)


def errors_page() -> str:
    """Every error: what it means, its HTTP status, the exit code of the command line."""
    lines = [
        NOTE, "# Errors", "",
        "Every surface answers with one shape, RFC 9457 problem details: `type`, `title`, `status`, `detail`, and our",
        "own `code` (below), `hint` (what to do next) and `request_id` (what to look for in the logs). A code never",
        "changes its meaning. `retry` says whether the same request may succeed later.",
    ]  # fmt: skip
    found = list(error_tree(errors.FuyunError))
    for actor, title in ACTORS.items():
        lines += ["", f"## {title}", ""]
        lines += [row("code", "HTTP", "exit", "retry", "what it means"), row("---", "---", "---", "---", "---")]
        for error in found:
            if error.actor == actor:
                cells = (f"`{error.code}`", str(statuses.status_of(error)), str(exits.exit_code(error("x"))))
                lines.append(row(*cells, "yes" if error.retryable else "no", " ".join((error.__doc__ or "").split())))
    return "\n".join(lines) + "\n"


def project_page() -> str:
    """Every field of fuyun.yaml."""
    lines = [
        NOTE, "# fuyun.yaml", "",
        "One file per project. Sizes and durations are written as people write them (`256MiB`, `30s`, `1m30s`); values",
        "may hold `${env:NAME}`, `${env:NAME:-default}` and `${stage}`. A field that is not listed is refused with its",
        "line and the nearest valid name. `fuyun config schema` prints the JSON Schema for editors.",
    ]  # fmt: skip
    tables = {
        "The file": fields.PROJECT_FIELDS, "A function": fields.FUNCTION_FIELDS, "A trigger": triggerfields.TRIGGERS,
        "What every trigger may have besides": (triggerfields.TRIGGER_NAME, *triggerfields.POLICY_FIELDS),
        "An HTTP trigger": triggerfields.HTTP_FIELDS, "A timer": triggerfields.TIMER_FIELDS,
        "A stream's trigger": triggerfields.STREAM_FIELDS, "A table's trigger": triggerfields.TABLE_FIELDS,
        "A queue trigger": triggerfields.QUEUE_FIELDS, "A topic trigger": triggerfields.TOPIC_FIELDS,
        "A trigger of objects": triggerfields.OBJECTS_FIELDS, "A webhook": triggerfields.WEBHOOK_FIELDS,
        "A trigger of PostgreSQL": triggerfields.POSTGRES_FIELDS,
        "A trigger of log lines": triggerfields.LOG_FIELDS,
        "A trigger of Redis": brokerfields.REDIS_FIELDS, "A trigger of RabbitMQ": brokerfields.RABBITMQ_FIELDS,
        "A trigger of NATS": brokerfields.NATS_FIELDS, "A trigger of MQTT": brokerfields.MQTT_FIELDS,
        "Asynchronous invocation (`async`)": fields.ASYNC_FIELDS,
        "Cross-origin rules (`cors`)": triggerfields.CORS_FIELDS,
        "A hook (`initializer`, `pre_freeze`, `pre_stop`)": fields.HOOK_FIELDS,
        "A time with more instances (`provisioned`)": fields.PROVISIONED_FIELDS, "A stage": fields.STAGE_FIELDS,
    }  # fmt: skip
    for title, table in tables.items():
        lines += ["", f"## {title}", "", row("field", "holds", "what it is for", "default")]
        lines += [row("---", "---", "---", "---")]
        for field in table:
            default = "required" if field.required else ""
            if table is fields.FUNCTION_FIELDS and fields.default_text(field):
                default = f"`{fields.default_text(field)}`"
            kind = ", ".join(f"`{choice}`" for choice in field.choices) or field.kind
            lines.append(row(f"`{field.name}`", kind, field.doc, default))
    return "\n".join(lines) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "project.md": project_page,
    "settings.md": settings_page,
    "errors.md": errors_page,
    "openapi.json": openapi.page,
}


def main() -> int:
    """Write every page; says which changed."""
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        text = make()
        path = REFERENCE / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"docs/reference/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
