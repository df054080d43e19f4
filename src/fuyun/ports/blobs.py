"""Content-addressed bytes: code archives and built layers."""

from __future__ import annotations

from collections.abc import AsyncIterable
from pathlib import Path
from typing import Protocol

from fuyun.domain.functions import Artifact


class BlobStore(Protocol):
    """Immutable trees of files, named by the SHA-256 of their archive.

    An archive is the deterministic zip of `base/archive.py`. `put` is atomic and idempotent: when it returns
    the bytes are on disk, and a crash leaves either all or nothing. `path` is where instances mount it, read-only,
    world readable, owned by nobody's namespace. Unpacking refuses absolute paths, `..`, links, devices and bombs
    (BadRequest).
    """

    async def put(self, pieces: AsyncIterable[bytes], limit_bytes: int) -> Artifact:
        """Store and unpack an archive that arrives in pieces; it is kept on disk meanwhile, never whole in memory. What
        `pieces` raises is raised, and nothing stays. BadRequest when it is unsafe, PayloadTooLarge over `limit_bytes`
        unpacked."""
        ...

    async def adopt(self, tree: Path, key: str) -> Artifact:
        """Move a finished directory in under the name sha256(key) (dependency builds); keeps an existing one."""
        ...

    async def find(self, digest: str) -> Artifact | None:
        """The artifact, or None."""
        ...

    def path(self, digest: str) -> Path:
        """Directory with the unpacked tree, `<root>/<first two>/<digest>`."""
        ...

    async def collect(self, keep: frozenset[str], older_than_s: float) -> int:
        """Remove artifacts not in `keep` and not wanted (put, adopted, found) for that long; bytes freed."""
        ...
