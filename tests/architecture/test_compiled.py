"""What is compiled (setup.py) stays fit for it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = ROOT / "src/fuyun"


def _compiled() -> tuple[str, ...]:
    """COMPILED of setup.py, without running it."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "COMPILED":
            found: tuple[str, ...] = ast.literal_eval(node.value)
            return found
    raise AssertionError("setup.py has no COMPILED")


MODULES = _compiled()


def test_they_exist_in_order() -> None:
    assert list(MODULES) == sorted(set(MODULES))
    assert [module for module in MODULES if not (SOURCE / f"{module}.py").is_file()] == []


@pytest.mark.parametrize("module", MODULES)
def test_no_class_has_keywords_or_a_base_that_compiling_would_lose(module: str) -> None:
    """mypyc drops class keywords without a word: a frozen struct would become one that is not."""
    for node in ast.walk(ast.parse((SOURCE / f"{module}.py").read_text())):
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base) for base in node.bases]
            assert not node.keywords, f"{node.name} has keywords: define it in a module that is not compiled"
            assert not any(base.endswith(("Struct", "Wire", "Enum")) for base in bases), (
                f"{node.name} is a {bases}: define it in a module that is not compiled"
            )


def test_nothing_that_runs_in_instances_is_compiled() -> None:
    """Instances run on interpreters of other versions, which cannot load what was compiled for the platform's."""
    assert not [module for module in MODULES if module.startswith(("runtime/", "sdk/"))]


def _imported(file: Path) -> set[str]:
    """What a module imports, wherever in it; names imported from a package may be modules themselves."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_an_installation_has_what_compiling_reads() -> None:
    """mypy follows imports from what is compiled, and fails where pip built a place without one of them."""
    waiting, seen, foreign = {f"fuyun.{module.replace('/', '.')}" for module in MODULES}, set[str](), set[str]()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        module = ROOT / "src" / name.replace(".", "/")
        for file in (module.with_suffix(".py"), module / "__init__.py"):
            imported = _imported(file) if file.is_file() else set()
            waiting |= {found for found in imported if found.startswith("fuyun.")} - seen
            foreign |= {top for found in imported if (top := found.split(".")[0]) not in sys.stdlib_module_names}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["build-system"]["requires"]
    spared = [one["module"] for one in project["tool"]["mypy"]["overrides"] if one.get("ignore_missing_imports")]
    absent = {name.removesuffix(".*") for names in spared for name in ([names] if isinstance(names, str) else names)}
    named = {re.split("[<>=]", requirement)[0] for requirement in wanted}
    assert {"msgspec", "structlog"} <= foreign, "the imports were followed"
    assert foreign - {"fuyun"} - absent - named == set(), "pyproject.toml, build-system.requires"
