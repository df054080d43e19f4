"""`fuyun`: finds the command and runs it. Only the module of the noun that was typed is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import fuyun
from fuyun.cli import exits

#: Noun as typed -> module of `fuyun.cli` whose `add(app)` registers it; in the order `fuyun --help` shows them.
NOUNS = {
    "up": "up", "down": "down", "status": "status", "node": "node", "doctor": "doctor",
    "init": "init", "deploy": "deploy", "remove": "remove", "invoke": "invoke", "logs": "logs",
    "stream": "stream", "table": "table",
    "async": "asynchronous", "event": "asynchronous", "trigger": "trigger",
    "queue": "queue", "topic": "topic", "endpoint": "endpoint",
    "fn": "fn", "alias": "alias", "rollback": "alias", "layer": "layer",
    "bus": "bus",
    "bucket": "bucket", "object": "object",
    "namespace": "namespace", "key": "key", "secret": "secret", "audit": "audit",
    "config": "config", "completion": "completion",
}  # fmt: skip

#: Set by the completion scripts; its value says which shell asks for what.
COMPLETE = "_FUYUN_COMPLETE"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    if args in (["--version"], ["-V"]):
        print(f"fuyun {fuyun.__version__}")
        return exits.OK
    try:
        return _run(args)
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except Exception:
        import traceback

        traceback.print_exc()
        print("error [internal]: this is a bug in fuyun's command line; please report the lines above", file=sys.stderr)
        return exits.PLATFORM


def _run(args: list[str]) -> int:
    import typer

    completing = COMPLETE in os.environ
    app = typer.Typer(
        name="fuyun",
        help="Functions that start in milliseconds, on a platform you own. `fuyun up` starts it.",
        epilog="Exit codes: " + ", ".join(f"{code} {text}" for code, text in exits.MEANINGS.items()) + ".",
        no_args_is_help=True,
        add_completion=completing,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )

    @app.callback()
    def root(version: bool = typer.Option(False, "--version", "-V", help="Print the version and exit.")) -> None:
        if version:
            print(f"fuyun {fuyun.__version__}")
            raise typer.Exit

    wanted = [NOUNS[args[0]]] if args and args[0] in NOUNS and not completing else list(dict.fromkeys(NOUNS.values()))
    for module in wanted:
        import_module(f"fuyun.cli.{module}").add(app)
    try:
        app(args=args, prog_name="fuyun")
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else exits.OK if exc.code is None else exits.PLATFORM
    return exits.OK


if __name__ == "__main__":
    sys.exit(main())
