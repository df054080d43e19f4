"""Finished trees of files: made world-readable, measured, brought to the disk."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

from fuyun.domain.errors import BadRequest


def settle(tree: Path) -> int:
    """Make `tree` what every instance may read: folders 0755, files 0644 or 0755, owned by this process, fsynced.

    Bytes of all its files. BadRequest for devices, sockets, pipes and links that lead out of the tree.
    """
    root = os.path.realpath(tree)
    uid, gid = os.geteuid(), os.getegid()
    total = 0
    folders: list[str] = []
    files: list[str] = []
    for folder, _, _ in os.walk(tree, topdown=False):
        folders.append(folder)
        with os.scandir(folder) as scan:
            entries = list(scan)
        for entry in entries:
            info = entry.stat(follow_symlinks=False)
            if info.st_uid != uid or info.st_gid != gid:
                os.chown(entry.path, uid, gid, follow_symlinks=False)
            if stat.S_ISLNK(info.st_mode):
                _check_link(root, entry.path)
            elif stat.S_ISREG(info.st_mode):
                os.chmod(entry.path, 0o755 if info.st_mode & 0o111 else 0o644)
                files.append(entry.path)
                total += info.st_size
            elif not stat.S_ISDIR(info.st_mode):
                raise BadRequest(f"{os.path.relpath(entry.path, root)} is a device, socket or pipe; remove it")
    for path in folders:
        os.chmod(path, 0o755)
    # Everything is written before the first fsync: it then carries most of the others' blocks along.
    for path in [*files, *folders]:
        sync(path)
    return total


def _check_link(root: str, path: str) -> None:
    target = os.readlink(path)
    if os.path.isabs(target) or os.path.commonpath([root, os.path.realpath(path)]) != root:
        raise BadRequest(f"{os.path.relpath(path, root)} links to {target}, outside its tree; copy the file instead")


def sync(path: str | Path) -> None:
    """fsync a file or a folder."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def move_in(source: Path, target: Path) -> None:
    """Rename `source` to `target`, across file systems by way of a copy (links stay links)."""
    try:
        source.rename(target)
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        shutil.copytree(source, target, symlinks=True)
        shutil.rmtree(source)
