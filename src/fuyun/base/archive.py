"""Deterministic zip archives: a folder packed twice, anywhere, gives the same bytes; unpacking trusts nothing.

Packing: regular files only, sorted by name, stored without compression (what a compressor emits depends on its version
and would change the hash), the time fixed at 1980-01-01, modes 0644 or 0755. Empty folders are not part of an archive,
as in git. A link is followed when it stays inside the folder and refused when it leaves it.

Unpacking takes stored and deflated zips of any origin and refuses absolute paths, `..`, links, devices, duplicate
names, encryption, overlapping entries (https://www.bamsoftware.com/hacks/zipbomb/) and sizes beyond its limits.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

#: Left out of every archive, whatever the ignore files say: version control, caches, virtual environments.
ALWAYS_IGNORED = (
    ".git/", ".hg/", ".svn/", "__pycache__/", "*.py[co]", ".venv/", "venv/", ".mypy_cache/", ".pytest_cache/",
    ".ruff_cache/", ".hypothesis/", ".idea/", ".vscode/", ".DS_Store", ".fuyunignore",
)  # fmt: skip
#: The first of these that a folder holds says what else stays out; both speak gitignore's language.
IGNORE_FILES = (".fuyunignore", ".gitignore")
#: More entries than this are refused: an index this long takes seconds to read.
MAX_ENTRIES = 100_000
MAX_INDEX_BYTES = 32 * 1024 * 1024
#: An archive may unpack to this many times its size. Deflate reaches 1032; source code and wheels stay below 20.
MAX_RATIO = 200
#: Up to this size the ratio is not looked at.
RATIO_FLOOR_BYTES = 16 * 1024 * 1024

#: What zipfile and what it stands on raise when they are fed garbage.
_GARBAGE = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError, LookupError,
    OverflowError,
)  # fmt: skip
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_CHUNK = 1024 * 1024


class UnsafeArchive(ValueError):
    """Not a zip, or one that could write outside its folder or fill the disk; the text says which entry and why."""


class ArchiveTooLarge(ValueError):
    """Unpacks to more than the limit."""


class Unpackable(ValueError):
    """The folder cannot be packed; the text names the file and the way out."""


def digest_of(archive: bytes) -> str:
    """SHA-256 of the archive in hex: its name in a blob store."""
    return hashlib.sha256(archive).hexdigest()


def pack(folder: Path, ignore: Iterable[str] = ()) -> bytes:
    """The archive of `folder`, without what `ignore` (gitignore patterns) and its ignore file leave out.

    Raises Unpackable (nothing to pack, a link out of the folder, a device or socket, a name that is not UTF-8) and
    OSError. Sizes up to a few hundred MiB: the archive is built in memory.
    """
    files = list_files(folder, ignore)
    if not files:
        raise Unpackable(f"{folder} holds no files to pack; check the path and its {IGNORE_FILES[0]}")
    return pack_files((name, path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR)) for name, path in files)


def pack_files(files: Iterable[tuple[str, bytes, bool]]) -> bytes:
    """The archive of `files`: name, content, whether it can be executed."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content, executable in files:
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = _UNIX
            info.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
            archive.writestr(info, content)
    return out.getvalue()


def list_files(folder: Path, ignore: Iterable[str] = ()) -> list[tuple[str, Path]]:
    """(name in the archive, file) of all that `pack` would take, sorted by name."""
    if not folder.is_dir():
        raise Unpackable(f"{folder} is not a folder; name the folder that holds the code")
    from pathspec import GitIgnoreSpec  # 50 ms of import that only packing needs

    patterns = [*_ignore_lines(folder), *ignore, *ALWAYS_IGNORED]
    spec = GitIgnoreSpec.from_lines(patterns, backend="simple")  # others refuse names that are not UTF-8
    root = folder.resolve()
    return sorted(_walk(root, root, "", spec.match_file, frozenset({root})))


def _ignore_lines(folder: Path) -> list[str]:
    for name in IGNORE_FILES:
        path = folder / name
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace").splitlines()
    return []


def _walk(
    root: Path, folder: Path, prefix: str, ignored: Callable[[str], bool], inside: frozenset[Path]
) -> Iterator[tuple[str, Path]]:
    with os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        name = prefix + entry.name
        is_dir = entry.is_dir()
        if ignored(name + "/" if is_dir else name):
            continue
        try:
            name.encode()
        except UnicodeEncodeError:
            raise Unpackable(f"{name!r} is not a UTF-8 file name; rename it") from None
        if "\\" in name or any(ord(letter) < 32 for letter in name):
            raise Unpackable(f"{name!r} holds a backslash or control character; rename it or add it to .fuyunignore")
        path = Path(entry.path)
        if entry.is_symlink():
            path = _follow(root, name, path)
        if is_dir:
            if path in inside:
                raise Unpackable(f"{name} links to a folder it lies in; remove the link or add it to .fuyunignore")
            yield from _walk(root, path, name + "/", ignored, inside | {path})
        elif entry.is_file():
            yield name, path
        else:
            raise Unpackable(f"{name} is neither a file nor a folder; add it to .fuyunignore")


