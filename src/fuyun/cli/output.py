"""How commands speak: data on stdout, words on stderr, tables and colours only where a person looks.

NO_COLOR (https://no-color.org) and TERM=dumb turn colours off. What functions wrote is stripped of control characters
before it reaches a terminal, so that a log line cannot move the cursor or rename the window.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def data(text: str) -> None:
    """A line of data on stdout."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def raw(body: bytes) -> None:
    """Bytes on stdout as they are."""
    sys.stdout.flush()
    sys.stdout.buffer.write(body)
    sys.stdout.buffer.flush()


def words(text: str) -> None:
    """A line for people on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def on_terminal(stream: Any = None) -> bool:
    """True when the stream (default: stdout) is a terminal."""
    return bool((stream or sys.stdout).isatty())


def colourful(stream: Any = None) -> bool:
    """True when colours may be written to the stream (default: stdout)."""
    return on_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def style(text: str, name: str, stream: Any = None) -> str:
    """`text` in a style (bold, dim, red, green, yellow, cyan) where the stream shows it."""
    return f"\x1b[{_STYLES[name]}m{text}\x1b[0m" if colourful(stream) else text


def harmless(text: str, stream: Any = None) -> str:
    """`text` without control characters when the stream is a terminal; as it is otherwise."""
    return _CONTROL.sub("", text) if on_terminal(stream) else text


def as_json(value: Any) -> None:
    """Any value of the domain as indented JSON on stdout."""
    import msgspec

    data(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], empty: str = "") -> None:
    """Rows on stdout: drawn on a terminal, tab-separated with a header line elsewhere. `empty` goes to stderr."""
    lines = [[_cell(cell) for cell in row] for row in rows]
    if not lines and empty:
        words(empty)
    if not on_terminal():
        if lines:
            data("\n".join("\t".join(line) for line in [list(columns), *lines]))
        return
    if not lines:
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold" if colourful() else "")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for line in lines:
        drawn.add_row(*(Text(harmless(cell)) for cell in line))
    Console(no_color=not colourful(), highlight=False).print(drawn)


def pairs(items: Iterable[tuple[str, Any]]) -> None:
    """`name: value` lines on stdout; values that are empty are left out."""
    shown = [(name, _cell(value)) for name, value in items if value not in (None, "", (), [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        data(f"{style(name.ljust(width), 'dim')}  {harmless(value)}" if on_terminal() else f"{name}\t{value}")


def when(at_s: float) -> str:
    """Wall-clock seconds as local time with its offset, to the second; "" for 0."""
    return datetime.fromtimestamp(at_s).astimezone().isoformat(" ", "seconds") if at_s else ""


def about(size_bytes: int) -> str:
    """A size for people, to one decimal."""
    for unit, factor in (("MiB", 2**20), ("KiB", 2**10)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} bytes"


def _cell(value: Any) -> str:
    text = "yes" if value is True else "no" if value is False else str(value)
    return text.replace("\t", " ").replace("\n", " ")
