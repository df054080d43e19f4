"""What every store of objects keeps: `ports.objects`, clause by clause."""

from __future__ import annotations

import asyncio
import hashlib
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fuyun.domain.bucketrules import LifecycleRule, Rules
from fuyun.domain.errors import Conflict, FuyunError, NotFound, PreconditionFailed, QuotaExceeded
from fuyun.domain.events import Event
from fuyun.domain.objects import Bucket, Condition, Content, Details, Object, Part, Selection, Upload
from fuyun.domain.tenants import Namespace
from fuyun.ports.objects import BucketStore, ObjectStore, UploadStore, Write
from fuyun.ports.tenants import TenantStore
from fuyun.testing.contracts.samples import NOW_S, entry

ROOM = Write(operation="put", most_bytes=2**40)
DELETE = Write(operation="delete")
BUCKET = Bucket(name="photos", namespace="default", created_s=NOW_S)


@dataclass(frozen=True)
class ObjectStores:
    """The ports of one place, and what its outbox holds."""

    buckets: BucketStore
    objects: ObjectStore
    uploads: UploadStore
    tenants: TenantStore
    outbox: Any  # async () -> list[tuple[str, str, str, Event]]: namespace, kind, origin, event


def content(text: str, inline: bool = False) -> Content:
    """Bytes of a file, or with their body."""
    body = text.encode()
    return Content(digest=hashlib.sha256(body).hexdigest(), size_bytes=len(body), body=body if inline else None)


def made_of(text: str, key: str = "k", inline: bool = False, **fields: Any) -> Object:
    """An object to write."""
    values = {
        "bucket": "photos", "key": key, "size_bytes": len(text.encode()),
        "etag": hashlib.md5(text.encode()).hexdigest(), "parts": (content(text, inline),), "created_s": NOW_S, **fields,
    }  # fmt: skip
    return Object(**values)


