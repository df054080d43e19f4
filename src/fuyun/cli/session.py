"""What every command shares: errors turned into words and exit codes, and the platform it talks to."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from fuyun.cli import exits, output
from fuyun.domain.errors import BadRequest, FuyunError

if TYPE_CHECKING:
    from fuyun.client.platform import Platform

P = ParamSpec("P")
R = TypeVar("R")

#: Options that many commands take.
NamespaceOption = Annotated[str, typer.Option("--namespace", "-n", help="Namespace; default: the configuration's.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def noun(name: str, help_text: str) -> typer.Typer:
    """A group of commands."""
    return typer.Typer(name=name, help=help_text, no_args_is_help=True, rich_markup_mode=None, add_completion=False)


def command(app: typer.Typer, name: str, **options: Any) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Register a function as a command of `app`, with errors as words and exit codes."""

    def register(function: Callable[P, None]) -> Callable[P, None]:
        return app.command(name, **options)(guarded(function))

    return register


def guarded(function: Callable[P, None]) -> Callable[P, None]:
    """`function` with its errors reported; Ctrl-C ends it with 130, a closed pipe quietly."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except FuyunError as exc:
            report(exc)
            raise typer.Exit(exits.exit_code(exc)) from None
        except KeyboardInterrupt:
            output.words("interrupted")
            raise typer.Exit(exits.INTERRUPTED) from None
        except BrokenPipeError:
            # The reader of our stdout has gone (`fuyun logs | head`); nothing more can be said there.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(exits.OK) from None

    return run


def report(error: FuyunError) -> None:
    """The error on stderr: what happened, the author's traceback where there is one, what to do next."""
    err = sys.stderr
    trace = error.fields.get("traceback")
    if trace:
        text = trace if isinstance(trace, str) else "\n".join(str(line).rstrip("\n") for line in trace)
        output.words(output.harmless(text, err))
    log = error.fields.get("log")
    if log:
        text = log if isinstance(log, str) else "\n".join(str(line) for line in log)
        output.words(output.style(output.harmless(text, err), "dim", err))
    code = error.fields.get("code", error.code)
    output.words(f"{output.style('error', 'red', err)} [{code}]: {output.harmless(error.detail, err)}")
    if error.hint:
        output.words(f"{output.style('hint', 'cyan', err)}: {output.harmless(error.hint, err)}")
    if error.fields.get("request_id"):
        output.words(output.style(f"request {error.fields['request_id']}", "dim", err))


def connect(namespace: str = "") -> Platform:
    """The platform of the configuration; use it as a context manager."""
    from fuyun.client.platform import Platform

    return Platform(namespace=namespace)


def split_name(text: str) -> tuple[str, str]:
    """NAME[:QUALIFIER] as (name, qualifier or ""); BadRequest unless both could exist."""
    from fuyun.domain.names import check_qualifier
    from fuyun.domain.specs import check_function_name

    name, colon, qualifier = text.partition(":")
    check_function_name(name)
    if colon:
        check_qualifier(qualifier)
    return name, qualifier


def confirm(question: str, yes: bool) -> None:
    """Ask on a terminal unless `yes`; BadRequest where nobody can be asked, exit 1 on no."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise BadRequest(f"{question} cannot be asked here", hint="pass --yes if you mean it")
    output.words(f"{question} [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        output.words("nothing was changed")
        raise typer.Exit(exits.PLATFORM)


def read_input(text: str, what: str) -> bytes:
    """`-` is stdin, `@FILE` a file, anything else itself; BadRequest when it cannot be read."""
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        try:
            with open(text[1:], "rb") as file:
                return file.read()
        except OSError as exc:
            raise BadRequest(
                f"{what}: {text[1:]} cannot be read: {exc.strerror}", hint="write @ and a file's path"
            ) from exc
    return text.encode()
