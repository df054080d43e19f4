"""The folders of builds: a room per build, gone with it, and the files that outlive one."""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from fuyun.base.ids import new_id
from fuyun.base.units import format_size
from fuyun.domain.errors import BuildFailed

_LOCK_BYTES = 8 * 2**20


@dataclass(slots=True)
class Room:
    """A build's own folder. Sandboxes may write `cache`, `scratch` and `out`, never the folder itself."""

    path: Path
    built: bool = False  # code of packages has run here: only the private cache may be used

    @property
    def cache(self) -> Path:
        """The private cache."""
        return self.path / "cache"

    @property
    def scratch(self) -> Path:
        """Home and temporary files."""
        return self.path / "scratch"

    @property
    def out(self) -> Path:
        """What a run writes."""
        return self.path / "out"


def new_room(parent: Path) -> Room:
    """An empty room. Blocking."""
    room = Room(parent / new_id())
    for folder in (room.path, room.cache, room.scratch, room.out):
        folder.mkdir()
    return room


def discard(path: Path) -> None:
    """Remove a folder whatever its modes; what cannot be removed stays for the next start. Blocking."""
    if not path.exists():
        return
    for folder, folders, _ in os.walk(path):
        for name in folders:
            child = os.path.join(folder, name)
            if not os.path.islink(child):
                try:
                    os.chmod(child, 0o700)
                except OSError:
                    pass
    shutil.rmtree(path, ignore_errors=True)


def empty(path: Path) -> None:
    """Make `path` an empty folder. Blocking."""
    discard(path)
    path.mkdir(parents=True, exist_ok=True)


def size_of(path: Path) -> int:
    """Bytes of the files below `path`. Blocking."""
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                pass
    return total


def finish(tree: Path, limit_bytes: int) -> None:
    """Drop uv's own lock from a finished tree; BuildFailed when the tree is larger than `limit_bytes`. Blocking."""
    try:
        (tree / ".lock").unlink()
    except OSError:
        pass
    size_bytes = size_of(tree)
    if size_bytes > limit_bytes:
        raise BuildFailed(
            f"the build left {format_size(size_bytes)}, the limit is {format_size(limit_bytes)}",
            hint="remove packages that the function does not need",
            log=[],
            limit_bytes=limit_bytes,
            size_bytes=size_bytes,
        )


def read_output(path: Path) -> str:
    """A text that a sandbox wrote: a plain file of sensible size, not a link to something of ours. Blocking."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise _tampered() from exc
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LOCK_BYTES:
            raise _tampered()
        return file.read(_LOCK_BYTES).decode("utf-8", "replace")


def _tampered() -> BuildFailed:
    return BuildFailed(
        "resolving the requirements left no usable lock",
        hint="a package interferes while it is built; remove it",
        log=[],
    )


def read_text(path: Path) -> str | None:
    """The text of a file of ours, None when there is none. Blocking."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def write_text(path: Path, text: str) -> None:
    """Atomically: a reader sees all of it or nothing. Blocking."""
    draft = path.with_name(f"{path.name}.{new_id()}")
    draft.write_text(text)
    os.replace(draft, path)


def copy_modules(source: Path, target: Path) -> bool:
    """Copy a folder of code when it has modules to compile; False, with nothing copied, when it has none. Blocking."""
    if not any(source.rglob("*.py")):
        return False
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    return True