def _follow(root: Path, name: str, path: Path) -> Path:
    try:
        target = path.resolve(strict=True)
    except OSError:
        raise Unpackable(f"{name} is a broken link; remove it or add it to .fuyunignore") from None
    if not target.is_relative_to(root):
        raise Unpackable(f"{name} links to {target}, outside the folder; copy it in or add it to .fuyunignore")
    return target


class _Bounded(io.FileIO):
    """A file that is not believed: places outside it are garbage, and an index too long to be one is not read
    (`zipfile` reads it at once, before anyone has looked at it)."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """ValueError for places that no file has."""
        try:
            return super().seek(offset, whence)
        except OSError as exc:
            raise ValueError(f"it points to place {offset}") from exc

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `MAX_INDEX_BYTES`."""
        if size is not None and size > MAX_INDEX_BYTES:
            raise UnsafeArchive(f"the archive's index has {size} bytes; at most {MAX_INDEX_BYTES} are taken")
        return super().read(MAX_INDEX_BYTES if size is None or size < 0 else size) or b""


def unpack(archive: Path, target: Path, limit_bytes: int) -> int:
    """Unpack the file `archive` into the existing empty folder `target`; bytes of all files. Modes become 0644 or 0755,
    folders' 0755.

    Raises UnsafeArchive and ArchiveTooLarge before anything is written where the archive's index already shows it, and
    OSError. Leaves what it wrote behind on error: unpack into a temporary folder.
    """
    try:
        with _Bounded(archive) as file, zipfile.ZipFile(file) as source:
            entries = source.infolist()
            _check_index(entries, os.fstat(file.fileno()).st_size, limit_bytes)
            total = 0
            for info in entries:
                total += _extract(source, info, target)
            return total
    except (UnsafeArchive, ArchiveTooLarge):
        raise
    except _GARBAGE as exc:
        raise UnsafeArchive(f"the archive is damaged or no zip: {exc}") from exc


def _check_index(entries: list[zipfile.ZipInfo], archive_bytes: int, limit_bytes: int) -> None:
    if len(entries) > MAX_ENTRIES:
        raise UnsafeArchive(f"the archive has {len(entries)} entries; at most {MAX_ENTRIES} are taken")
    files: set[str] = set()
    folders: set[str] = set()
    for info in entries:
        name = _check_entry(info)
        if name in files or (name in folders and not info.is_dir()):
            raise UnsafeArchive(f"{name!r} is in the archive twice")
        (folders if info.is_dir() else files).add(name)
        parent = name.rpartition("/")[0]
        while parent and parent not in folders:
            folders.add(parent)
            parent = parent.rpartition("/")[0]
    if clash := files & folders:
        raise UnsafeArchive(f"{min(clash)!r} is both a file and a folder in the archive")
    if sum(info.compress_size for info in entries) > archive_bytes:
        raise UnsafeArchive("entries of the archive overlap")
    total = sum(info.file_size for info in entries)
    if total > limit_bytes:
        raise ArchiveTooLarge(f"the archive unpacks to {total} bytes; the limit is {limit_bytes}")
    if total > RATIO_FLOOR_BYTES and total > MAX_RATIO * archive_bytes:
        raise UnsafeArchive(f"the archive unpacks to {total // archive_bytes} times its size; {MAX_RATIO} is the limit")


def _check_entry(info: zipfile.ZipInfo) -> str:
    """The entry's name without a trailing slash, when it may be unpacked."""
    name = info.filename
    parts = name.removesuffix("/").split("/")
    if name.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise UnsafeArchive(f"{name!r} would leave the folder; use plain relative names")
    if "\\" in name or any(ord(letter) < 32 for letter in name) or "\0" in info.orig_filename:
        raise UnsafeArchive(f"{name!r} holds a backslash or control character")
    if any(len(part.encode("utf-8", "surrogateescape")) > 255 for part in parts) or len(name) > 3000:
        raise UnsafeArchive(f"{name[:60]!r}… is too long a name")
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == _UNIX else 0
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR) > info.is_dir():
        raise UnsafeArchive(f"{name!r} is a link, device or pipe; only files and folders are taken")
    if info.flag_bits & 0x1:
        raise UnsafeArchive(f"{name!r} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnsafeArchive(f"{name!r} is compressed by method {info.compress_type}; use deflate")
    return "/".join(parts)


def _extract(source: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> int:
    path = target / info.filename
    if info.is_dir():
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        return 0
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    executable = info.create_system == _UNIX and (info.external_attr >> 16) & 0o111
    written = 0
    with source.open(info) as packed, path.open("xb") as file:
        while chunk := packed.read(_CHUNK):
            written += len(chunk)
            if written > info.file_size:
                raise UnsafeArchive(f"{info.filename!r} is longer than the index says")
            file.write(chunk)
        os.fchmod(file.fileno(), 0o755 if executable else 0o644)
    return written
