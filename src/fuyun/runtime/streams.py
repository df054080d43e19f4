"""sys.stdout, sys.stderr and logging, as LOG frames that belong to the invocation that wrote them.

Lines leave as they are completed: what a handler printed last before it hung is what its author needs. Text written
before the connection is known waits, within the limit, and leaves with the first frame.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from _thread import RLock

from fuyun.runtime.calls import current
from fuyun.runtime.jsontext import dumps
from fuyun.runtime.wire import HEADER, LOG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Optional

    from fuyun.runtime.calls import Call

_NAMES = ("stdout", "stderr")
#: Longest text of one LOG frame, in characters; a longer line is cut into several.
_PIECE = 32 * 1024


class Spool:
    """Turns text into LOG frames. One per process; `bind` connects it, `unbind` makes it collect again."""

    def __init__(self) -> None:
        self.limit_bytes = 1024 * 1024
        self._lock = RLock()  # re-entrant: a signal handler may print while its thread does
        self._send: Optional[Callable[[bytes], None]] = None
        self._waiting: list[bytes] = []
        self.unbind()

    def unbind(self) -> None:
        """Forget the connection and what waits; text of this process goes nowhere until `bind`."""
        self._lock = RLock()
        self._send = None
        self._waiting = []
        self.idle = Bucket(self.limit_bytes)

    def bind(self, send: Callable[[bytes], None]) -> None:
        """Send what waited, and from now on everything, with `send`."""
        with self._lock:
            self._send = send
            waiting, self._waiting = self._waiting, []
            if waiting:
                send(b"".join(waiting))

    def write(self, index: int, text: str) -> None:
        """Text of stdout (0) or stderr (1)."""
        with self._lock:
            owner = current.find() or self.idle
            partial = owner.partial
            if partial is None:
                partial = owner.partial = ["", ""]
            if "\n" not in text:
                partial[index] += text
                if len(partial[index]) <= _PIECE:
                    return
                lines, rest = [partial[index]], ""
            else:
                lines = (partial[index] + text).split("\n")
                rest = lines.pop()
            partial[index] = rest
            self._emit(owner, _NAMES[index], "", lines)

    def record(self, level: str, text: str) -> None:
        """One log record, which may have several lines."""
        with self._lock:
            self._emit(current.find() or self.idle, "log", level, [text])

    def finish(self, call: Call) -> None:
        """The invocation ends: its unfinished lines leave."""
        with self._lock:
            for index, text in enumerate(call.partial or ()):
                if text:
                    self._emit(call, _NAMES[index], "", [text])
            call.partial = None

    def _emit(self, owner: Call | Bucket, name: str, level: str, lines: Iterable[str]) -> None:
        frames: list[bytes] = []
        for line in lines:
            for start in range(0, len(line) or 1, _PIECE):
                text = line[start : start + _PIECE]
                left = owner.log_bytes - 1 - (len(text) if text.isascii() else len(text.encode("utf-8", "replace")))
                if left < 0:
                    if not owner.log_cut:
                        owner.log_cut = True
                        notice = f"log cut: more than {self.limit_bytes} bytes; raise `log` to keep more"
                        frames.append(_frame(owner.stream, name, "warning", notice))
                    break
                owner.log_bytes = left
                frames.append(_frame(owner.stream, name, level, text))
            if owner.log_cut:
                break
        if not frames:
            return
        data = b"".join(frames)
        if self._send is None:
            self._waiting.append(data)
            return
        try:
            self._send(data)
        except OSError:  # the platform is gone; the serve loop notices by itself
            pass


class Bucket:
    """Text that belongs to no invocation: its own limit, renewed with every invocation that starts."""

    stream = 0

    def __init__(self, log_bytes: int) -> None:
        self.log_bytes = log_bytes
        self.log_cut = False
        self.partial: Optional[list[str]] = None


class LogWriter(io.TextIOBase):
    """Stands in for sys.stdout and sys.stderr."""

    def __init__(self, spool: Spool, index: int) -> None:
        self._spool = spool
        self._index = index
        self.buffer = LogBytes(self)

    name = property(lambda self: f"<{_NAMES[self._index]}>")
    encoding = "utf-8"
    errors = "replace"
    newlines = None
    line_buffering = True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._spool.write(self._index, text)
        return len(text)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._index + 1

    def flush(self) -> None:
        """Nothing to do: finished lines have left, unfinished ones leave with the invocation."""

    def close(self) -> None:
        """Stay open: a program that closes its standard output still has a log."""

    def reconfigure(self, **_: Any) -> None:
        """Accepted and ignored; the log is UTF-8 and line-buffered."""


class LogBytes(io.RawIOBase):
    """`sys.stdout.buffer`."""

    def __init__(self, text: LogWriter) -> None:
        self._text = text

    @property
    def raw(self) -> LogBytes:
        return self

    def write(self, data: Any) -> int:
        view = bytes(data)
        self._text.write(view.decode("utf-8", "replace"))
        return len(view)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._text.fileno()

    def close(self) -> None:
        """Stay open."""


class LogHandler(logging.Handler):
    """The root logger's handler: the level travels apart from the text."""

    def __init__(self, spool: Spool) -> None:
        super().__init__()
        self._spool = spool

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._spool.record(record.levelname.lower(), self.format(record))
        except Exception:
            self.handleError(record)


