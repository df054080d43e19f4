"""The folders of builds: nothing that a sandbox left there is followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fuyun.domain.errors import BuildFailed
from fuyun.drivers.builds.rooms import discard, finish, new_room, read_output


def test_an_output_that_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.key"
    secret.write_text("hands off")
    room = new_room(tmp_path)
    lock = room.out / "lock.txt"
    lock.write_text("six==1.0\n")
    assert read_output(lock) == "six==1.0\n"
    lock.unlink()
    lock.symlink_to(secret)
    with pytest.raises(BuildFailed):
        read_output(lock)
    lock.unlink()
    os.mkfifo(lock)
    with pytest.raises(BuildFailed):
        read_output(lock)
    lock.unlink()
    with pytest.raises(BuildFailed):
        read_output(lock)
    with lock.open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(BuildFailed):
        read_output(lock)


def test_a_tree_is_measured_without_following_links(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * 100_000)
    room = new_room(tmp_path)
    (room.out / "link").symlink_to(large)
    finish(room.out, 1000)
    (room.out / "file").write_bytes(b"x" * 2000)
    with pytest.raises(BuildFailed, match="the limit is 1000"):
        finish(room.out, 1000)


def test_a_folder_goes_away_whatever_its_modes_and_links(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("")
    room = new_room(tmp_path)
    (room.out / "link").symlink_to(kept)
    (room.out / "shut").mkdir()
    (room.out / "shut" / "file").write_text("")
    (room.out / "shut").chmod(0)
    discard(room.path)
    assert not room.path.exists()
    assert (kept / "file").exists()
    discard(room.path)
