"""Artifacts in a folder keep the port's contract, and survive kills and full disks."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fuyun.base.archive import digest_of, pack
from fuyun.domain.errors import StorageFull
from fuyun.drivers.blobs.folder import FolderBlobs
from fuyun.ports.blobs import BlobStore
from fuyun.testing.contracts.blobs import MIB, BlobStoreContract, pieces, zip_of

ARCHIVE = zip_of([(f"pkg/m{n}.py", b"x = %d\n" % n * 100) for n in range(50)])

PUT = """
import asyncio, sys
from pathlib import Path
from fuyun.drivers.blobs.folder import FolderBlobs
async def pieces():
    with open(sys.argv[2], "rb") as file:
        while piece := file.read(65536):
            yield piece
    if sys.argv[3:]:
        print("here", flush=True)
        await asyncio.sleep(60)
asyncio.run(FolderBlobs.open(Path(sys.argv[1])).put(pieces(), 2**30))
"""


class TestFolderBlobs(BlobStoreContract):
    def open(self, folder: Path) -> BlobStore:
        return FolderBlobs.open(folder)


@pytest.mark.parametrize("point", ["blob.settled", "blob.described"])
def test_a_crash_leaves_all_or_nothing(tmp_path: Path, point: str) -> None:
    (tmp_path / "a.zip").write_bytes(ARCHIVE)
    root = tmp_path / "objects"
    done = subprocess.run(
        [sys.executable, "-c", PUT, str(root), str(tmp_path / "a.zip")], env={**os.environ, "FUYUN_CRASH_AT": point}
    )
    assert done.returncode == -signal.SIGKILL

    async def main() -> None:
        digest = digest_of(ARCHIVE)
        assert list((root / ".tmp").iterdir()), "the crash left something to sweep"
        blobs = FolderBlobs.open(root)
        assert await blobs.find(digest) is None
        assert [path for path in root.rglob("*") if not path.is_dir()] == []
        made = await blobs.put(pieces(ARCHIVE), MIB)
        assert len(list(blobs.path(made.digest).rglob("*.py"))) == 50

    asyncio.run(main())


def test_killed_while_it_arrives(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of([("a", os.urandom(3 * MIB))]))
    root = tmp_path / "objects"
    command = [sys.executable, "-c", PUT, str(root), str(tmp_path / "a.zip"), "wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        process.kill()
    (arriving,) = (root / ".tmp").iterdir()
    assert arriving.stat().st_size >= 2 * MIB
    FolderBlobs.open(root)
    assert [path for path in root.rglob("*") if not path.is_dir()] == []


def test_killed_while_unpacking(tmp_path: Path) -> None:
    archive = zip_of([(f"f{n}", os.urandom(2000)) for n in range(3000)])
    (tmp_path / "a.zip").write_bytes(archive)
    root = tmp_path / "objects"
    process = subprocess.Popen([sys.executable, "-c", PUT, str(root), str(tmp_path / "a.zip")])
    while process.poll() is None and not any((root / ".tmp").glob("*/f9*")):
        pass
    process.kill()
    process.wait()

    async def main() -> None:
        blobs = FolderBlobs.open(root)
        found = await blobs.find(digest_of(archive))
        assert found is None or len(list(blobs.path(found.digest).iterdir())) == 3000
        assert list((root / ".tmp").iterdir()) == []

    asyncio.run(main())


@pytest.mark.parametrize("small_disk", ["1m"], indirect=True)
def test_a_full_disk_is_told_and_leaves_room(small_disk: Path) -> None:
    async def main() -> None:
        blobs = FolderBlobs.open(small_disk / "objects")
        with pytest.raises(StorageFull, match="full"):
            await blobs.put(pieces(zip_of([("a", os.urandom(3 * MIB))])), 10 * MIB)
        kept = await blobs.put(pieces(ARCHIVE), MIB)
        assert kept.size_bytes == sum(len(b"x = %d\n" % n) * 100 for n in range(50))
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        assert await blobs.find(digest_of(ARCHIVE)) is not None
        with pytest.raises(StorageFull, match="read-only"):
            await blobs.put(pieces(zip_of([("b", b"")])), MIB)
        with pytest.raises(StorageFull, match="read-only"):
            FolderBlobs.open(small_disk / "objects")

    asyncio.run(main())


def test_what_others_add_to_a_tree_does_not_change_its_size(tmp_path: Path) -> None:
    async def main() -> None:
        blobs = FolderBlobs.open(tmp_path)
        made = await blobs.put(pieces(ARCHIVE), MIB)
        (blobs.path(made.digest) / "pkg" / "__pycache__").mkdir()
        (blobs.path(made.digest) / "pkg" / "__pycache__" / "m.pyc").write_bytes(b"x" * 1000)
        assert await FolderBlobs.open(tmp_path).find(made.digest) == made
        assert pack(blobs.path(made.digest))

    asyncio.run(main())
