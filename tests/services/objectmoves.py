"""A process that writes, uploads and deletes objects until it is killed; says on stdout when a step was acknowledged.

`play` and `seen` tell the tests what so many steps lead to.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuyun.domain.objects import ANYTHING, Object, Selection, Upload
from fuyun.domain.tenants import Principal
from fuyun.drivers.contents.folder import FolderContents
from fuyun.services.buckets import Buckets
from fuyun.services.keeping import Keeper
from fuyun.services.objects import Objects, Put
from fuyun.services.receiving import NO_CLAIMS
from fuyun.services.tenants import Tenants
from fuyun.services.uploads import Chosen, Uploads
from fuyun.testing.contracts.contents import digests
from fuyun.testing.contracts.objects import ObjectStores
from tests.drivers.objects.stores import opened

WHO = Principal(key_id="k", namespace="default", role="developer")
BUCKET = "photos"


@dataclass
class Place:
    """Services over a folder."""

    stores: ObjectStores
    contents: FolderContents
    objects: Objects
    uploads: Uploads
    keeper: Keeper


@asynccontextmanager
async def place(folder: Path) -> AsyncIterator[Place]:
    """Objects in the folder."""
    async with opened(folder) as stores:
        contents = FolderContents.open_root(folder / "contents")
        tenants = await Tenants.open(stores.tenants, folder / "secret.key")
        objects = Objects(await Buckets.open(stores.buckets, tenants), stores.objects, contents)
        uploads = Uploads(objects, stores.uploads, contents)
        yield Place(
            stores, contents, objects, uploads, Keeper(stores.buckets, stores.objects, stores.uploads, contents)
        )


async def body(text: str, count: int) -> AsyncIterator[bytes]:
    """`text` over and over."""
    yield text.encode() * count


async def play(at: Place) -> AsyncIterator[None]:
    """One step a commit; comes back after each."""
    await at.objects.buckets.create_bucket(WHO, "default", BUCKET, "us-east-1", "")
    yield
    for key, text, count in (("small", "s", 10), ("big", "b", 50_000), ("big", "c", 60_000), ("copy", "b", 50_000)):
        await at.objects.put(WHO, BUCKET, key, body(text, count), Put())
        yield
    # An id is drawn at random; what follows of the upload is the same in every play.
    upload = await at.uploads.begin(WHO, Upload(id="", bucket=BUCKET, key="parts", created_s=0.0))
    yield
    for number in (1, 2):
        part = await at.uploads.put_part(WHO, upload, number, body(f"p{number}", 30_000), NO_CLAIMS)
        yield
    await at.uploads.complete(WHO, upload, [Chosen(number=part.number, etag=part.etag)], ANYTHING)
    yield
    for key in ("small", "copy", "parts"):
        await at.objects.delete(WHO, BUCKET, key)
        yield


async def read(at: Place, found: Object) -> str:
    """The MD5 of its bytes, as they are read."""
    md5 = hashlib.md5()
    async for piece in at.objects.read(found, 0, found.size_bytes):
        md5.update(piece)
    return md5.hexdigest()


async def seen(at: Place) -> dict[str, Any]:
    """Everything that can be seen: objects with the hashes of their bytes, parts of uploads, events, counts."""
    bucket = await at.stores.buckets.find(BUCKET)
    if bucket is None:
        return {}
    listing = await at.stores.objects.list_objects(BUCKET, Selection())
    uploads, _ = await at.stores.uploads.list_uploads(BUCKET, Selection())
    parts = [part for upload in uploads for part in await at.stores.uploads.list_parts(upload.id)]
    whole = [await at.stores.objects.get(BUCKET, found.key) for found in listing.objects]
    return {
        "objects": [(found.key, found.etag, await read(at, found)) for found in whole],
        "uploads": [(part.number, part.etag) for part in parts],
        "counts": (bucket.objects, bucket.size_bytes),
        "events": [(event.type, event.subject) for _, _, _, event in await at.stores.outbox()],
    }


async def named(at: Place) -> set[str]:
    """Digests of files that objects and parts name."""
    listing = await at.stores.objects.list_objects(BUCKET, Selection())
    uploads, _ = await at.stores.uploads.list_uploads(BUCKET, Selection())
    parts = [part for upload in uploads for part in await at.stores.uploads.list_parts(upload.id)]
    objects = [await at.stores.objects.get(BUCKET, found.key) for found in listing.objects]
    contents: Iterable[Any] = [content for found in objects for content in found.parts]
    return {one.digest for one in [*contents, *(part.content for part in parts)] if one.body is None}


async def files(at: Place) -> set[str]:
    """Digests of files that are there."""
    return await digests(at.contents)


async def main(folder: Path) -> None:
    async with place(folder) as at:
        async for _ in play(at):
            print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
