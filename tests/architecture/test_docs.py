"""What users read is true: links resolve, commands exist, generated pages are current."""

from __future__ import annotations

import re
import shlex
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from scripts import docs

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def page_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.*?) *$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_resolve(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        place, _, anchor = target.partition("#")
        found = (page.parent / place).resolve() if place else page
        assert found.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in anchors(found), f"{target} names no heading"


def commands(page: Path) -> list[list[str]]:
    """Every `fuyun ...` line in a fenced block, as words."""
    found: list[list[str]] = []
    for block in FENCE.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"\s(?:\||&&|;)\s", line.strip().removeprefix("$ ")):
                found += [shlex.split(part, comments=True)[1:]] if part.startswith("fuyun ") else []
    return found


@cache
def application() -> Any:
    """The command tree."""
    return typer.main.get_command(docs.application())


def resolve(words: list[str]) -> None:
    """Follow the words through the command tree; AssertionError at the first that does not exist."""
    command = application()
    rest = list(words)
    while getattr(command, "commands", None) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        assert name in command.commands, f"fuyun {' '.join(words)}: no command {name!r}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "--version", "--install-completion", "--show-completion"}
    for word in rest:
        if word == "--":
            break
        if word.startswith("-") and word != "-":
            assert word.partition("=")[0] in known, f"fuyun {' '.join(words)}: no option {word}"


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=page_name)
def test_documented_commands_exist(page: Path) -> None:
    for words in commands(page):
        resolve(words)


def test_a_command_that_does_not_exist_is_noticed() -> None:
    with pytest.raises(AssertionError):
        resolve(["frobnicate"])
    with pytest.raises(AssertionError):
        resolve(["deploy", "--frobnicate"])


@pytest.mark.parametrize("page", docs.PAGES, ids=lambda page: page)
def test_generated_pages_are_current(page: str) -> None:
    kept = ROOT / "docs/reference" / page
    assert kept.exists(), "run `make docs`"
    assert kept.read_text(encoding="utf-8") == docs.PAGES[page](), "run `make docs`"


def test_every_command_is_documented() -> None:
    for words, command in docs.walk(typer.main.get_command(docs.application())):
        assert command.help, f"fuyun {' '.join(words)} has no help"
        for parameter in command.params:
            known = getattr(parameter, "help", "") or getattr(parameter, "hidden", False) or parameter.name == "help"
            assert known, f"fuyun {' '.join(words)}: {parameter.name} has no help"


def blocks(language: str) -> list[str]:
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [block for page in PAGES for block in pattern.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("block", blocks("yaml"))
def test_yaml_in_the_docs_parses(block: str) -> None:
    assert yaml.safe_load(block) is not None


@pytest.mark.parametrize("block", blocks("python"))
def test_python_in_the_docs_compiles(block: str) -> None:
    compile(block, "docs", "exec")


def test_the_readme_shows_both_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in text
    assert "make test" in text


def test_documented_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        for block in FENCE.findall(page.read_text(encoding="utf-8")):
            for target in re.findall(r"^\$? ?make ([a-z]+)", block, re.MULTILINE):
                assert target in targets, f"{page_name(page)}: make {target}"


def test_python_is_the_one_the_docs_ask_for() -> None:
    assert sys.version_info >= (3, 11)
    assert "3.11" in (ROOT / "README.md").read_text(encoding="utf-8")
