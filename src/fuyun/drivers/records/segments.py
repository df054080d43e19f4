"""Segments: JSON lines of one function and one hour, `<root>/<namespace>/<function>/<hour>-<part>.<kind>.jsonl`.

`hour` is UTC (`20260131T07`) and comes from when the invocation arrived, which its id tells too. A segment grows to
`SEGMENT_BYTES`, then the next part begins, so that space can be given back in pieces. Within a segment lines stand in
the order of completion. A line that a crash tore is closed by the next append and skipped by readers.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from fuyun.base import faults

Kind = Literal["invocations", "logs"]

SEGMENT_BYTES = 64 * 2**20
BLOCK_BYTES = 256 * 1024

_NAME = re.compile(r"(\d{8}T\d{2})-(\d{6})\.(invocations|logs)\.jsonl")
_HOUR_S = 3600


class Segment(NamedTuple):
    """A file and what its name says. Sorts by time, then part."""

    hour: str
    part: int
    kind: str
    path: str

    @property
    def start_s(self) -> float:
        """Wall clock at which its hour begins."""
        return datetime.strptime(self.hour + "+0000", "%Y%m%dT%H%z").timestamp()

    @property
    def end_s(self) -> float:
        """Wall clock at which its hour ends."""
        return self.start_s + _HOUR_S


def hour_of(at_s: float) -> str:
    """The hour that a time belongs to."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y%m%dT%H")


def list_segments(folder: str, kind: str = "") -> list[Segment]:
    """The segments of a function, oldest first."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [(match, name) for name in names if (match := _NAME.fullmatch(name))]
    return sorted(
        Segment(match[1], int(match[2]), match[3], os.path.join(folder, name))
        for match, name in found
        if kind in ("", match[3])
    )


class Appender:
    """Appends blocks of lines; used by one thread. `bound_bytes` is what one function may hold."""

    def __init__(self, root: Path, bound_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._root = root
        self._bound_bytes = bound_bytes
        self._segment_bytes = segment_bytes
        self._parts: dict[tuple[str, str, str, str], int] = {}  # (namespace, function, hour, kind) -> part written to

    def append(self, namespace: str, function: str, hour: str, kind: Kind, lines: bytes | bytearray) -> None:
        """Write whole lines, all or none of them (but for a crash). OSError."""
        key = (namespace, function, hour, kind)
        part = self._parts.get(key)
        if part is None:
            part = self._begin(key)
        path = self._path(key, part)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # the function's folder was removed meanwhile
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            _write_all(fd, lines, size)
        finally:
            os.close(fd)
        if size + len(lines) >= self._segment_bytes:
            self._parts[key] = part + 1
            self._make_room(os.path.dirname(path))

    def forget(self) -> None:
        """Look at the folders afresh."""
        self._parts.clear()

    def _begin(self, key: tuple[str, str, str, str]) -> int:
        """The part to go on with, its torn last line closed."""
        namespace, function, hour, kind = key
        if len(self._parts) > 10_000:  # hours that are over
            self._parts.clear()
        folder = os.path.join(self._root, namespace, function)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        mine = [segment for segment in list_segments(folder, kind) if segment.hour == hour]
        part = mine[-1].part if mine else 0
        if mine:
            _close_torn_line(mine[-1].path)
            if os.path.getsize(mine[-1].path) >= self._segment_bytes:
                part += 1
        self._parts[key] = part
        return part

    def _path(self, key: tuple[str, str, str, str], part: int) -> str:
        namespace, function, hour, kind = key
        return os.path.join(self._root, namespace, function, f"{hour}-{part:06d}.{kind}.jsonl")

    def _make_room(self, folder: str) -> None:
        drop_beyond(list_segments(folder), self._bound_bytes)


def _write_all(fd: int, lines: bytes | bytearray, size: int) -> None:
    view = memoryview(lines)
    try:
        while view:
            written = os.write(fd, view)
            view = view[written:]
            if view:
                faults.point("records.partial")
    except OSError:
        os.ftruncate(fd, size)
        raise


def _close_torn_line(path: str) -> None:
    with open(path, "r+b") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":
                file.write(b"\n")


def drop_beyond(segments: list[Segment], bound_bytes: int) -> int:
    """Remove the oldest segments until the rest holds at most `bound_bytes`; the newest stays. Files removed."""
    sizes = [_size(segment.path) for segment in segments]
    total = sum(sizes)
    removed = 0
    for segment, size in zip(segments[:-1], sizes):
        if total <= bound_bytes:
            break
        removed += remove(segment.path)
        total -= size
    return removed


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


def remove(path: str) -> int:
    """Remove a segment; 1, or 0 when it was gone already."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return 0
    return 1


def drop_before(root: Path, before_s: float, bound_bytes: int) -> int:
    """Remove segments that ended before, and what functions hold beyond the bound; empty folders too. Files removed."""
    removed = 0
    for folder in sorted(root.glob("*/*")):
        segments = list_segments(str(folder))
        old = [segment for segment in segments if segment.end_s <= before_s]
        removed += sum(remove(segment.path) for segment in old)
        removed += drop_beyond(segments[len(old) :], bound_bytes)
        for empty in (folder, folder.parent):
            try:
                empty.rmdir()
            except OSError:  # it is not empty
                break
    return removed


def drop_all(folder: Path) -> None:
    """Remove a function's folder, or a namespace's."""
    shutil.rmtree(folder, ignore_errors=True)


def read_backwards(path: str) -> Iterator[bytes]:
    """The lines of a segment, newest first, without their line feed; whatever is torn included."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        end = os.fstat(fd).st_size
        rest = b""
        while end > 0:
            start = max(0, end - BLOCK_BYTES)
            lines = (_read_at(fd, start, end - start) + rest).split(b"\n")
            rest = lines[0]
            yield from (line for line in reversed(lines[1:]) if line)
            end = start
        if rest:
            yield rest
    finally:
        os.close(fd)


def read_forwards(path: str, start: int, most: int) -> tuple[list[tuple[int, bytes]], int]:
    """Up to `most` whole lines from the offset `start` on, each with its own offset, without their line feed; and the
    offset behind them."""
    found: list[tuple[int, bytes]] = []
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return [], start
    try:
        rest, at = b"", start if start <= os.fstat(fd).st_size else 0  # another file of the same name
        while len(found) < most and (block := os.pread(fd, BLOCK_BYTES, at + len(rest))):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines[: most - len(found)]:
                found.append((at, line))
                at += len(line) + 1
            if len(found) == most:
                break
        return found, at
    finally:
        os.close(fd)


def _read_at(fd: int, start: int, size: int) -> bytes:
    pieces = []
    while size > 0:
        piece = os.pread(fd, size, start)
        if not piece:
            break
        pieces.append(piece)
        start += len(piece)
        size -= len(piece)
    return b"".join(pieces)