@pytest.mark.anyio
class ObjectStoreContract(ABC):
    """Subclass it with `open`."""

    @abstractmethod
    def open(self, folder: Path) -> AbstractAsyncContextManager[ObjectStores]:
        """The stores kept in `folder`; opening it again finds what was written before."""

    async def test_buckets(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.tenants.create_namespace(Namespace(name="acme", created_s=NOW_S))
            await stores.buckets.create(BUCKET, 2, entry("made"))
            for taken, owner in ((BUCKET, "OwnedByYou"), (replace(BUCKET, namespace="acme"), "Exists")):
                with pytest.raises(Conflict) as refusal:
                    await stores.buckets.create(taken, 9, entry("no"))
                assert refusal.value.fields["reason"] == f"BucketAlready{owner}"
            await stores.buckets.create(replace(BUCKET, name="b2"), 2)
            with pytest.raises(QuotaExceeded):
                await stores.buckets.create(replace(BUCKET, name="b3"), 2, entry("no"))
            with pytest.raises(NotFound, match="namespace"):
                await stores.buckets.create(replace(BUCKET, name="b3", namespace="none"), 2)
            await stores.buckets.create(replace(BUCKET, name="a", namespace="acme"), 1)
        async with self.open(tmp_path) as stores:
            names = [bucket.name for bucket in await stores.buckets.list_buckets("*")]
            assert names == ["a", "b2", "photos"]
            assert [bucket.name for bucket in await stores.buckets.list_buckets("default", "b2")] == ["photos"]
            assert (await stores.buckets.find("photos"), await stores.buckets.find("none")) == (BUCKET, None)
            assert [item.action for item in await stores.tenants.audit(None)] == ["made"]

    async def test_rules_are_kept_whole(self, tmp_path: Path) -> None:
        rules = Rules(lifecycle=(LifecycleRule(prefix="ü", days=3),), tags={"a": "\U0001f600"})
        async with self.open(tmp_path) as stores:
            await stores.buckets.create(BUCKET, 9)
            made = await stores.buckets.change("photos", lambda found: replace(found, rules=rules), entry("change"))
            with pytest.raises(NotFound):
                await stores.buckets.change("none", lambda found: found)
        async with self.open(tmp_path) as stores:
            assert await stores.buckets.find("photos") == made == replace(BUCKET, rules=rules)

    @pytest.mark.parametrize("inline", [True, False])
    async def test_an_object_is_kept_whole(self, tmp_path: Path, inline: bool) -> None:
        details = Details(headers={"content-type": "a/b"}, metadata={"x": "\U0001f600"}, tags={"t": ""})
        async with self.open(tmp_path) as stores:
            await stores.buckets.create(BUCKET, 9)
            new = made_of("hello", inline=inline, details=details)
            assert await stores.objects.put(new, ROOM) == new
        async with self.open(tmp_path) as stores:
            assert await stores.objects.get("photos", "k") == new
            bucket = await stores.buckets.find("photos")
            assert bucket is not None
            assert (bucket.objects, bucket.size_bytes) == (1, 5)
            changed = await stores.objects.describe("photos", "k", "", lambda found: replace(found, tags={}))
            assert changed.details == replace(details, tags={})
            assert await stores.objects.get("photos", "k", "null") == changed

    async def test_every_change_is_in_the_outbox_and_no_refused_one(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.buckets.create(BUCKET, 9)
            await stores.objects.put(made_of("1"), ROOM)
            for refused in (Condition(if_none_match=True), Condition(if_match="other")):
                with pytest.raises(PreconditionFailed):
                    await stores.objects.put(made_of("2"), replace_write(condition=refused))
            with pytest.raises(QuotaExceeded):
                await stores.objects.put(made_of("22", "other"), replace_write(most_bytes=2))
            await stores.objects.delete("photos", "k", "", NOW_S, DELETE)
            assert await stores.objects.delete("photos", "k", "", NOW_S, DELETE) is None
            events: list[tuple[str, str, str, Event]] = await stores.outbox()
        told = [(where[:3], where[3].type, where[3].subject) for where in events]
        place = ("default", "bucket", "photos")
        assert told == [(place, "fuyun.object.created", "k"), (place, "fuyun.object.deleted", "k")]
        assert events[0][3].source == "/default/bucket/photos"
        assert b'"operation":"put"' in events[0][3].data

    async def test_versions_are_kept_while_the_bucket_says_so(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.buckets.create(BUCKET, 9)
            await stores.objects.put(made_of("0"), ROOM)
            await stores.buckets.change("photos", lambda found: replace(found, versioning="Enabled"))
            one = await stores.objects.put(made_of("1"), ROOM)
            marker = await stores.objects.delete("photos", "k", "", NOW_S, DELETE)
            assert marker is not None
            assert (marker.marker, marker.latest) == (True, True)
            with pytest.raises(NotFound) as absent:
                await stores.objects.get("photos", "k")
            assert absent.value.fields["marker"] == marker.version
            page = await stores.objects.list_versions("photos", Selection())
            assert [found.version for found in page.objects] == [marker.version, one.version, "null"]
            assert [found.latest for found in page.objects] == [True, False, False]
            assert (await stores.objects.list_objects("photos", Selection())).objects == ()
            await stores.objects.delete("photos", "k", marker.version, NOW_S, DELETE)
            assert await stores.objects.get("photos", "k") == one
            await stores.buckets.change("photos", lambda found: replace(found, versioning="Suspended"))
            two = await stores.objects.put(made_of("2"), ROOM)
            assert two.version == "null"
            page = await stores.objects.list_versions("photos", Selection())
            assert [found.version for found in page.objects] == ["null", one.version], "it replaced the null version"
            bucket = await stores.buckets.find("photos")
            assert bucket is not None
            assert (bucket.objects, bucket.size_bytes) == (2, 2)

    async def test_what_nothing_names_is_garbage(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.buckets.create(BUCKET, 9)
            digest = content("1").digest
            await stores.objects.put(made_of("1"), ROOM)
            await stores.objects.put(made_of("1", "other"), ROOM)
            await stores.objects.put(made_of("1", "copy"), replace_write(copied=True))
            await stores.objects.put(made_of("2"), ROOM)
            await stores.objects.delete("photos", "other", "", NOW_S, DELETE)
            assert await stores.objects.garbage(9) == []
            await stores.objects.delete("photos", "copy", "", NOW_S, DELETE)
            assert await stores.objects.garbage(9) == [digest]
            with pytest.raises(NotFound):
                await stores.objects.put(made_of("1", "late"), replace_write(copied=True))
            await stores.objects.put(made_of("1", "again"), ROOM)
            assert (await stores.objects.garbage(9), await stores.objects.forget([digest])) == ([], frozenset())
            await stores.objects.delete("photos", "again", "", NOW_S, DELETE)
            assert await stores.objects.known([digest, "x"]) == {digest}
            assert await stores.objects.forget([digest, "x"]) == {digest}
            assert await stores.objects.known([digest]) == frozenset()

    async def test_small_bodies_leave_no_garbage(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.buckets.create(BUCKET, 9)
            await stores.objects.put(made_of("1", inline=True), ROOM)
            await stores.objects.delete("photos", "k", "", NOW_S, DELETE)
            assert await stores.objects.garbage(9) == []
            assert await stores.objects.known([content("1").digest]) == frozenset()

    async def test_lists_fold_what_has_the_delimiter(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.buckets.create(BUCKET, 9)
            for key in ("b", "a/2", "a/1", "\ud7ff", "\ue000", "\U0010ffff/x", "c"):
                await stores.objects.put(made_of("1", key), ROOM)
            keys: list[str] = []
            after = ""
            while True:
                page = await stores.objects.list_objects("photos", Selection(delimiter="/", after=after, limit=2))
                keys += [*(found.key for found in page.objects), *page.prefixes]
                if not page.more:
                    break
                after = page.next_key
            assert keys == ["b", "a/", "c", "\ud7ff", "\ue000", "\U0010ffff/"]
            below = await stores.objects.list_objects("photos", Selection(prefix="a/"))
            assert [found.key for found in below.objects] == ["a/1", "a/2"]

    async def test_an_upload_becomes_an_object(self, tmp_path: Path) -> None:
        upload = Upload(id="u1", bucket="photos", key="k", created_s=NOW_S)
        parts = [
            Part(number=number, content=content(text), etag=text, created_s=NOW_S)
            for number, text in ((1, "one"), (2, "two"), (3, "two"))
        ]
        async with self.open(tmp_path) as stores:
            await stores.buckets.create(BUCKET, 9)
            await stores.uploads.begin(upload)
            for part in parts:
                await stores.uploads.put_part(upload, part, 9)
            with pytest.raises(QuotaExceeded):
                await stores.uploads.put_part(upload, replace(parts[0], number=4), 9)
        async with self.open(tmp_path) as stores:
            assert await stores.uploads.get("photos", "k", "u1") == upload
            assert await stores.uploads.list_parts("u1") == parts
            assert await stores.uploads.list_parts("u1", 1, 1) == [parts[1]]
            new = made_of("onetwo", parts=(content("one"), content("two")), part_count=2)
            with pytest.raises(NotFound):
                await stores.uploads.complete(upload, replace(new, parts=(content("other"),)), ROOM)
            assert await stores.uploads.complete(upload, new, replace_write(most_bytes=9)) == new
            assert await stores.objects.get("photos", "k") == new
            bucket = await stores.buckets.find("photos")
            assert bucket is not None
            assert (bucket.objects, bucket.size_bytes) == (1, 6), "the third part is counted no more"
            assert await stores.objects.garbage(9) == []
            for late in (
                stores.uploads.get("photos", "k", "u1"),
                stores.uploads.abort(upload),
                stores.uploads.put_part(upload, parts[0], 99),
                stores.uploads.complete(upload, new, ROOM),
            ):
                with pytest.raises(NotFound):
                    await late
            await stores.objects.delete("photos", "k", "", NOW_S, DELETE)
            assert sorted(await stores.objects.garbage(9)) == sorted({content("one").digest, content("two").digest})

    async def test_an_aborted_upload_leaves_garbage_only(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.buckets.create(BUCKET, 9)
            for name, key in (("u2", "b"), ("u1", "b"), ("u3", "a/x")):
                await stores.uploads.begin(Upload(id=name, bucket="photos", key=key, created_s=NOW_S))
            found, listing = await stores.uploads.list_uploads("photos", Selection(limit=2))
            assert [upload.id for upload in found] == ["u3", "u1"]
            after = Selection(after=listing.next_key, after_version=listing.next_version)
            rest, _ = await stores.uploads.list_uploads("photos", after)
            assert [upload.id for upload in rest] == ["u2"]
            part = Part(number=1, content=content("1"), etag="e", created_s=NOW_S)
            await stores.uploads.put_part(rest[0], part, 99)
            await stores.uploads.put_part(rest[0], replace(part, content=content("22")), 99)
            assert await stores.objects.garbage(9) == [part.content.digest], "a part that was replaced"
            for upload in (*found, *rest):
                await stores.uploads.abort(upload)
            assert len(await stores.objects.garbage(9)) == 2
            await stores.buckets.delete("photos", entry("gone"))
            with pytest.raises(NotFound):
                await stores.buckets.delete("photos")

    async def test_a_bucket_takes_uploads_that_are_under_way_along(self, tmp_path: Path) -> None:
        upload = Upload(id="u1", bucket="photos", key="k", created_s=NOW_S)
        async with self.open(tmp_path) as stores:
            await stores.buckets.create(BUCKET, 9)
            await stores.uploads.begin(upload)
            part = Part(number=1, content=content("1"), etag="e", created_s=NOW_S)
            await stores.uploads.put_part(upload, part, 99)
            await stores.buckets.delete("photos", entry("gone"))
            assert await stores.objects.garbage(9) == [part.content.digest]
            with pytest.raises(NotFound):
                await stores.uploads.get("photos", "k", "u1")
            await stores.buckets.create(BUCKET, 9)
            assert await stores.uploads.list_parts("u1") == []
            assert (await stores.buckets.find("photos")).size_bytes == 0  # type: ignore[union-attr]

    async def test_of_writers_that_ask_for_none_before_them_one_wins(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            await stores.buckets.create(BUCKET, 9)
            write = replace_write(condition=Condition(if_none_match=True))
            tries = [stores.objects.put(made_of(str(number)), write) for number in range(8)]
            done = await asyncio.gather(*tries, return_exceptions=True)
            assert sum(isinstance(one, Object) for one in done) == 1
            assert sum(isinstance(one, PreconditionFailed) for one in done) == 7

    async def test_a_bucket_that_is_absent(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            upload = Upload(id="u", bucket="photos", key="k", created_s=NOW_S)
            for missing in (
                stores.objects.put(made_of("1"), ROOM), stores.objects.get("photos", "k"),
                stores.objects.list_objects("photos", Selection()), stores.uploads.begin(upload),
                stores.objects.list_versions("photos", Selection()), stores.buckets.delete("photos"),
                stores.objects.delete("photos", "k", "", NOW_S, DELETE), stores.uploads.get("photos", "k", "u"),
                stores.uploads.list_uploads("photos", Selection()),
            ):  # fmt: skip
                with pytest.raises(FuyunError) as refusal:
                    await missing
                assert refusal.value.fields["reason"] == "NoSuchBucket"


def replace_write(**fields: Any) -> Write:
    """`ROOM` but for these."""
    values = {"operation": "put", "most_bytes": 2**40, **fields}
    return Write(**values)
