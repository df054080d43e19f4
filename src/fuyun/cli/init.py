"""`fuyun init`: a new project from a template."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

from fuyun.cli import output
from fuyun.cli.session import command
from fuyun.domain.errors import BadRequest, Conflict, HostUnable

#: Template -> what it shows.
TEMPLATES = {
    "python-event": "a handler that gets a JSON event and returns a value",
    "python-http": "a handler that answers HTTP requests",
    "python-asgi": "a FastAPI application",
    "python-wsgi": "a Flask application",
    "custom": "a program in any language, here a shell script, that speaks the Lambda Runtime API",
    "web": "an HTTP server in any language, here Python's own",
    "wasm": "a WebAssembly module that reads and writes like a CGI program",
    "java": "a Java method that gets a JSON event and returns a value",
    "image": "an OCI image, here of busybox's HTTP server",
    "nodejs": "a Node.js handler that answers HTTP requests",
}


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "init")(init)


def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the project, its function and its folder.")],
    template: Annotated[str, typer.Option("--template", "-t", help=f"One of {', '.join(TEMPLATES)}.")] = "python-event",
    directory: Annotated[Path | None, typer.Option("--dir", help="Folder to make; default: NAME.")] = None,
) -> None:
    """Make a project that can be deployed at once."""
    from fuyun.domain.names import nearest
    from fuyun.domain.specs import check_function_name

    check_function_name(name)
    if template not in TEMPLATES:
        close = nearest(template, TEMPLATES)
        raise BadRequest(
            f"there is no template {template!r}" + (f"; did you mean {close!r}?" if close else ""),
            hint="; ".join(f"{key}: {text}" for key, text in TEMPLATES.items()),
        )
    target = directory or Path(name)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Conflict(f"{target} exists and is not empty", hint="choose another name, or --dir")
    source = files("fuyun.cli").joinpath("templates", template)
    try:
        made = _copy(source, target, name)
    except OSError as exc:
        raise HostUnable(f"{target} cannot be written: {exc}", hint="check the folder's permissions") from exc
    for path in sorted(made):
        output.data(str(path))
    then = (
        f" && fuyun invoke {name}"
        if template in ("python-event", "custom", "wasm", "java")
        else ", which prints its URLs"
    )
    output.words(f"made {target} ({TEMPLATES[template]}); now: fuyun deploy {target}{then}")


def _copy(source: Traversable, target: Path, name: str) -> list[Path]:
    target.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    for item in source.iterdir():
        if item.is_dir():
            if item.name != "__pycache__":
                made += _copy(item, target / item.name, name)
            continue
        path = target / item.name
        text = item.read_text(encoding="utf-8").replace("{{name}}", name)
        path.write_text(text, encoding="utf-8")
        if text.startswith("#!"):
            path.chmod(path.stat().st_mode | 0o111)
        made.append(path)
    return made
