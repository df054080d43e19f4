"""The shape of the source: layers, sizes, names, charters, and what the sandbox's side may import."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src/fuyun"
SOURCES = sorted(PACKAGE.rglob("*.py"))
EVERYTHING = [*SOURCES, *(p for folder in ("tests", "bench", "scripts") for p in sorted((ROOT / folder).rglob("*.py")))]

SANDBOX_SIDE = [p for p in SOURCES if p.relative_to(PACKAGE).parts[0] in ("runtime", "sdk")]

FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 60, 7
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "core", "manager", "managers", "models", "misc"}

#: path -> why it may be longer than FILE_LINES.
LONG_FILES: dict[str, str] = {
    "src/fuyun/wiring.py": "the one file that knows everything; its list of imports alone is a hundred lines",
}
#: path:function -> why it may be longer than FUNCTION_LINES.
LONG_FUNCTIONS: dict[str, str] = {
    "src/fuyun/wiring.py:_build": "everything is built here, in dependency order; one list reads better than its parts",
}
#: path:function -> why it may take more than PARAMETERS.
MANY_PARAMETERS: dict[str, str] = {
    "src/fuyun/services/invoking.py:begin": "the invoke path: a struct per request costs more than the call",
    "src/fuyun/services/dispatching.py:begin": "implements the invoke path's contract",
    "tests/transports/gateway/fakes.py:begin": "implements the invoke path's contract",
    "src/fuyun/ports/catalog.py:put_alias": "the contract of compare-and-set, keyword by keyword",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """The file, read once for all tests."""
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many values a caller thinks about: keyword options with a default (a CLI command's, say) do not count."""
    taken = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    optional = len(function.args.defaults)
    required_keywords = sum(default is None for default in function.args.kw_defaults)
    return len([name for name in taken if name not in ("self", "cls")]) - optional + required_keywords


def is_command(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A CLI command: typer reads its options from its signature."""
    return any("command" in ast.dump(decorator) for decorator in function.decorator_list)


def test_import_contracts_hold() -> None:
    command = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_contract_about_drivers_names_all_of_them() -> None:
    listed = set(re.findall(r"^ +fuyun\.drivers\.(\w+)$", (ROOT / ".importlinter").read_text(), re.MULTILINE))
    assert listed == {path.parent.name for path in (PACKAGE / "drivers").glob("*/__init__.py")}


#: What nobody edits again: a migration is one list of tables.
MIGRATIONS = PACKAGE / "drivers/sql/migrations"


def test_files_and_functions_stay_small() -> None:
    paths = [path for path in EVERYTHING if MIGRATIONS not in path.parents]
    assert [complaint for path in paths for complaint in oversize(path)] == []


def oversize(path: Path) -> Iterator[str]:
    """What is too large in a file."""
    lines = len(path.read_text(encoding="utf-8").splitlines())
    if lines > FILE_LINES and name_of(path) not in LONG_FILES:
        yield f"{name_of(path)} has {lines} lines: which room does each half belong in?"
    for function in functions(path):
        key = f"{name_of(path)}:{function.name}"
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        if length > FUNCTION_LINES and key not in LONG_FUNCTIONS:
            yield f"{key} has {length} lines"
        if parameters(function) > PARAMETERS and not is_command(function) and key not in MANY_PARAMETERS:
            yield f"{key} takes {parameters(function)} parameters: make it a struct"


def test_the_exceptions_are_still_needed() -> None:
    for key in (*LONG_FILES, *LONG_FUNCTIONS, *MANY_PARAMETERS):
        path, _, function = key.partition(":")
        assert (ROOT / path).exists(), key
        assert not function or function in {found.name for found in functions(ROOT / path)}, key


@pytest.mark.parametrize("folder", sorted({path.parent for path in SOURCES}), ids=name_of)
def test_every_package_has_a_charter(folder: Path) -> None:
    if {"templates", "migrations"} & set(folder.parts):  # projects that `fuyun init` writes; Alembic's scripts
        return
    charter = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    assert charter, f"{name_of(folder)}/__init__.py says nothing about what belongs there"
    assert len(charter) >= 30


def test_no_drawer_for_everything() -> None:
    found = [name_of(path) for path in EVERYTHING if {path.stem, *path.relative_to(ROOT).parts} & FORBIDDEN_NAMES]
    assert found == []


@functools.cache
def imported(path: Path) -> set[str]:
    """Every module a file imports, also inside functions and type-checking blocks."""
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno} imports relatively"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names if node.module == "fuyun")
    return found


def test_the_sandbox_side_needs_the_standard_library_only() -> None:
    for path in SANDBOX_SIDE:
        for module in imported(path):
            ours = module == "fuyun" or module.startswith(("fuyun.runtime", "fuyun.sdk"))
            assert ours or module.partition(".")[0] in sys.stdlib_module_names, f"{name_of(path)} imports {module}"


def test_the_sandbox_side_parses_on_python_3_9() -> None:
    for path in SANDBOX_SIDE:
        ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 9))


def test_only_wiring_and_the_command_line_read_settings() -> None:
    readers = {name_of(path) for path in SOURCES if "fuyun.settings" in imported(path)}
    allowed = {"src/fuyun/wiring.py"} | {name for name in readers if name.startswith("src/fuyun/cli/")}
    assert readers <= allowed


def test_nothing_calls_test_tools_or_mocks() -> None:
    for path in EVERYTHING:
        modules = imported(path)
        assert not any(module.startswith(("unittest.mock", "mock")) for module in modules), name_of(path)


def test_no_pipe_is_given_to_the_loop() -> None:
    """uvloop closes a pipe's descriptor twice, and by the second time a thread may have a file of that number."""
    given = [name_of(path) for path in SOURCES if re.search(r"connect_(read|write)_pipe", path.read_text("utf-8"))]
    assert given == []
