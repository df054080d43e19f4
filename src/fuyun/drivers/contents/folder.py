"""Contents in a folder: `<root>/<two digits>/<digest>`, each a file.

Bytes arrive in `<root>/.tmp`; the file is synced, then renamed, then its folder is synced. What a crash leaves in
`.tmp` is swept by `open_root`. Blocks are written and hashed in threads, one block at a time per content.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import threading
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Self

from fuyun.base import faults, ids
from fuyun.domain.errors import NotFound
from fuyun.domain.objects import Content
from fuyun.drivers.disk import translated
from fuyun.ports.contents import Tap

_TMP = ".tmp"
#: Bytes are written and hashed in blocks of this size: a thread's turn costs about 50 µs, a block 2 ms.
BLOCK_BYTES = 2**20
_DIGEST = re.compile(r"[0-9a-f]{64}")


class FolderContents:
    """`ports.contents.ContentStore` on a local disk. One process owns a root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()  # over what is held and doomed, and the files those decide about
        self._held: dict[str, int] = {}
        self._doomed: set[str] = set()

    @classmethod
    def open_root(cls, root: Path) -> Self:
        """Create the root where missing and sweep what a crash left. StorageFull when it cannot be written."""
        store = cls(root)
        with translated(root):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.rmtree(root / _TMP, ignore_errors=True)
            (root / _TMP).mkdir(mode=0o700)
            for number in range(256):
                (root / f"{number:02x}").mkdir(mode=0o700, exist_ok=True)
            _sync(root)
        return store

    @asynccontextmanager
    async def receive(self, taps: Sequence[Tap] = ()) -> AsyncIterator[_Arriving]:
        """See `ports.contents.ContentStore.receive`."""
        arriving = _Arriving(self, self._root / _TMP / ids.new_id(), taps)
        try:
            yield arriving
        finally:
            await asyncio.to_thread(arriving.end)

    async def open(self, content: Content) -> BinaryIO:
        """See `ports.contents.ContentStore.open`."""
        return await asyncio.to_thread(self._open, content.digest)

    def doom(self, digests: Iterable[str]) -> None:
        """See `ports.contents.ContentStore.doom`."""
        with self._lock:
            self._doomed.update(digest for digest in digests if digest not in self._held)

    def spare(self, digests: Iterable[str]) -> None:
        """See `ports.contents.ContentStore.spare`."""
        with self._lock:
            self._doomed.difference_update(digests)

    async def remove(self, digests: Iterable[str]) -> int:
        """See `ports.contents.ContentStore.remove`."""
        return await asyncio.to_thread(self._remove, tuple(digests))

    async def scan(self, batch: int = 500) -> AsyncIterator[list[str]]:
        """See `ports.contents.ContentStore.scan`."""
        for number in range(256):
            names = await asyncio.to_thread(self._names, self._root / f"{number:02x}")
            for start in range(0, len(names), batch):
                yield names[start : start + batch]

    # --- in a thread -----------------------------------------------------------------------------------------------

    def place(self, draft: Path, digest: str) -> None:
        """Make the synced file `draft` the content `digest`, and hold it."""
        target = self._path(digest)
        with self._lock:
            if target.exists():
                draft.unlink()
            else:
                draft.replace(target)
            self._held[digest] = self._held.get(digest, 0) + 1
            self._doomed.discard(digest)
        faults.point("contents.placed")
        try:
            _sync(target.parent)
        except BaseException:
            self.release(digest)
            raise

    def release(self, digest: str) -> None:
        """End one hold."""
        with self._lock:
            self._held[digest] -= 1
            if not self._held[digest]:
                del self._held[digest]

    def _open(self, digest: str) -> BinaryIO:
        with translated(self._root):
            try:
                return self._path(digest).open("rb", buffering=0)
            except FileNotFoundError:
                raise NotFound(f"there is no content {digest[:12]}", kind="content", name=digest) from None

    def _remove(self, digests: tuple[str, ...]) -> int:
        freed = 0
        for digest in digests:
            with translated(self._root), self._lock, suppress(FileNotFoundError):
                if digest not in self._doomed:
                    continue
                self._doomed.discard(digest)
                if digest in self._held:
                    continue
                path = self._path(digest)
                size = path.stat().st_size
                path.unlink()
                freed += size
        return freed

    def _names(self, folder: Path) -> list[str]:
        with translated(self._root):
            return sorted(name for name in os.listdir(folder) if _DIGEST.fullmatch(name))

    def _path(self, digest: str) -> Path:
        return self._root / digest[:2] / digest


class _Arriving:
    """See `ports.contents.Receiver`."""

    def __init__(self, store: FolderContents, path: Path, taps: Sequence[Tap]) -> None:
        self._store = store
        self._path = path
        self._taps = taps
        self._hash = hashlib.sha256()
        self._size_bytes = 0
        self._block: list[bytes] = []
        self._block_bytes = 0
        self._file: BinaryIO | None = None
        self._held = ""
        self._lock = threading.Lock()  # a caller that is cancelled leaves its thread writing
        self._over = False

    async def write(self, data: bytes) -> None:
        """See `ports.contents.Receiver.write`."""
        self._block.append(data)
        self._block_bytes += len(data)
        if self._block_bytes >= BLOCK_BYTES:
            await asyncio.to_thread(self._flush)

    async def finish(self) -> Content:
        """See `ports.contents.Receiver.finish`."""
        return await asyncio.to_thread(self._finish)

    def end(self) -> None:
        """Let go of what was held, and leave nothing of what was not finished."""
        with self._lock:
            self._over = True
            if self._file is not None:
                self._file.close()
                self._file = None
            with suppress(OSError):
                self._path.unlink()
            if self._held:
                self._store.release(self._held)
                self._held = ""

    def _flush(self) -> None:
        with self._lock, translated(self._path.parent.parent):
            if self._over:
                return
            block, self._block, self._block_bytes = b"".join(self._block), [], 0
            if self._file is None:
                self._file = open(self._path, "xb", buffering=0, opener=_private)  # noqa: SIM115 - closed by `end`
            view = memoryview(block)
            while view:
                view = view[self._file.write(view) :]
            self._size_bytes += len(block)
            self._hash.update(block)
            for tap in self._taps:
                tap.update(block)

    def _finish(self) -> Content:
        self._flush()
        digest = self._hash.hexdigest()
        with self._lock, translated(self._path.parent.parent):
            if self._file is not None:  # else it was ended while this waited for its turn
                os.fsync(self._file.fileno())
                self._file.close()
                self._file = None
                self._store.place(self._path, digest)
                self._held = digest
        return Content(digest=digest, size_bytes=self._size_bytes)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
