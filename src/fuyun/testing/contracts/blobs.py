"""What every blob store keeps: `ports.blobs.BlobStore`, clause by clause."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import stat
import struct
import zipfile
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from fuyun.base.archive import digest_of, pack
from fuyun.domain.errors import BadRequest, PayloadTooLarge
from fuyun.ports.blobs import BlobStore

MIB = 2**20


def zip_of(entries: list[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip with exactly these entries, in this order."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return out.getvalue()


async def pieces(archive: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    """The archive as it arrives from a client."""
    for start in range(0, len(archive), size):
        yield archive[start : start + size]


def special(name: str, kind: int) -> zipfile.ZipInfo:
    """An entry of a kind of file (stat.S_IF...)."""
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    return info


def renamed(archive: bytes, name: bytes, other: bytes) -> bytes:
    """The archive with an entry's name overwritten by one as long."""
    assert len(name) == len(other)
    return archive.replace(name, other)


def overlapping() -> bytes:
    """Two entries over the same compressed bytes (a "better zip bomb")."""
    plain = zip_of([("a", b"\0" * MIB), ("b", b"\0" * MIB)])
    start = plain.index(b"PK\x03\x04", 4)
    first = plain.index(b"PK\x01\x02")
    second = plain.index(b"PK\x01\x02", first + 4)
    end = plain.index(b"PK\x05\x06")
    entry, tail = plain[first:second], bytearray(plain[end:])
    tail[12:16] = (2 * len(entry)).to_bytes(4, "little")
    tail[16:20] = start.to_bytes(4, "little")
    return plain[:start] + entry + entry[:-1] + b"b" + bytes(tail)


#: What it is -> (the archive, a word of the refusal).
UNSAFE: dict[str, tuple[Callable[[], bytes], str]] = {
    "no zip": (lambda: b"hello", "no zip"),
    "empty": (lambda: b"", "no zip"),
    "cut short": (lambda: zip_of([("a", os.urandom(5000))])[:-30], "no zip"),
    "garbage in the middle": (
        lambda: renamed(zip_of([("a", b"x" * 500)], zipfile.ZIP_STORED), b"x" * 400, b"y" * 400),
        "CRC",
    ),
    "absolute": (lambda: zip_of([("/etc/passwd", b"x")]), "leave the folder"),
    "parent": (lambda: zip_of([("../x", b"x")]), "leave the folder"),
    "parent inside": (lambda: zip_of([("a/../../x", b"x")]), "leave the folder"),
    "dot": (lambda: zip_of([("a/./x", b"x")]), "leave the folder"),
    "empty part": (lambda: zip_of([("a//x", b"x")]), "leave the folder"),
    "backslash": (lambda: zip_of([("a\\..\\x", b"x")]), "backslash"),
    "NUL": (lambda: renamed(zip_of([("aaXb", b"x")]), b"aaXb", b"aa\0b"), "control character"),
    "control": (lambda: zip_of([("a\nb", b"x")]), "control character"),
    "too long": (lambda: zip_of([("a" * 300, b"x")]), "too long"),
    "link": (lambda: zip_of([(special("a", stat.S_IFLNK), b"/etc/passwd")]), "a link"),
    "link to a folder": (lambda: zip_of([(special("a/", stat.S_IFLNK), b"/etc")]), "a link"),
    "character device": (lambda: zip_of([(special("a", stat.S_IFCHR), b"")]), "device"),
    "block device": (lambda: zip_of([(special("a", stat.S_IFBLK), b"")]), "device"),
    "pipe": (lambda: zip_of([(special("a", stat.S_IFIFO), b"")]), "pipe"),
    "socket": (lambda: zip_of([(special("a", stat.S_IFSOCK), b"")]), "a link, device"),
    "twice": (lambda: renamed(zip_of([("aa", b"1"), ("ab", b"2")]), b"ab", b"aa"), "twice"),
    "file and folder": (lambda: zip_of([("a", b"1"), ("a/b", b"2")]), "both a file and a folder"),
    "folder and file": (lambda: zip_of([("a/b", b"2"), ("a", b"1")]), "twice"),
    "bzip2": (lambda: zip_of([("a", b"1" * 100)], zipfile.ZIP_BZIP2), "deflate"),
    "ratio": (lambda: zip_of([("a", b"\0" * (32 * MIB))]), "times its size"),
    "overlap": (overlapping, "overlap"),
    "index": (lambda: bytes(33 * MIB) + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 33 * MIB, 0, 0), "index"),
}


