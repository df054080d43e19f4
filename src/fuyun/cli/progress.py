"""What a long command is doing: a live line on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import sys
from types import TracebackType

from fuyun.base import clock
from fuyun.cli import output


class Progress:
    """Steps of one piece of work. `step` names what is being done, `done` ends it with a result."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._live = output.colourful(sys.stderr)
        self._began_s = clock.mono_s()
        self._open = False
        self._percent = -1

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._clear()

    def step(self, text: str) -> None:
        """Say what is being done now. A warning stays in sight."""
        text = output.harmless(text, sys.stderr).replace("\n", " ")
        _, warning, what = text.partition("warning: ")
        if warning:
            self._clear()
            return output.words(f"{self._subject}: {output.style('warning', 'yellow', sys.stderr)}: {what}")
        if not self._live:
            return output.words(f"{self._subject}: {text}")
        import shutil

        line = f"{self._subject}: {text}"[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write(f"\r\x1b[2K{output.style(line, 'dim', sys.stderr)}")
        sys.stderr.flush()
        self._open = True

    def part(self, text: str, done: int, whole: int) -> None:
        """How far the step is, in percent; only where the line can be written over."""
        percent = 100 * done // whole if whole else 100
        if self._live and percent != self._percent:
            self._percent = percent
            self.step(f"{text}, {percent} %")

    def done(self, text: str) -> None:
        """Say how it ended, with the time it took."""
        self._clear()
        took_s = clock.mono_s() - self._began_s
        output.words(f"{output.style('✓', 'green', sys.stderr)} {self._subject}: {text} ({took_s:.1f} s)")

    def _clear(self) -> None:
        if self._open:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._open = False
