"""Start-up stays quick because of what it does not import; a clock would only measure the machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = [
    *(
        "rich",
        "httpx",
        "httpcore",
        "ssl",
        "asyncio",
        "uvloop",
        "uvicorn",
        "starlette",
        "structlog",
        "prometheus_client",
    ),
    *("sqlalchemy", "alembic", "cryptography", "pydantic", "msgspec", "yaml"),
]


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (["--version"], ["typer", "inspect", "fuyun.client"]),
        (["--help"], []),
        (["fn", "list", "--help"], ["fuyun.cli.deploy", "fuyun.client"]),
        (["up", "--help"], ["fuyun.wiring", "fuyun.settings"]),
        (["deploy", "--help"], ["fuyun.client"]),
    ],
)
def test_start_up_imports_nothing_heavy(words: list[str], more: list[str]) -> None:
    code = (
        f"import sys; from fuyun.cli.main import main; assert main({words!r}) == 0; print('', *sys.modules, sep='\\n ')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded & {*HEAVY, *more} == set()


def test_a_command_that_asks_a_platform_loads_no_more_than_it_needs() -> None:
    code = (
        "import sys; from fuyun.cli.main import main; assert main(['fn', 'list']) == 1; "
        "print('', *sys.modules, sep='\\n ')"
    )
    env = {**os.environ, "FUYUN_API": "http://127.0.0.1:1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    loaded = set(done.stdout.split())
    assert "httpx" in loaded
    assert loaded & {"rich", "click", "asyncio", "fuyun.domain.filters", "fuyun.decide", "jsonpath"} == set()