class _Format(logging.Formatter):
    """`logger: message` with a traceback below; the root logger and the function's own go without a name."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.name == "root" or record.name == self.own else f"{record.name}: {text}"

    own = ""


spool = Spool()
# Made once: a copy of a zygote then only points at them.
_writers = (LogWriter(spool, 0), LogWriter(spool, 1))
_handler = LogHandler(spool)
_format = _Format()


def install(function: str, limit_bytes: int, send: Optional[Callable[[bytes], None]] = None) -> None:
    """Replace sys.stdout, sys.stderr and the root logger's handlers. `logging.basicConfig` of the author then adjusts
    the platform's handler where it only names level and format, and replaces it where it names a target."""
    spool.limit_bytes = limit_bytes
    spool.unbind()
    if send is not None:
        spool.bind(send)
    sys.stdout, sys.stderr = _writers
    _format.own = function
    install_handler()


def install_handler() -> None:
    """Make the root logger's only handler ours, once."""
    root = logging.getLogger()
    if root.handlers == [_handler]:
        return
    _handler.setFormatter(_format)
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(_handler)
    root.setLevel(logging.INFO)
    if not hasattr(logging.basicConfig, "fuyun"):
        _adapt_basic_config(logging.basicConfig)


def _adapt_basic_config(original: Callable[..., None]) -> None:
    def basic_config(**given: Any) -> None:
        root = logging.getLogger()
        ours = len(root.handlers) == 1 and isinstance(root.handlers[0], LogHandler)
        if not ours or given.get("force"):
            original(**given)
        elif any(given.get(key) is not None for key in ("filename", "stream", "handlers")):
            original(**dict(given, force=True))
        else:
            handler = root.handlers[0]
            formatter = handler.formatter
            if any(given.get(key) for key in ("format", "datefmt", "style")):
                formatter = None  # basicConfig sets its own where there is none
            handler.setFormatter(formatter)
            original(**dict(given, handlers=[handler], force=True))

    basic_config.__doc__ = original.__doc__
    basic_config.fuyun = True  # type: ignore[attr-defined]
    logging.basicConfig = basic_config


def frames_for_failure() -> bytes:
    """What was written while no connection was known."""
    with spool._lock:
        for index, text in enumerate(spool.idle.partial or ()):
            if text:
                spool._emit(spool.idle, _NAMES[index], "", [text])
        spool.idle.partial = None
        waiting, spool._waiting = spool._waiting, []
        return b"".join(waiting)


def escape_fork() -> None:
    """In a child the author's code forked: the connection is the parent's, so text goes to the real descriptors."""
    spool.unbind()
    spool.bind(_to_descriptor)


def _to_descriptor(data: bytes) -> None:
    start = 0
    while start < len(data):
        length = HEADER.unpack_from(data, start)[0]
        start += HEADER.size
        from json import loads

        line = loads(data[start : start + length])
        os.write(1 if line["s"] == "stdout" else 2, (line["t"] + "\n").encode())
        start += length


def _frame(stream: int, name: str, level: str, text: str) -> bytes:
    payload = dumps({"s": name, "l": level, "t": text})
    return HEADER.pack(len(payload), LOG, 0, 0, stream) + payload
