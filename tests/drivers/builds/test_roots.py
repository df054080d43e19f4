"""The root of an unpacked image: nothing in it leads out, whatever it holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fuyun.domain.errors import BuildFailed
from fuyun.drivers.blobs import trees
from fuyun.drivers.builds import roots


def made(folder: Path) -> Path:
    root = folder / "root"
    for name in ("a/b", "etc", "dev/pts", "usr/bin"):
        (root / name).mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\napp:x:123:45::/:\nbroken:x:no:1::/:\nshort:x\n")
    (root / "etc/group").write_text("staff:x:50:\nbad:x:x:\n")
    return root


def link(root: Path, name: str, target: str) -> str:
    (root / name).symlink_to(target)
    roots.clean(root)
    return os.readlink(root / name)


@pytest.mark.parametrize(
    ("name", "target", "inward"),
    [
        ("a/b/l", "/etc/passwd", "../../etc/passwd"),
        ("l", "/etc", "etc"),
        ("l", "/", "."),
        ("a/b/l", "/", "../.."),
        ("a/b/l", "../../../../etc/passwd", "../../etc/passwd"),
        ("a/b/l", "../x", "../x"),
        ("l", "../../../../../../etc/shadow", "etc/shadow"),
        ("a/l", "/../../etc//./passwd", "../etc/passwd"),
    ],
)
def test_links_mean_inside_what_they_meant_in_the_image(tmp_path: Path, name: str, target: str, inward: str) -> None:
    root = made(tmp_path)
    assert link(root, name, target) == inward
    trees.settle(root)


def test_a_link_that_climbs_out_on_its_way_is_refused_by_the_store(tmp_path: Path) -> None:
    from fuyun.domain.errors import BadRequest

    root = made(tmp_path)
    link(root, "l", "usr/../../../etc/shadow")
    with pytest.raises(BadRequest, match="outside its tree"):
        trees.settle(root)


def test_pipes_go_and_closed_folders_open(tmp_path: Path) -> None:
    root = made(tmp_path)
    os.mkfifo(root / "a/pipe")
    (root / "a/b/file").write_text("x")
    (root / "a/b").chmod(0o100)
    roots.clean(root)
    assert sorted(path.name for path in (root / "a").rglob("*")) == ["b", "file"]
    assert (root / "a/b").stat().st_mode & 0o777 == 0o755


def test_the_instance_s_own_places_are_there(tmp_path: Path) -> None:
    root, outside = made(tmp_path), tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (root / "tmp").symlink_to(outside)
    (root / "proc").write_text("a file")
    (root / "etc/hosts").symlink_to(outside / "kept")
    (root / "dev/null").write_text("no device")
    roots.furnish(root)
    assert [os.listdir(root / name) for name in ("dev", "proc", "sys", "tmp", "run")] == [[]] * 5
    assert not (root / "etc/hosts").is_symlink()
    assert os.listdir(outside) == ["kept"]


@pytest.mark.parametrize(
    ("user", "ids"),
    [("", (None, None)), ("app", (123, 45)), ("123", (123, 45)), ("7", (7, 0)), ("7:8", (7, 8)),
     ("app:staff", (123, 50)),
     ("0", (0, 0)), ("root:7", (0, 7))],
)  # fmt: skip
def test_users_are_numbers_or_names_of_the_image(tmp_path: Path, user: str, ids: tuple[int | None, int | None]) -> None:
    assert roots.user_of(made(tmp_path), user) == ids


@pytest.mark.parametrize("user", ["nobody-here", "broken", "app:bad", "app:nogroup", "4294967295", "-1", ":staff"])
def test_users_that_are_not_there_are_named(tmp_path: Path, user: str) -> None:
    with pytest.raises(BuildFailed, match="the image's user is"):
        roots.user_of(made(tmp_path), user)


def test_the_working_directory_is_made_inside(tmp_path: Path) -> None:
    root = made(tmp_path)
    (root / "way").symlink_to("a")
    (tmp_path / "outside").mkdir()
    assert roots.folder_in(root, "/") == "/"
    assert roots.folder_in(root, "/way/new/deep") == "/a/new/deep"
    assert roots.folder_in(root, "/a/../usr") == "/usr"
    (root / "out").symlink_to(tmp_path / "outside")
    for path, said in (
        ("/out/x", "leads out"),
        ("/../x", "leads out"),
        ("relative", "working directory"),
        ("/etc/passwd", "a file"),
    ):
        with pytest.raises(BuildFailed, match=said):
            roots.folder_in(root, path)
    assert os.listdir(tmp_path / "outside") == []


def test_what_a_sandbox_left_is_read_only_as_a_plain_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("{}")
    folder = tmp_path / "layout"
    (folder / "blobs").mkdir(parents=True)
    (folder / "index.json").write_text("[]")
    (folder / "link.json").symlink_to(tmp_path / "secret")
    (folder / "way").symlink_to(tmp_path)
    assert roots.read(folder, "index.json") == b"[]"
    for name in ("link.json", "way/secret", "blobs"):
        with pytest.raises((OSError, ValueError)):
            roots.read(folder, name)
