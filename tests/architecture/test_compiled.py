"""What is compiled (setup.py) stays fit for it."""

from __future__ import annotations

import ast
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
