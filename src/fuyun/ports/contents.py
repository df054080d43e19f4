"""The bytes of objects, by their digest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import BinaryIO, Protocol

from fuyun.domain.objects import Content


class Tap(Protocol):
    """What is computed of bytes as they pass: a hash, a checksum."""

    def update(self, data: bytes, /) -> None:
        """Take the next bytes."""
        ...


class Receiver(Protocol):
    """A content on its way in. Memory stays flat however much comes."""

    async def write(self, data: bytes) -> None:
        """The next bytes; may wait for the disk. StorageFull."""
        ...

    async def finish(self) -> Content:
        """All have come: they are on the disk when this returns, by their digest. StorageFull."""
        ...


class ContentStore(Protocol):
    """Contents never change. One is there whole or not at all, and survives a crash once `finish` returned."""

    def receive(self, taps: Sequence[Tap] = ()) -> AbstractAsyncContextManager[Receiver]:
        """Take bytes in, each block passing the taps. What was finished is held while the context lasts: `remove`
        leaves it. What was not is gone when the context ends."""
        ...

    async def open(self, content: Content) -> BinaryIO:
        """The content to read, from a file with a descriptor, which outlives the content's removal. NotFound."""
        ...

    def doom(self, digests: Iterable[str]) -> None:
        """Mark contents for `remove`, but none that is held; finishing one of them again takes the mark off."""
        ...

    def spare(self, digests: Iterable[str]) -> None:
        """Take the mark off."""
        ...

    async def remove(self, digests: Iterable[str]) -> int:
        """Remove those that are still marked and not held; bytes freed. An absent one is no error."""
        ...

    def scan(self, batch: int = 500) -> AsyncIterator[list[str]]:
        """All digests that are there, in batches."""
        ...
