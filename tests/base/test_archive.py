"""Packing is deterministic and keeps out what it should; unpacking survives garbage."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuyun.base.archive import ArchiveTooLarge, Unpackable, UnsafeArchive, list_files, pack, unpack


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def names(folder: Path, ignore: tuple[str, ...] = ()) -> list[str]:
    return [name for name, _ in list_files(folder, ignore)]


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    write(one, "b.py", "a/x.py", "a.py", "é.txt")
    write(two, "é.txt", "a.py", "a/x.py", "b.py")
    os.utime(two / "a.py", (0, 0))
    (two / "b.py").chmod(0o666)
    (two / "empty").mkdir()
    assert pack(one) == pack(two)
    (two / "b.py").chmod(0o755)
    assert pack(one) != pack(two)


def test_ignore_files(tmp_path: Path) -> None:
    write(tmp_path, "app.py", ".git/config", "a/__pycache__/x.pyc", "x.pyc", ".venv/bin/python", ".env", "data/a.bin")
    assert names(tmp_path) == [".env", "app.py", "data/a.bin"]
    assert names(tmp_path, ("data/",)) == [".env", "app.py"]
    (tmp_path / ".gitignore").write_text("# generated\n*.bin\n")
    assert names(tmp_path) == [".env", ".gitignore", "app.py"]
    (tmp_path / ".fuyunignore").write_text(".*\n!data/\n")
    assert names(tmp_path) == ["app.py", "data/a.bin"]
    (tmp_path / ".fuyunignore").write_text("data/*\n!data/a.bin\n!.git/\n")
    assert ".git/config" not in names(tmp_path)
    assert "data/a.bin" in names(tmp_path)


def test_links(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    write(folder, "shared/lib.py", "app.py")
    write(tmp_path, "secret")
    (folder / "lib.py").symlink_to("shared/lib.py")
    (folder / "again").symlink_to("shared")
    assert names(folder) == ["again/lib.py", "app.py", "lib.py", "shared/lib.py"]
    (folder / "loop").symlink_to("..", target_is_directory=True)
    with pytest.raises(Unpackable, match="outside the folder"):
        pack(folder)
    (folder / "loop").unlink()
    (folder / "shared" / "self").symlink_to("../shared")
    with pytest.raises(Unpackable, match="it lies in"):
        pack(folder)
    (folder / "shared" / "self").unlink()
    (folder / "out").symlink_to(tmp_path / "secret")
    with pytest.raises(Unpackable, match="outside the folder"):
        pack(folder)
    assert "out" not in names(folder, ("out",))
    (folder / "out").unlink()
    (folder / "broken").symlink_to("nowhere")
    with pytest.raises(Unpackable, match="broken link"):
        pack(folder)


def test_what_cannot_be_packed_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unpackable, match="no files"):
        pack(tmp_path)
    with pytest.raises(Unpackable, match="not a folder"):
        pack(tmp_path / "none")
    write(tmp_path, "file")
    with pytest.raises(Unpackable, match="not a folder"):
        pack(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Unpackable, match="pipe is neither"):
        pack(tmp_path)
    (tmp_path / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        with pytest.raises(Unpackable, match="sock is neither"):
            pack(tmp_path)
    (tmp_path / "sock").unlink()
    bad = os.fsencode(tmp_path) + b"/\xff.py"
    with open(bad, "wb"):
        pass
    with pytest.raises(Unpackable, match="UTF-8"):
        pack(tmp_path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_archive_is_refused_or_unpacks_inside(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever bytes are flipped: UnsafeArchive, ArchiveTooLarge or a tree below the target; never another error."""
    base = tmp_path_factory.mktemp("fuzz")
    write(base / "source", "a/b.py", "c.txt", "d/e/f.bin")
    archive = bytearray(pack(base / "source"))
    for _ in range(data.draw(st.integers(1, 6))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    target = base / "target"
    target.mkdir()
    (base / "archive").write_bytes(archive)
    try:
        unpack(base / "archive", target, 2**20)
    except (UnsafeArchive, ArchiveTooLarge):
        pass
    assert sorted(path.name for path in base.iterdir()) == ["archive", "source", "target"]
    assert not any(path.is_symlink() for path in target.rglob("*"))
