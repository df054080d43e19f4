"""Finding the host's interpreters: the real ones, and files that only look like one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fuyun.domain.errors import HostUnable
from fuyun.domain.runtimes import PYTHONS
from fuyun.drivers.instances.interpreters import Interpreters, probe
from fuyun.runtime import pythons
from tests.interpreters import BASE, NAME, make_interpreter


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
    finals = [item.version[:2] for item in working if item.final]
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
    with pytest.raises(HostUnable, match=r"no python3\.99; found: python3\.") as caught:
        found.by_runtime("python3.99")
    assert caught.value.fields["feature"] == "python3.99"


def test_probing_never_raises(tmp_path: Path) -> None:
    assert "does not start" in probe(tmp_path / "nothing").problem
    failing = tmp_path / "python3.9"
    shutil.copy("/bin/false", failing)
    assert "is broken" in probe(failing).problem


def test_an_optimised_build_serves_its_minor_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_interpreter(tmp_path / "plain", configure="'--enable-shared'")
    fast = make_interpreter(tmp_path / "fast", configure="'--enable-optimizations' '--with-lto'")
    monkeypatch.setenv("PATH", f"{tmp_path}/plain/bin:{tmp_path}/fast/bin")
    found = Interpreters()
    assert found.by_runtime(NAME).optimised
    # The plain one is found first and loses to it; a build that the host has may be newer and as good.
    own = [item for item in found.all() if item.executable.startswith(str(tmp_path))]
    assert [item.executable for item in own] == [str(fast), str(tmp_path / "plain" / "bin" / NAME)]
    assert [item.optimised for item in own] == [True, False]


@pytest.mark.parametrize("flag", ["-fprofile-use -fprofile-correction", "-fprofile-instr-use=code.profclangd"])
def test_a_profile_in_the_compilers_flags_counts(tmp_path: Path, flag: str) -> None:
    assert probe(make_interpreter(tmp_path / "by-hand", core_flags=f"-O3 {flag}")).optimised
    assert not probe(make_interpreter(tmp_path / "plain", core_flags="-O3")).optimised


def test_debians_program_is_optimised_though_its_configuration_is_that_of_the_library() -> None:
    debian = Path("/usr/bin/python3.11")
    if not debian.exists() or "Debian" not in Path("/etc/os-release").read_text():
        pytest.skip("this is not Debian 12, whose interpreter the rule is about")
    found = probe(debian)
    assert found.optimised
    assert not found.libpython


def test_each_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_interpreter(tmp_path / "fast", configure="--enable-optimizations")
    found = Interpreters(str(tmp_path / "fast"))
    first = found.by_path(path)
    asked: list[object] = []
    monkeypatch.setattr(subprocess, "run", lambda *a, **_: asked.append(a))
    assert found.by_path(path) is first
    assert asked == []


def test_the_order_of_preference() -> None:
    wanted = [
        (True, True, (3, 13, 1), True),
        (True, True, (3, 13, 0), True),
        (True, True, (3, 13, 5), False),
        (True, True, (3, 11, 9), True),
        (True, False, (3, 14, 0), True),
        (False, True, (0, 0, 0), False),
    ]
    found = [wanted[place] for place in (3, 5, 0, 2, 4, 1)]
    assert sorted(found, key=lambda item: pythons.order(*item)) == wanted


def test_the_names_are_those_of_the_runtimes() -> None:
    assert {"python3", *pythons.NAMES} == set(PYTHONS)


def test_builds_are_made_with_the_interpreter_that_functions_run_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build gets the path of `by_runtime` and asks for it again by that path; both name one installation."""
    make_interpreter(tmp_path / "plain")
    make_interpreter(tmp_path / "fast", configure="--enable-optimizations")
    monkeypatch.setenv("PATH", f"{tmp_path}/plain/bin:{tmp_path}/fast/bin")
    found = Interpreters()
    for runtime in ("python3", NAME):
        serves = found.by_runtime(runtime)
        assert found.by_path(Path(serves.executable)) is serves
