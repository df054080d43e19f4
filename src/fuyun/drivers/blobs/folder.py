"""Artifacts in a folder: `<root>/<two digits>/<digest>/` holds the tree, `<digest>.json` beside it what is known of it.

Both are prepared under `<root>/.tmp` and renamed, the description first: a tree is there only when it is whole and
described. What a crash leaves (temporary folders, descriptions without a tree) is swept by `open`. The description's
modification time is when the artifact was last wanted.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import threading
from collections.abc import AsyncIterable
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec

from fuyun.base import archive as zips
from fuyun.base import clock, faults, ids
from fuyun.domain.errors import BadRequest, PayloadTooLarge
from fuyun.domain.functions import Artifact
from fuyun.drivers.blobs import trees
from fuyun.drivers.disk import translated

_TMP = ".tmp"
#: An archive that arrives is written in blocks of this size.
_BLOCK_BYTES = 2**20
_DIGEST = re.compile(r"[0-9a-f]{64}")


class FolderBlobs:
    """`ports.blobs.BlobStore` on a local disk. One process owns a root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()  # between taking an artifact into use and collecting it

    @classmethod
    def open(cls, root: Path) -> Self:
        """Create the root where missing and sweep what a crash left. StorageFull when it cannot be written."""
        store = cls(root)
        with translated(root):
            root.mkdir(mode=0o755, parents=True, exist_ok=True)
            os.chmod(root, 0o755)
            store._sweep()
            (root / _TMP).mkdir(mode=0o700)
        return store

    async def put(self, pieces: AsyncIterable[bytes], limit_bytes: int) -> Artifact:
        """See `ports.blobs.BlobStore.put`."""
        arriving = _Arriving(self._temporary())
        try:
            async for piece in pieces:
                if arriving.add(piece):
                    await asyncio.to_thread(arriving.write)
            await asyncio.to_thread(arriving.write)
            return await asyncio.to_thread(self._put, arriving, limit_bytes)
        finally:
            await asyncio.to_thread(arriving.discard)

    async def adopt(self, tree: Path, key: str) -> Artifact:
        """See `ports.blobs.BlobStore.adopt`."""
        return await asyncio.to_thread(self._adopt, tree, key)

    async def find(self, digest: str) -> Artifact | None:
        """See `ports.blobs.BlobStore.find`."""
        return await asyncio.to_thread(self._find, digest)

    def path(self, digest: str) -> Path:
        """See `ports.blobs.BlobStore.path`. BadRequest for what is no digest: no caller's text becomes a path."""
        if not _DIGEST.fullmatch(digest):
            raise BadRequest(f"{digest[:80]!r} is not a digest", hint="use the 64 hex digits an upload answered with")
        return self._root / digest[:2] / digest

    async def collect(self, keep: frozenset[str], older_than_s: float) -> int:
        """See `ports.blobs.BlobStore.collect`."""
        return await asyncio.to_thread(self._collect, keep, older_than_s)

    # --- in a thread -----------------------------------------------------------------------------------------------

    def _put(self, arrived: _Arriving, limit_bytes: int) -> Artifact:
        digest = arrived.hash.hexdigest()
        if (known := self._find(digest)) is not None:
            return known
        tmp = self._temporary()
        try:
            with translated(self._root):
                tmp.mkdir(mode=0o700)
                zips.unpack(arrived.path, tmp, limit_bytes)
                return self._place(tmp, digest)
        except zips.UnsafeArchive as exc:
            raise BadRequest(str(exc), hint="pack the folder with `fuyun deploy`, or as a plain zip of files") from exc
        except zips.ArchiveTooLarge as exc:
            raise PayloadTooLarge(
                str(exc), hint="leave files out with .fuyunignore, or list dependencies in requirements.txt",
                limit_bytes=limit_bytes,
            ) from exc  # fmt: skip
        finally:
            shutil.rmtree(tmp, ignore_errors=True)

    def _adopt(self, tree: Path, key: str) -> Artifact:
        digest = hashlib.sha256(key.encode()).hexdigest()
        if (known := self._find(digest)) is not None:
            shutil.rmtree(tree, ignore_errors=True)
            return known
        tmp = self._temporary()
        try:
            with translated(self._root):
                trees.move_in(tree, tmp)
                return self._place(tmp, digest)
        finally:
            shutil.rmtree(tmp, ignore_errors=True)

    def _place(self, tmp: Path, digest: str) -> Artifact:
        """Make the finished tree `tmp` the artifact `digest`; all of it or nothing."""
        artifact = Artifact(digest=digest, size_bytes=trees.settle(tmp))
        faults.point("blob.settled")
        target, note = self.path(digest), self._note(digest)
        target.parent.mkdir(mode=0o755, exist_ok=True)
        os.chmod(target.parent, 0o755)
        draft = self._temporary()
        draft.write_bytes(msgspec.json.encode(artifact))
        trees.sync(draft)
        with self._lock:
            draft.replace(note)
            faults.point("blob.described")
            if not target.exists():
                tmp.rename(target)
        trees.sync(target.parent)
        trees.sync(self._root)
        return artifact

    def _find(self, digest: str) -> Artifact | None:
        if not _DIGEST.fullmatch(digest):
            return None
        note = self._note(digest)
        with self._lock:
            try:
                text = note.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None
            if not self.path(digest).is_dir():
                return None
            try:
                os.utime(note)
            except OSError:  # a read-only disk still serves what it has
                pass
        return msgspec.json.decode(text, type=Artifact)

    def _collect(self, keep: frozenset[str], older_than_s: float) -> int:
        freed = 0
        latest_s = clock.wall_s() - older_than_s
        for note in sorted(self._root.glob("??/*.json")):
            digest = note.stem
            if digest in keep:
                continue
            trash = self._temporary()
            with translated(self._root), self._lock:
                if note.stat().st_mtime > latest_s:
                    continue
                artifact = msgspec.json.decode(note.read_bytes(), type=Artifact)
                self.path(digest).rename(trash)
                note.unlink()
            shutil.rmtree(trash, ignore_errors=True)
            freed += artifact.size_bytes
        return freed

    def _sweep(self) -> None:
        shutil.rmtree(self._root / _TMP, ignore_errors=True)
        for note in self._root.glob("??/*.json"):
            if not note.with_suffix("").is_dir():
                note.unlink()
        for tree in self._root.glob("??/*"):
            if tree.is_dir() and not self._note(tree.name).exists():
                shutil.rmtree(tree, ignore_errors=True)

    def _note(self, digest: str) -> Path:
        return self._root / digest[:2] / f"{digest}.json"

    def _temporary(self) -> Path:
        return self._root / _TMP / ids.new_id()


class _Arriving:
    """An archive on its way to the disk. Nothing relies on it after a crash, so it is not fsynced; its tree is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hash = hashlib.sha256()
        self._block = bytearray()
        self._lock = threading.Lock()  # a caller that is cancelled leaves its thread writing
        self._over = False

    def add(self, piece: bytes) -> bool:
        """Take a piece; whether it is time to write."""
        self._block += piece
        return len(self._block) >= _BLOCK_BYTES

    def write(self) -> None:
        """Write what was taken. StorageFull. In a thread, as `discard` is."""
        with self._lock, translated(self.path.parent):
            if self._over:
                return
            with self.path.open("ab") as file:
                file.write(self._block)
            self.hash.update(self._block)
            self._block.clear()

    def discard(self) -> None:
        """Remove the file, and write no more. One that cannot be removed is swept at the next start."""
        with self._lock, suppress(OSError):
            self._over = True
            self.path.unlink()