class BlobStoreContract(ABC):
    """Subclass it with `open`."""

    @abstractmethod
    def open(self, folder: Path) -> BlobStore:
        """The store kept in `folder`; opening it again finds what was put before."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        """A folder to pack."""
        folder = tmp_path / "source"
        (folder / "pkg").mkdir(parents=True)
        (folder / "pkg" / "__init__.py").write_text("")
        (folder / "pkg" / "名前.txt").write_text("data")
        (folder / "app.py").write_text("def handler(event, context): return event\n")
        (folder / "run.sh").write_text("#!/bin/sh\n")
        (folder / "run.sh").chmod(0o700)
        (folder / "app.py").chmod(0o600)
        return folder

    def test_put_stores_the_tree(self, tmp_path: Path, source: Path) -> None:
        size_bytes = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())

        async def main() -> None:
            blobs = self.open(tmp_path / "objects")
            archive = pack(source)
            assert await blobs.find(digest_of(archive)) is None
            made = await blobs.put(pieces(archive), 10 * MIB)
            assert made.digest == hashlib.sha256(archive).hexdigest()
            assert made.size_bytes == size_bytes
            tree = blobs.path(made.digest)
            assert tree.parts[-2:] == (made.digest[:2], made.digest)
            assert pack(tree) == archive
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [tree, *tree.rglob("*")]}
            assert modes == {
                tree.name: 0o755, "pkg": 0o755, "app.py": 0o644, "run.sh": 0o755, "__init__.py": 0o644,
                "名前.txt": 0o644,
            }  # fmt: skip
            assert await blobs.put(pieces(archive), 10 * MIB) == made
            assert await self.open(tmp_path / "objects").find(made.digest) == made

        asyncio.run(main())

    def test_puts_of_the_same_archive_at_once(self, tmp_path: Path, source: Path) -> None:
        async def main() -> None:
            blobs = self.open(tmp_path / "objects")
            archive = pack(source)
            made = await asyncio.gather(*(blobs.put(pieces(archive), 10 * MIB) for _ in range(20)))
            assert len(set(made)) == 1
            assert pack(blobs.path(made[0].digest)) == archive

        asyncio.run(main())

    def test_pieces_of_any_size_are_one_archive(self, tmp_path: Path) -> None:
        archive = zip_of([("a", os.urandom(3 * MIB)), ("b", b"x")])

        async def main() -> None:
            blobs = self.open(tmp_path / "objects")
            for size in (100_001, MIB, 2 * MIB + 1, len(archive)):
                made = await blobs.put(pieces(archive, size), 10 * MIB)
                assert made.digest == hashlib.sha256(archive).hexdigest()
                assert await blobs.collect(frozenset(), older_than_s=-1) == 3 * MIB + 1

        asyncio.run(main())

    def test_an_archive_that_stops_arriving_leaves_nothing(self, tmp_path: Path) -> None:
        archive = zip_of([("a", os.urandom(3 * MIB))])

        async def torn() -> AsyncIterator[bytes]:
            yield archive[: 2 * MIB]
            raise ConnectionResetError("the client is gone")

        async def slow(reached: asyncio.Event) -> AsyncIterator[bytes]:
            yield archive[: 2 * MIB]
            reached.set()
            await asyncio.sleep(60)

        async def main() -> None:
            blobs = self.open(tmp_path / "objects")
            with pytest.raises(ConnectionResetError):
                await blobs.put(torn(), 10 * MIB)
            reached = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(blobs.put(slow(reached), 10 * MIB))
                await reached.wait()
                task.cancel()
            assert await blobs.find(digest_of(archive)) is None

        asyncio.run(main())
        assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []

    @pytest.mark.parametrize("name", UNSAFE)
    def test_unsafe_archives_are_refused_and_leave_nothing(self, tmp_path: Path, name: str) -> None:
        async def main() -> None:
            blobs = self.open(tmp_path / "deep" / "objects")
            make, reason = UNSAFE[name]
            archive = make()
            with pytest.raises(BadRequest, match=reason):
                await blobs.put(pieces(archive), 100 * MIB)
            assert await blobs.find(digest_of(archive)) is None

        asyncio.run(main())
        assert [path for path in (tmp_path / "deep").rglob("*") if not path.is_dir()] == []

    def test_the_limit_is_on_what_it_unpacks_to(self, tmp_path: Path) -> None:
        async def main() -> None:
            blobs = self.open(tmp_path)
            archive = zip_of([("a", b"x" * 600), ("b", b"x" * 400)])
            with pytest.raises(PayloadTooLarge) as refused:
                await blobs.put(pieces(archive), 999)
            assert refused.value.fields["limit_bytes"] == 999
            assert (await blobs.put(pieces(archive), 1000)).size_bytes == 1000

        asyncio.run(main())

    def test_adopt_moves_a_finished_tree_in(self, tmp_path: Path, source: Path) -> None:
        async def main() -> None:
            blobs = self.open(tmp_path / "objects")
            (source / "link").symlink_to("pkg/__init__.py")
            made = await blobs.adopt(source, "lock 1")
            assert made.digest == hashlib.sha256(b"lock 1").hexdigest()
            tree = blobs.path(made.digest)
            assert stat.S_IMODE((tree / "app.py").stat().st_mode) == 0o644
            assert stat.S_IMODE((tree / "run.sh").stat().st_mode) == 0o755
            assert (tree / "link").is_symlink()
            other = tmp_path / "other"
            other.mkdir()
            assert await blobs.adopt(other, "lock 1") == made
            assert (tree / "app.py").exists()
            assert not other.exists()
            assert await blobs.find(made.digest) == made

        asyncio.run(main())
        assert not source.exists()

    @pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "pkg/../../outside"])
    def test_adopt_refuses_links_that_lead_out(self, tmp_path: Path, source: Path, target: str) -> None:
        (source / "link").symlink_to(target)

        async def main() -> None:
            blobs = self.open(tmp_path / "objects")
            with pytest.raises(BadRequest, match="link"):
                await blobs.adopt(source, "lock 1")
            assert await blobs.find(hashlib.sha256(b"lock 1").hexdigest()) is None

        asyncio.run(main())

    def test_collect_removes_what_nobody_wants(self, tmp_path: Path) -> None:
        async def main() -> None:
            blobs = self.open(tmp_path)
            kept = await blobs.put(pieces(zip_of([("a", b"x" * 10)])), MIB)
            gone = await blobs.put(pieces(zip_of([("b", b"x" * 20)])), MIB)
            assert await blobs.collect(frozenset(), older_than_s=3600) == 0
            assert await blobs.find(gone.digest) == gone
            assert await blobs.collect(frozenset({kept.digest}), older_than_s=-1) == 20
            assert await blobs.find(gone.digest) is None
            assert not blobs.path(gone.digest).exists()
            assert await blobs.find(kept.digest) == kept
            assert await blobs.put(pieces(zip_of([("b", b"x" * 20)])), MIB) == gone

        asyncio.run(main())

    @pytest.mark.parametrize("digest", ["", "..", "../../etc", "A" * 64, "a" * 63, "a" * 65, "\0" * 64])
    def test_what_is_no_digest_is_no_path(self, tmp_path: Path, digest: str) -> None:
        async def main() -> None:
            blobs = self.open(tmp_path)
            assert await blobs.find(digest) is None
            with pytest.raises(BadRequest):
                blobs.path(digest)

        asyncio.run(main())
