"""Which interpreter `scripts/setup.sh` makes .venv with, chosen among real ones that differ in how they were built."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.interpreters import make_interpreter

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "interpreter.sh"


def chosen(*folders: Path) -> tuple[str, str]:
    """What the script prints and says with these folders first on PATH."""
    path = ":".join([*map(str, folders), "/bin"])
    done = subprocess.run(["/bin/bash", str(SCRIPT)], env={"PATH": path}, capture_output=True, text=True, check=True)
    return done.stdout.strip(), done.stderr


def test_an_optimised_build_comes_before_one_that_is_found_earlier(tmp_path: Path) -> None:
    plain = make_interpreter(tmp_path / "plain", configure="--enable-shared")
    fast = make_interpreter(tmp_path / "fast", configure="--enable-shared --enable-optimizations")
    assert chosen(plain.parent, fast.parent) == (str(fast), "")
    assert chosen(fast.parent, plain.parent) == (str(fast), "")


def test_the_first_on_path_is_taken_among_equals(tmp_path: Path) -> None:
    one = make_interpreter(tmp_path / "one", configure="--enable-optimizations")
    two = make_interpreter(tmp_path / "two", configure="--enable-optimizations")
    assert chosen(one.parent, two.parent)[0] == str(one)
    assert chosen(two.parent, one.parent)[0] == str(two)


def test_one_that_cannot_make_environments_is_passed_over(tmp_path: Path) -> None:
    bare = make_interpreter(tmp_path / "bare", configure="--enable-optimizations", without="ensurepip")
    fast = make_interpreter(tmp_path / "fast", configure="--enable-optimizations")
    found, said = chosen(bare.parent, fast.parent)
    assert found == str(fast)
    assert said == f"{bare} has no venv module; looking for another.\n"


def test_what_does_not_start_or_is_too_old_is_no_candidate(tmp_path: Path) -> None:
    shims = tmp_path / "shims"
    shims.mkdir()
    for name, text in (("python3.13", "exit 127"), ("python3.12", "exit 1")):
        (shims / name).write_text(f"#!/bin/sh\n{text}\n")
        (shims / name).chmod(0o755)
    fast = make_interpreter(tmp_path / "fast", configure="--enable-optimizations")
    assert chosen(shims, fast.parent)[0] == str(fast)
