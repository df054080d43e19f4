"""Code for Node, prepared at its deployment: large CommonJS files as V8 compiles them, beside the code.

V8 takes what another process compiled if that was the same V8 with the same options, the memory limit's among them
(docs/decisions/0015). Nothing of the author's is run for it; the parser that reads it is sandboxed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fuyun.domain.functions import Artifact
from fuyun.domain.interpreters import Node
from fuyun.drivers.builds.flights import Progress
from fuyun.drivers.builds.workshop import Workshop
from fuyun.ports.blobs import BlobStore
from fuyun.ports.builds import Sandboxed
from fuyun.runtime.nodejs import AHEAD, PREPARED, flags

TIMEOUT_S = 120.0
#: Below this a file takes less than 6 ms to compile (Node 20; 23 ms for each MB); beyond that, and above so many files,
#: what is kept would be large itself.
LEAST_BYTES, MOST_BYTES, MOST_FILES = 256 * 2**10, 32 * 2**20, 64
#: What may be left of it.
_MADE = re.compile(r"list\.json|\d+\.bin")


@dataclass(frozen=True, slots=True)
class _Job:
    """What is to be compiled, by whom, for instances with so much memory."""

    code: Artifact
    roots: list[Path]  # of the code, and of its packages if it has any
    large: list[Path]
    node: Node
    memory_bytes: int


class NodeCode:
    """Implements `ports.builds.NodeBuilder`. `work` is on the file system of the blob store."""

    def __init__(
        self,
        blobs: BlobStore,
        run: Sandboxed,
        node_of: Callable[[str], Node],
        work: Path,
        there: tuple[str, str] = ("/code", "/layers/0"),
    ) -> None:
        """`node_of(runtime)` raises HostUnable (may block; it is called in a thread). `there`: where instances have the
        code and its packages."""
        self._there = there
        self._blobs = blobs
        self._run = run
        self._node_of = node_of
        self._shop = Workshop("node", blobs, work)
        self.close = self._shop.close

    async def prepare(
        self, code: Artifact, packages: Artifact | None, runtime: str, memory_bytes: int, progress: Progress
    ) -> Artifact:
        """See `ports.builds.NodeBuilder`."""
        roots = [self._blobs.path(one.digest) for one in (code, packages) if one is not None]
        large = await asyncio.to_thread(_large_files, roots)
        if not large:
            return code
        node = await asyncio.to_thread(self._node_of, runtime)
        digests = [one.digest for one in (code, packages) if one is not None]
        how = [node.version_text, node.abi, str(memory_bytes), *flags(), await asyncio.to_thread(_digest_of_ours)]
        key = " ".join(("node", *digests, *how))
        job = _Job(code, roots, large, node, memory_bytes)
        return await self._shop.kept(key, lambda tell: self._prepare(job, key, tell), progress)

    async def _prepare(self, job: _Job, key: str, tell: Progress) -> Artifact:
        node, source, packages = job.node, job.roots[0], job.roots[-1]
        lines: deque[str] = deque(maxlen=3)
        tell(f"compiling {len(job.large)} large file{'s' if len(job.large) > 1 else ''}")
        async with self._shop.room() as room:
            await asyncio.to_thread(_lay_out, source, room.out)
            files = [room.out / p.relative_to(source) if p.is_relative_to(source) else p for p in job.large]
            folders = (room.out, self._there[0], packages, self._there[1])
            status = await self._run(
                [node.executable, *flags(), AHEAD, *map(str, (*folders, job.memory_bytes, *files))],
                ro=[*_shown(node), os.path.dirname(AHEAD), str(room.out), *map(str, job.roots[1:])],
                rw=[str(room.out / PREPARED), str(room.scratch)],
                env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "TMPDIR": str(room.scratch)},
                cwd=str(room.out),
                network=False,
                timeout_s=TIMEOUT_S,
                output=lines.append,
            )
            if status != 0 or not await asyncio.to_thread(_is_sound, room.out / PREPARED):
                said = "; ".join(line for line in lines if line)
                tell(f"nothing was compiled ahead (status {status}: {said}); instances start more slowly")
                return job.code
            return await self._blobs.adopt(room.out, key)


def _digest_of_ours() -> str:
    """What changes when the way they are made does."""
    return hashlib.sha256(Path(AHEAD).read_bytes()).hexdigest()[:16]


def _shown(node: Node) -> list[str]:
    return [path for path in (node.executable, *node.mounts) if os.path.exists(path)]


def _large_files(roots: list[Path]) -> list[Path]:
    """What is worth it, the largest first."""
    found = []
    for root in roots:
        for path in root.rglob("*.[cj]*s"):
            if path.suffix in (".js", ".cjs") and path.is_file() and not path.is_symlink():
                size = path.stat().st_size
                if LEAST_BYTES <= size <= MOST_BYTES and PREPARED not in path.relative_to(root).parts:
                    found.append((size, path))
    return [path for _, path in sorted(found, reverse=True)[:MOST_FILES]]


def _lay_out(source: Path, out: Path) -> None:
    shutil.copytree(source, out, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(PREPARED))
    (out / PREPARED).mkdir()


def _is_sound(made: Path) -> bool:
    """What a sandbox wrote is plain files of the names that were to be made."""
    found = list(os.scandir(made))
    return bool(found) and all(one.is_file(follow_symlinks=False) and _MADE.fullmatch(one.name) for one in found)
