"""Contents in a folder keep their port's contract; a crash leaves nothing behind that is not whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuyun.domain.errors import StorageFull
from fuyun.drivers.contents.folder import FolderContents
from fuyun.testing.contracts.contents import ContentStoreContract, digests, stored


class TestFolderContents(ContentStoreContract):
    def open(self, folder: Path) -> FolderContents:
        return FolderContents.open_root(folder / "contents")


@pytest.mark.anyio
async def test_what_a_crash_left_under_way_is_swept(tmp_path: Path) -> None:
    contents = FolderContents.open_root(tmp_path)
    kept = await stored(contents, b"kept")
    (tmp_path / ".tmp" / "torn").write_bytes(b"half of it")
    again = FolderContents.open_root(tmp_path)
    assert list((tmp_path / ".tmp").iterdir()) == []
    assert await digests(again) == {kept.digest}


@pytest.mark.anyio
@pytest.mark.parametrize("small_disk", ["6m"], indirect=True)
async def test_a_full_disk_refuses_what_does_not_fit_and_keeps_the_rest(small_disk: Path) -> None:
    contents = FolderContents.open_root(small_disk / "contents")
    kept = await stored(contents, b"a" * 2**20)
    with pytest.raises(StorageFull) as refusal:
        await stored(contents, b"b" * (8 * 2**20))
    assert "free space" in refusal.value.hint
    assert list((small_disk / "contents" / ".tmp").iterdir()) == []
    assert await digests(contents) == {kept.digest}
    await stored(contents, b"c" * 2**20)
