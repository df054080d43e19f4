"""The root of an unpacked image, made fit to be mounted read-only by every instance. All of it blocks.

What unpacked it ran in a sandbox and is not trusted: no link is followed before it is known to stay inside.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from fuyun.domain.errors import BuildFailed

_LARGEST_TEXT = 8 * 2**20
#: Made empty: instances have their own.
_EMPTIED = ("dev", "proc", "sys", "tmp", "run")
#: Files of the instance that are mounted over the image's.
_FILES = ("resolv.conf", "hosts", "hostname")
_NOBODY = 2**32 - 1


def read(folder: Path, name: str) -> bytes:
    """A plain file of sensible size below `folder`. OSError, ValueError."""
    path = folder / name
    if os.path.realpath(path) != os.path.join(os.path.realpath(folder), name):
        raise ValueError(f"{name} is a link")
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_TEXT:
            raise ValueError(f"{name} is no plain file below {_LARGEST_TEXT} bytes")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(_LARGEST_TEXT)
    finally:
        os.close(descriptor)


def clean(root: Path) -> None:
    """Readable folders, links that stay inside wherever the tree is mounted, no devices, sockets and pipes."""
    if root.is_symlink() or not root.is_dir():
        raise BuildFailed("the image has no files", hint="check it with skopeo inspect", log=[])
    for folder, folders, files in os.walk(root):
        os.chmod(folder, 0o755)
        depth = len(Path(folder).relative_to(root).parts)
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                _turn_inwards(path, depth)
            elif stat.S_ISDIR(mode):
                os.chmod(path, 0o755)
            elif not stat.S_ISREG(mode):
                os.unlink(path)


def _turn_inwards(link: str, depth: int) -> None:
    """What is absolute becomes relative to the link, `depth` folders below the root; `..` ends at the root."""
    target = os.readlink(link)
    if target.startswith("/"):
        parts = [".."] * depth + _clamped(target, 0)
    else:
        parts = _clamped(target, depth)
    inward = "/".join(parts) or "."
    if inward != target:
        os.unlink(link)
        os.symlink(inward, link)


def _clamped(target: str, depth: int) -> list[str]:
    """The parts of `target`, with no more leading `..` than lead to the root."""
    parts = [part for part in target.split("/") if part not in ("", ".")]
    leading = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
    return parts[max(0, leading - depth) :]


def furnish(root: Path) -> None:
    """Make the places that `runtime.rootfs.SHOWN` names."""
    for name in _EMPTIED:
        _remove(root / name)
        (root / name).mkdir()
    if (root / "etc").is_symlink() or not (root / "etc").is_dir():
        _remove(root / "etc")
        (root / "etc").mkdir()
    for name in _FILES:
        _remove(root / "etc" / name)
        (root / "etc" / name).touch()


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def folder_in(root: Path, path: str) -> str:
    """The working directory, made where it is missing. BuildFailed."""
    if not path.startswith("/") or "\0" in path:
        raise BuildFailed(f"the image's working directory is {path[:200]!r}", hint="use an absolute path", log=[])
    inside = Path(os.path.realpath(f"{root}/{path.lstrip('/')}"))
    if not inside.is_relative_to(os.path.realpath(root)):
        raise BuildFailed(f"the image's working directory {path} leads out of it", hint="name another", log=[])
    try:
        inside.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise BuildFailed(f"the image's working directory {path} is a file", hint="name a folder", log=[]) from exc
    return "/" + str(inside.relative_to(os.path.realpath(root))).removeprefix(".")


def user_of(root: Path, user: str) -> tuple[int | None, int | None]:
    """The ids of `USER[:GROUP]`, numbers or names in the image's passwd(5) and group(5); None without. BuildFailed."""
    if not user:
        return None, None
    name, _, group = user.partition(":")
    people, groups = _lines(root, "passwd", 4), _lines(root, "group", 3)
    if name.isdigit():
        uid, gid = int(name), next((int(line[3]) for line in people if line[2] == name), 0)
    else:
        uid, gid = next(((int(line[2]), int(line[3])) for line in people if line[0] == name), (-1, -1))
    if group:
        gid = int(group) if group.isdigit() else next((int(line[2]) for line in groups if line[0] == group), -1)
    if not (0 <= uid < _NOBODY and 0 <= gid < _NOBODY):
        raise BuildFailed(
            f"the image's user is {user[:80]!r}, which its /etc/passwd and /etc/group do not have",
            hint="make the user in the image, or name it by number", log=[],
        )  # fmt: skip
    return uid, gid


def _lines(root: Path, name: str, least: int) -> list[list[str]]:
    """The lines of a table in /etc whose ids are numbers."""
    try:
        path = os.path.relpath(os.path.realpath(root / "etc" / name), os.path.realpath(root))
        text = read(Path(os.path.realpath(root)), path).decode("utf-8", "replace")
    except (OSError, ValueError):
        return []
    found = [line.split(":") for line in text.splitlines()]
    return [line for line in found if len(line) >= least and all(part.isdigit() for part in line[2:least])]
