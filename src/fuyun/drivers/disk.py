"""The operating system's file errors as Fuyun's: one table for every driver that writes files."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fuyun.domain.errors import FuyunError, OperatorError, StorageFull

#: errno -> (error, what happened, what to do next)
_TABLE: dict[int, tuple[type[FuyunError], str, str]] = {
    errno.ENOSPC: (StorageFull, "the disk is full", "free space on that disk; the request may then be repeated"),
    errno.EDQUOT: (StorageFull, "the disk quota is used up", "raise the quota or free space, then repeat the request"),
    errno.EFBIG: (StorageFull, "the file size limit is reached", "raise the limit of the process (ulimit -f)"),
    errno.EROFS: (StorageFull, "the disk is read-only", "mount it writable; look for disk errors in dmesg"),
    errno.EACCES: (StorageFull, "the folder may not be written", "give the user that runs Fuyun write access"),
    errno.EPERM: (StorageFull, "the folder may not be written", "give the user that runs Fuyun write access"),
    errno.EIO: (OperatorError, "the disk reports an error", "look into dmesg; restore a backup to another disk"),
    errno.EMFILE: (OperatorError, "too many files are open", "raise the limit of open files (ulimit -n)"),
    errno.ENFILE: (OperatorError, "too many files are open on this host", "raise fs.file-max"),
    errno.ENOTDIR: (OperatorError, "a file is where a folder should be", "move it away"),
}


def translate(exc: OSError, place: Path) -> FuyunError | None:
    """The error for `exc` met while working in `place`; None when the table does not know it."""
    row = _TABLE.get(exc.errno or 0)
    if row is None:
        return None
    kind, happened, hint = row
    return kind(f"{place}: {happened}", hint=hint, path=str(exc.filename or place))


@contextmanager
def translated(place: Path) -> Iterator[None]:
    """Raise the table's error for every OSError of the body that it knows."""
    try:
        yield
    except OSError as exc:
        known = translate(exc, place)
        if known is None:
            raise
        raise known from exc
