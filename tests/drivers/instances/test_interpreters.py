"""Finding the host's interpreters: the real ones, and files that only look like one."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from fuyun.domain.errors import HostUnable
from fuyun.drivers.instances.interpreters import Interpreters, probe

BASE = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))


def test_the_platforms_own_interpreter_is_found_and_described() -> None:
    found = Interpreters()
    own = next(item for item in found.all() if item.executable == str(BASE))
    assert own.works
    assert own.version == sys.version_info[:3]
    assert own.cache_tag == sys.implementation.cache_tag
    assert Path(own.stdlib, "os.py").is_file()
    assert Path(own.dynload).is_dir()
    assert own.soabi.startswith("cpython-")
    for path in (own.executable, own.stdlib, own.dynload):
        assert any(path == mount or path.startswith(mount + "/") for mount in own.mounts)
    assert found.by_runtime(own.runtime).version[:2] == own.version[:2]


def test_each_is_listed_once_and_the_newest_comes_first() -> None:
    found = Interpreters()
    working = [item for item in found.discover() if item.works]
    assert len({item.executable for item in working}) == len(working)
    finals = [item.version for item in working if item.final]
    assert finals == sorted(finals, reverse=True)
    assert found.newest() == found.by_runtime("python3") == working[0]


def test_a_folder_of_the_settings_is_searched_and_links_are_followed(tmp_path: Path) -> None:
    name = f"python3.{sys.version_info[1]}"
    (tmp_path / name).symlink_to(BASE)
    found = Interpreters(str(tmp_path))
    assert [item.executable for item in found.all()].count(str(BASE)) == 1
    assert found.by_path(tmp_path / name).executable == str(BASE)


def test_broken_ones_are_told_apart_and_do_not_serve(tmp_path: Path) -> None:
    shutil.copy("/bin/true", tmp_path / "python3.14")  # a program, but no interpreter
    (tmp_path / "python3.13").write_text("#!/bin/sh\nexec python3\n")  # what version managers put on PATH
    (tmp_path / "python3.13").chmod(0o755)
    found = Interpreters(str(tmp_path))
    listed = {item.executable: item for item in found.all()}
    assert not listed[str(tmp_path / "python3.14")].works
    assert listed[str(tmp_path / "python3.14")].problem
    assert str(tmp_path / "python3.13") not in listed
    with pytest.raises(HostUnable):
        found.by_path(tmp_path / "python3.14")


def test_a_runtime_that_is_not_there_lists_what_is() -> None:
    found = Interpreters()
    have = {item.runtime for item in found.all() if item.works}
    missing = next((name for name in (f"python3.{n}" for n in range(14, 8, -1)) if name not in have), None)
    if missing is None:
        pytest.skip("every supported interpreter is installed")
    with pytest.raises(HostUnable, match=rf"no {missing}; found: python3\.") as caught:
        found.by_runtime(missing)
    assert caught.value.fields["feature"] == missing


def test_probing_never_raises(tmp_path: Path) -> None:
    assert "does not start" in probe(tmp_path / "nothing").problem
    failing = tmp_path / "python3.9"
    shutil.copy("/bin/false", failing)
    assert "is broken" in probe(failing).problem
