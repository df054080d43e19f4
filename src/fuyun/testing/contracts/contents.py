"""What every store of contents keeps: `ports.contents.ContentStore`, clause by clause."""

from __future__ import annotations

import asyncio
import hashlib
import os
from abc import ABC, abstractmethod
from pathlib import Path

import pytest

from fuyun.domain.errors import NotFound
from fuyun.domain.objects import Content
from fuyun.ports.contents import ContentStore

MIB = 2**20


async def stored(contents: ContentStore, body: bytes, piece: int = 100_000) -> Content:
    """The body, put and let go of."""
    async with contents.receive() as receiver:
        for start in range(0, len(body), piece):
            await receiver.write(body[start : start + piece])
        return await receiver.finish()


async def read(contents: ContentStore, content: Content) -> bytes:
    """All of it."""
    with await contents.open(content) as file:
        return file.read(content.size_bytes + 1) if content.size_bytes else b""


async def digests(contents: ContentStore) -> set[str]:
    """Of all that is there."""
    return {digest async for batch in contents.scan(2) for digest in batch}


@pytest.mark.anyio
class ContentStoreContract(ABC):
    """Subclass it with `open`."""

    @abstractmethod
    def open(self, folder: Path) -> ContentStore:
        """The store kept in `folder`; opening it again finds what was finished before."""

    @pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, 3 * MIB + 5])
    async def test_what_was_finished_is_there(self, tmp_path: Path, size: int) -> None:
        body = os.urandom(size)
        content = await stored(self.open(tmp_path), body)
        assert content == Content(digest=hashlib.sha256(body).hexdigest(), size_bytes=size)
        assert await read(self.open(tmp_path), content) == body

    async def test_bytes_pass_the_taps_in_order(self, tmp_path: Path) -> None:
        body, tap = os.urandom(2 * MIB + 3), hashlib.md5()
        async with self.open(tmp_path).receive([tap]) as receiver:
            for start in range(0, len(body), 7777):
                await receiver.write(body[start : start + 7777])
            await receiver.finish()
        assert tap.digest() == hashlib.md5(body).digest()

    async def test_what_was_not_finished_leaves_nothing(self, tmp_path: Path) -> None:
        contents = self.open(tmp_path)

        async def torn() -> None:
            async with contents.receive() as receiver:
                await receiver.write(os.urandom(2 * MIB))
                raise ConnectionResetError("the client is gone")

        with pytest.raises(ConnectionResetError):
            await torn()

        async def slow(reached: asyncio.Event) -> None:
            async with contents.receive() as receiver:
                await receiver.write(os.urandom(2 * MIB))
                reached.set()
                await asyncio.Event().wait()

        reached = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(slow(reached))
            await reached.wait()
            task.cancel()
        assert [name for _, _, names in os.walk(tmp_path) for name in names] == []

    async def test_what_is_absent(self, tmp_path: Path) -> None:
        contents = self.open(tmp_path)
        with pytest.raises(NotFound):
            await contents.open(Content(digest="0" * 64, size_bytes=1))
        contents.doom(["0" * 64])
        assert await contents.remove(["0" * 64]) == 0

    async def test_only_what_is_marked_and_not_held_is_removed(self, tmp_path: Path) -> None:
        contents = self.open(tmp_path)
        one, two = await stored(contents, b"one"), await stored(contents, b"two")
        assert await contents.remove([one.digest]) == 0, "it was not marked"
        contents.doom([one.digest, two.digest])
        contents.spare([two.digest])
        assert await contents.remove([one.digest, two.digest]) == 3
        assert await digests(contents) == {two.digest}
        contents.doom([two.digest])
        assert await stored(contents, b"two") == two
        assert await contents.remove([two.digest]) == 0, "it was stored again since it was marked"
        async with contents.receive() as receiver:
            await receiver.write(b"two")
            await receiver.finish()
            contents.doom([two.digest])
            assert await contents.remove([two.digest]) == 0, "it is held"
            contents.doom([two.digest])
        assert await contents.remove([two.digest]) == 0, "it was held when it was to be marked"
        contents.doom([two.digest])
        assert await contents.remove([two.digest]) == 3
        assert await digests(contents) == set()

    async def test_what_is_open_outlives_its_removal(self, tmp_path: Path) -> None:
        contents = self.open(tmp_path)
        content = await stored(contents, b"hello")
        with await contents.open(content) as file:
            contents.doom([content.digest])
            await contents.remove([content.digest])
            assert file.read(5) == b"hello"

    async def test_the_same_bytes_at_once_are_stored_once(self, tmp_path: Path) -> None:
        contents, body = self.open(tmp_path), os.urandom(MIB + 1)
        made = await asyncio.gather(*(stored(contents, body) for _ in range(8)))
        assert len(set(made)) == 1
        assert await read(contents, made[0]) == body
        assert await digests(contents) == {made[0].digest}
