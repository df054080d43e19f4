"""Requirements texts: what is taken, what is refused and by what name."""

from __future__ import annotations

import pytest

from fuyun.domain.errors import BadRequest
from fuyun.domain.requirements import check_requirements, from_pyproject, lines_of, names_of


def test_comments_blank_lines_and_continuations_are_folded() -> None:
    text = "# top\n\nrequests>=2  # why\nsix==1.0 \\\n  --hash=sha256:00\nx @ https://e.org/x#sha256=1\n"
    assert lines_of(text) == ["requests>=2", "six==1.0    --hash=sha256:00", "x @ https://e.org/x#sha256=1"]
    assert names_of(text) == ["requests", "six", "x"]


@pytest.mark.parametrize(
    "line",
    [
        "requests",
        "Pillow>=11,<12",
        "uvicorn[standard]==0.30 ; python_version < '3.13'",
        "pkg @ https://example.org/pkg-1.0-py3-none-any.whl",
        "pkg @ git+https://example.org/pkg.git@v1",
        "https://example.org/pkg-1.0.tar.gz",
        "--index-url https://example.org/simple",
        "--no-binary=:all:",
    ],
)
def test_lines_that_are_taken(line: str) -> None:
    assert check_requirements(line) == f"{line}\n"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-r base.txt", "another file"),
        ("-rbase.txt", "another file"),
        ("--constraint c.txt", "another file"),
        ("-e .", "another file"),
        ("./wheels/x.whl", "local path"),
        ("/srv/x", "local path"),
        ("~/x", "local path"),
        ("x.tar.gz", "local path"),
        ("sub/folder", "local path"),
        ("file:///etc/passwd", "local path"),
        ("x @ file:///etc/passwd", "local path"),
        ("x @ ../x", "local path"),
        ("--trusted-host x", "--trusted-host"),
        ("--find-links /srv", "--find-links"),
        ("six --no-index", "--no-index"),
        ("a\0b", "NUL"),
    ],
)
def test_lines_that_are_refused(line: str, said: str) -> None:
    with pytest.raises(BadRequest, match=said) as caught:
        check_requirements(f"six\n{line}\n")
    assert caught.value.hint


def test_a_text_that_is_too_long_is_refused() -> None:
    with pytest.raises(BadRequest, match="characters long"):
        check_requirements("a\n" * 200_000)


def test_a_pyproject_gives_its_static_dependencies() -> None:
    assert from_pyproject('[project]\nname = "x"\ndependencies = ["six>=1", "requests"]\n') == "six>=1\nrequests\n"
    assert from_pyproject('[project]\nname = "x"\n') == ""
    assert from_pyproject("[tool.ruff]\n") == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[project", "p.toml"),
        ('[project]\ndynamic = ["dependencies"]\n', "dynamic"),
        ("[tool.poetry.dependencies]\nsix = '1'\n", "tool.poetry"),
        ("[project]\ndependencies = 'six'\n", "not a list"),
        ("[project]\ndependencies = ['-e .']\n", "another file"),
    ],
)
def test_a_pyproject_that_does_not_say(text: str, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        from_pyproject(text, "p.toml")
